"""Bundles and predictions: by file what the run itself predicted, of long files, stacks, faults."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stacked

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.rows import OutOfFold, members_of
from orchestrator.members.seen import Members, Targets
from orchestrator.models import bundle, sound
from orchestrator.models.bundle import export
from orchestrator.models.files import predict_command
from orchestrator.models.inference import Models, Predictor
from orchestrator.models.sound import join, windows
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.plan.stage import Manner
from orchestrator.plan.variants import decision_variants, variants_of
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.test_part import score_test_once
from orchestrator.stacking.families import learner
from orchestrator.stacking.stage import fit_stage
from orchestrator.tracking.about import label
from orchestrator.tracking.experiment import experiment_name
from orchestrator.tracking.sync import sync
from orchestrator.tracking.views import read_views
from orchestrator.training.final import run_final
from orchestrator.training.trial import Job
from systems.context import Context
from systems.data.dataset import Event
from systems.data.splits import training_data
from systems.data.store import load_mono, open_store
from systems.errors import UserError
from systems.postprocessing.decoding import Decoding, decode
from systems.predictions import Predictions

TINY = {
    "network.width": 8, "network.recurrent_units": 8, "training.steps_per_epoch": 12,
    "training.learning_rate": 0.01, "front_end.window": 1024, "front_end.hop": 664,
    "front_end.bands": 64, "training.labelled": 15, "training.unlabelled": 5,
}  # fmt: skip
PARAMS: list[dict[str, Any]] = [{}, {"network.blocks": 2}, {"vat.weight": 0.5}]
MEMBERS = (1, 0)  # the best first
MODELS = ("best", "best:SALR_train", "trial:0", "logreg", "genetic")


@pytest.fixture(scope="module")
def run(task4_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run as it is after the test part was scored; the search is made up, the refits are not."""
    run = RunDir(tmp_path_factory.mktemp("root") / "tiny")
    options = Options("search", "gcrnn_vat", data=str(task4_folder), name="tiny", budget="quick",
                      max_epochs=4, set=TINY, top_k=2, gpus_per_trial=0,
                      stack="logreg,genetic", final="refit")  # fmt: skip
    plan, dataset, splits = make_plan(options)
    run.write_plan(plan)
    store = open_store(
        dataset, [c.clip_id for c in dataset.clips], 16_000, run.root / "store",
        lambda function, items: map(function, items),
    )  # fmt: skip
    test = tuple(clip.clip_id for clip in dataset.part(dataset.test_part))
    refit = training_data(dataset, splits, None, plan.metric)
    with run.drive():
        job = Job(str(run.path), run.generation, plan, (), refit, {16_000: store}, test, "cpu")
        for number, params in enumerate(PARAMS):
            write_json(run.trial(number).config, {"params": params})
            write_json(run.trial(number).result, {"value": 0.5})
        for place, number in enumerate(MEMBERS):
            variants = variants_of(plan, decision_variants(plan), place)
            run_final(job, number, 4, variants)
        write_json(run.members, {"members": [{"trial": number} for number in MEMBERS]})
        rows = make_rows(run, plan)
        fit_stage(run, rows, Stop(), Progress())
        score_test_once(run, dataset, store, rows)
    return run


def make_rows(run: RunDir, plan: Plan) -> OutOfFold:
    """Out-of-fold scores near the targets, from nothing."""
    generator = np.random.default_rng(0)
    clips = tuple(f"clip {i}" for i in range(60))
    targets = (generator.random((60, len(plan.classes))) < 0.3).astype(np.float64)
    scores = 0.15 + 0.1 * targets[:, None] + 0.05 * generator.random((60, 2, len(plan.classes)))
    members = members_of(run, MEMBERS)
    frames = tuple(tuple(np.stack([row] * 5) for row in scores[:, m]) for m in range(2))
    seen = Members(
        tuple(member.name for member in members), clips, plan.classes, scores, frames=frames,
        frame_hops=(0.2, 0.2), durations=(1.0,) * 60,
    )  # fmt: skip
    return OutOfFold(members, seen, Targets.of(targets), (3, 3))


@pytest.fixture(scope="module")
def bundles(run: RunDir, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return {model: export(run, folder / model.replace(":", "_"), model=model) for model in MODELS}


@pytest.fixture(scope="module")
def best(bundles: dict[str, Path]) -> Predictor:
    return Predictor.load(bundles["best"])


def test_files(run: RunDir, task4_folder: Path) -> list[Path]:
    folder = task4_folder / "dataset" / "audio"
    return [folder / f"{clip_id}" for clip_id in stored(run, "best").clip_ids]


test_files.__test__ = False  # type: ignore[attr-defined]


def stored(run: RunDir, model: str) -> Predictions:
    """What the run itself predicted."""
    if model in ("logreg", "genetic"):
        return Predictions.load(run.stack(model) / "test.npz")
    number = MEMBERS[0] if model.startswith("best") else MEMBERS[1]
    variant = "SALR_train" if model == "best:SALR_train" else "no refinement"
    return Predictions.load(run.trial(number).test_predictions(variant))


@pytest.mark.parametrize("model", MODELS)
def test_files_get_what_the_run_predicted(
    run: RunDir, bundles: dict[str, Path], task4_folder: Path, model: str
) -> None:
    found = Predictor.load(bundles[model]).predict_files(test_files(run, task4_folder))
    expected = stored(run, model)
    scores = np.array([list(one.tags.values()) for one in found])
    assert np.abs(scores - expected.clip_scores).max() < 1e-5
    assert all(tuple(one.tags) == expected.classes for one in found)
    if expected.events is None:
        return
    events = [tuple(event[:3] for event in one.events) for one in found]
    assert events == [tuple(map(tuple, clip)) for clip in expected.events]
    assert any(events) or model != "best:SALR_train"


def test_a_stack_has_the_first_members_events_of_the_tags_that_it_holds_for_present(
    run: RunDir, bundles: dict[str, Path], task4_folder: Path
) -> None:
    stack = Predictor.load(bundles["genetic"])
    low = {"thresholds": [0.05] * 10, "medians": [1] * 10}
    decided = replace(stack.members[0], main=(stack.members[0].first.with_decision(low),))
    first = replace(stack, members=(decided, stack.members[1]))
    files = test_files(run, task4_folder)
    alone = replace(first, members=first.members[:1], learner=None).predict_files(files)
    together = first.predict_files(files)
    for one, both in zip(alone, together, strict=True):
        assert both.events == tuple(e for e in one.events if both.tags[e.label] > 0.5)
    assert 0 < sum(len(p.events) for p in together) < sum(len(p.events) for p in alone)


def test_a_bundle_says_what_it_is_and_needs_no_run(run: RunDir, bundles: dict[str, Path]) -> None:
    about = read_json(bundles["logreg"] / "bundle.json")
    plan = run.plan
    assert [member["trial"] for member in about["members"]] == list(MEMBERS)
    assert about["members"][0]["config"]["network"]["blocks"] == 2
    assert about["learner"] == "logreg"
    assert (about["classes"], about["rate"]) == (list(plan.classes), 16_000)
    assert about["run"] == {"name": "tiny", "id": plan.run_id}
    rows = {row["learner"]: row for row in read_json(run.scores)["rows"]}
    assert about["test"]["metrics"] == rows["logreg"]["metrics"]
    refined = read_json(bundles["best:SALR_train"] / "bundle.json")
    assert refined["members"][0]["config"]["refinement"]["on"] == "labelled"
    names = {str(p.relative_to(bundles["logreg"])) for p in bundles["logreg"].rglob("*.*")}
    members = {f"members/{n}/refit/model.{end}" for n in (0, 1) for end in ("json", "safetensors")}
    assert names == {"bundle.json", "learner/learner.json", *members}


def test_a_bundle_is_whole_or_not_there(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken exists"):
        export(run, tmp_path / "taken")

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(bundle, "write_json", fail)
    with pytest.raises(OSError, match="full"):
        export(run, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_what_is_no_bundle_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle\.json"):
        Predictor.load(tmp_path)
    newer = Path(shutil.copytree(bundles["best"], tmp_path / "newer"))
    write_json(newer / "bundle.json", {**read_json(newer / "bundle.json"), "format": 99})
    with pytest.raises(UserError, match="format 99"):
        Predictor.load(newer)
    with pytest.raises(UserError, match="unknown device 'cdua'"):
        Predictor.load(bundles["best"], "cdua")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("trial:2", "unknown model .*'trial:2'.*trial:0"),
        ("logref", "did you mean 'logreg'"),
        ("best:SALR_dev", "unknown model"),  # only where it was asked for
    ],
)
def test_unknown_models(run: RunDir, tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(run, tmp_path / "bundle", model=model)


@pytest.mark.parametrize(
    ("gone", "model", "message"),
    [
        ("members.json", "best", "its search has not ended"),
        ("trials/00001/refit", "best", "trial 1 has no final model"),
        ("trials/00000/refit", "genetic", "trial 0 has no final model"),
        ("stack/logreg", "logreg", "logreg has not been fitted"),
        ("plan.json", "best", "no run"),
    ],
)
def test_an_unfinished_run_says_what_is_missing(
    run: RunDir, tmp_path: Path, gone: str, model: str, message: str
) -> None:
    copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "copy")))
    path = copy.path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=message) as caught:
        export(copy, tmp_path / "bundle", model=model)
    assert gone == "plan.json" or f"--resume {copy.path}" in str(caught.value)


# Long sound


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Noise [C, S] whose colour changes."""
    generator = np.random.default_rng(1)
    sound = 0.1 * generator.standard_normal((channels, round(seconds * rate)))
    return sound * (1 + np.sin(np.arange(sound.shape[1]) / rate)) + np.roll(sound, 1)


def test_a_long_file_is_the_mean_of_its_windows_at_any_rate(
    best: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(35, 44_100, 2).T, 44_100)
    samples, rate = soundfile.read(path, dtype="float32")
    member = best.members[0].first
    mono = load_mono(samples.T, rate, 16_000)
    step = 12  # frames: half of 16000 samples in hops of 664
    starts = range(0, len(mono) - 16_000 + step * 664, step * 664)
    cuts = [mono[start : start + 16_000] for start in starts]
    clips, frames = member.score(cuts, Context())
    total, weight = np.zeros((900, 10)), np.zeros((900, 1))
    for place, scores in enumerate(frames):
        for t, row in enumerate(scores):
            w = min(t + 0.5, len(scores) - t - 0.5)
            total[place * step + t] += w * row
            weight[place * step + t] += w
    whole = (total / np.maximum(weight, 1e-9))[: int(np.ceil(35 * 16_000 / 664))]
    middle = {"thresholds": np.median(whole, axis=0).tolist(), "medians": [9] * 10}
    decided = replace(best, members=(Models((member.with_decision(middle),), {}),))

    monkeypatch.setattr(sound, "BLOCK", 50_001)
    found = decided.predict_files([path])[0]
    assert found.duration == 35.0
    assert np.abs(np.array(list(found.tags.values())) - clips.max(axis=0)).max() < 1e-5
    decoding = Decoding(tuple(middle["thresholds"]), (9,) * 10)
    expected = decode(whole.astype(np.float32), decoding, best.classes, 664 / 16_000, 35.0)
    assert [event[:3] for event in found.events] == [tuple(event) for event in expected]
    assert len(found.events) > 10
    assert decided.predict_waveform(samples.T, rate, str(path)) == found


@dataclass(frozen=True)
class Loudness:
    """A system that hears one class: a frame's score is its mean amplitude. One second, 10 ms."""

    rate: int = 8000
    samples: int = 8000
    frame_hop: float = 0.01

    def score(self, waveforms: Any, context: Any) -> tuple[np.ndarray, np.ndarray]:
        assert max(map(len, waveforms)) <= self.samples
        rows = [np.pad(w, (0, self.samples - len(w))) for w in waveforms]
        frames = np.abs(np.stack(rows)).reshape(len(rows), -1, 80).mean(axis=2)[..., None]
        return frames.max(axis=1), frames

    def timed(self, frames: np.ndarray, duration: float) -> tuple[np.ndarray, tuple[Event, ...]]:
        kept = frames[: int(np.ceil(duration / self.frame_hop))]
        return kept, decode(kept, Decoding.plain(1), ["loud"], self.frame_hop, duration)


def loud() -> Predictor:
    about = {"classes": ["loud"], "label_kind": "tags", "mean_of_folds": "arithmetic",
             "members": [{"trial": 0}]}  # fmt: skip
    return Predictor(about, (Models((Loudness(),), {}),), None, Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.01, 1.5, 7.77])
def test_events_over_cuts_stay_whole_and_nothing_is_lost(seconds: float) -> None:
    sound = np.full((1, round(seconds * 8000)), 0.2, np.float32)
    sound[:, 800:-400] = 0.9
    sound[:, -480:-400] = 0.6  # its last frame
    frames = (sound.size - 1200) / 80
    found = loud().predict_waveform(sound, 8000)
    (event,) = found.events
    assert event[:2] == (pytest.approx(0.1), pytest.approx(seconds - 0.05))
    assert event.score == pytest.approx(0.9 - 0.3 / frames)
    assert found.tags["loud"] == pytest.approx(0.9)
    assert found.present() == ("loud",)


def test_snapshots_of_the_only_folds_training_are_heard() -> None:
    """One official fold: the fold's one model predicts, not a refit."""
    members, targets = stacked.epochs(0)
    assert members.epochs is not None
    one = {epoch: scores[:, :1] for epoch, scores in members.epochs[0].items()}
    seen = replace(members, scores=members.scores[:, :, :1], epochs=(one,), classes=("loud",),
                   fold=np.zeros(len(targets.values), int))  # fmt: skip
    manner = Manner(by_fold=True, folds_predict=True)
    made = learner("snapshot_mean", None, manner)
    made.fit(seen, replace(targets, values=targets.values[:, :1]), 0)
    chosen = made.snapshots()[0, 0]
    models = Models((Loudness(),), {(0, epoch): Loudness() for epoch in chosen}, of_folds=True)  # type: ignore[arg-type, dict-item]
    predictor = Predictor(loud().about, (models,), made, Context())
    found = predictor.predict_waveform(np.full((1, 8000), 0.6, np.float32), 8000)
    assert found.tags["loud"] == pytest.approx(0.6)


def test_windows_overlap_by_half_and_reach_the_end() -> None:
    sound = np.arange(25, dtype=np.float32)
    for size in (1, 3, 7, 25):
        blocks = [sound[start : start + size] for start in range(0, 25, size)]
        cut = list(windows(blocks, 10, 5))
        assert [w[0] for w in cut] == [0, 5, 10, 15]
        assert [len(w) for w in cut] == [10, 10, 10, 10]
    assert [len(w) for w in windows([sound[:10]], 10, 5)] == [10]
    assert [len(w) for w in windows([sound[:11]], 10, 5)] == [10, 6]


def test_joined_windows_are_weighted_by_a_triangle() -> None:
    joined = join([np.zeros((4, 1)), np.ones((4, 1))], 2)
    assert joined[:, 0] == pytest.approx([0, 0, 0.25, 0.75, 1, 1])


# Faults


def test_every_file_that_cannot_be_used_is_named_at_once(best: Predictor, tmp_path: Path) -> None:
    good = tmp_path / "good.wav"
    soundfile.write(good, noise(1, 16_000).T, 16_000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "nothing.wav", np.zeros((0, 1)), 16_000)
    names = ["empty.wav", "text.wav", "nothing.wav", "missing.wav"]
    with pytest.raises(UserError, match="4 of 5 files") as caught:
        best.predict_files([good, *(tmp_path / name for name in names)])
    assert all(name in str(caught.value) for name in names)
    assert "good.wav" not in str(caught.value)

    for name in ("nan.wav", "inf.wav"):  # seen only when they are decoded
        sound = noise(1, 16_000)
        sound[0, 100] = float(name[:3])
        soundfile.write(tmp_path / name, sound.T, 16_000, subtype="FLOAT")
    with pytest.raises(UserError, match="2 of 3 files") as caught:
        best.predict_files([tmp_path / "nan.wav", good, tmp_path / "inf.wav"])
    assert all(name in str(caught.value) for name in ("nan.wav", "inf.wav", "not finite"))


def test_silence_and_sound_of_one_sample_are_predicted(best: Predictor, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros((16_000, 3)), 16_000)
    soundfile.write(tmp_path / "short.wav", np.full(1, 0.5), 44_100)
    for found in best.predict_files([tmp_path / "silent.wav", tmp_path / "short.wav"]):
        assert all(0 <= score <= 1 for score in found.tags.values())


def test_sound_in_memory_is_checked(best: Predictor) -> None:
    for wrong in (np.zeros(5), np.zeros((1, 0))):
        with pytest.raises(UserError, match=r"\[channels, samples\]"):
            best.predict_waveform(wrong, 16_000)
    with pytest.raises(UserError, match="not finite"):
        best.predict_waveform(np.array([[0.0, np.nan]]), 16_000)


# The command


def command(run: RunDir, *files: Path, **options: Any) -> str:
    given = {"model": "best:SALR_train", "format": "table", "output": None, "device": "cpu"}
    return predict_command(run, [str(f) for f in files], **{**given, **options})


def test_table_and_json(run: RunDir, task4_folder: Path, tmp_path: Path) -> None:
    folder = task4_folder / "dataset" / "audio" / "test"
    text = command(run, folder, format="json")
    rows = json.loads(text, parse_constant=pytest.fail)
    assert [row["file"] for row in rows] == [str(p) for p in sorted(folder.glob("*.wav"))]
    assert set(rows[0]) == {"file", "duration", "tags", "events"}
    event = next(event for row in rows for event in row["events"])
    assert set(event) == {"onset", "offset", "label", "score"}
    assert 0 < event["score"] < 1

    assert command(run, folder, format="json", output=str(tmp_path / "a" / "out.json"))
    assert (tmp_path / "a" / "out.json").read_text() == text
    one = command(run, Path(rows[0]["file"]))
    assert all(f"{label} " in one for label in rows[0]["tags"])
    assert f"{rows[0]['tags']['Dog']:.3f}" in one


def test_label_tracks(run: RunDir, task4_folder: Path, tmp_path: Path) -> None:
    source = min((task4_folder / "dataset" / "audio" / "test").glob("*.wav"))
    events = json.loads(command(run, source, format="json"))[0]["events"]
    track = command(run, source, format="audacity")
    fields = [line.split("\t") for line in track.splitlines()]
    assert [(float(a), float(b), c) for a, b, c in fields] == [
        (pytest.approx(e["onset"]), pytest.approx(e["offset"]), e["label"]) for e in events
    ]
    for name in ("in/a/x.wav", "in/b/x.wav", "in/b/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / name)
    with pytest.raises(UserError, match="--output"):
        command(run, tmp_path / "in", format="audacity")
    command(run, tmp_path / "in", format="audacity", output=str(tmp_path / "out"))
    written = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(p.relative_to(tmp_path / "out")) for p in written] == ["a/x.wav.txt", "b/x.wav.txt"]
    assert {p.read_text() for p in written} == {track}


def test_mistakes_of_the_command(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'json'"):
        command(run, tmp_path, format="jsn")
    with pytest.raises(UserError, match=f"no audio file in {tmp_path}"):
        command(run, tmp_path)
    with pytest.raises(UserError, match=r"missing\.wav"):
        command(run, tmp_path / "missing.wav")


# Models of MLflow


LOAD = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
for address in sys.argv[3:]:
    model = mlflow.pyfunc.load_model(address)
    frame = model.predict(pandas.DataFrame({"path": [sys.argv[2]]}))
    assert frame.equals(model.predict([sys.argv[2]]))
    print("FOUND" + json.dumps(frame.iloc[0].to_dict()))
"""


def load_elsewhere(uri: str, file: Path, *addresses: str) -> list[dict[str, Any]]:
    """What models say about a file in a process of its own, where no pickle may be read."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, uri, str(file), *addresses],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
             "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return [json.loads(line.removeprefix("FOUND")) for line in lines if line.startswith("FOUND")]


def logged(run: RunDir, uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """MLflow's runs by name, and its logged models by the run that they belong to."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    plan = run.plan
    experiment = client.get_experiment_by_name(experiment_name(plan))
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = {one.info.run_name.removeprefix(label(plan)).strip() or "run": one for one in found}
    models = client.search_logged_models([experiment.experiment_id])
    assert len({model.source_run_id for model in models}) == len(models)
    return runs, {model.source_run_id: model for model in models}


def add_study(run: RunDir) -> None:
    """The search's memory, which tracking reads the trials from."""
    from orchestrator.search.study import Search

    plan = run.plan
    search = Search(run.study, plan.search_space(), plan.sampler, plan.halving, plan.first_trial)
    for number in range(len(PARAMS)):
        search.ask()
        search.complete(number, 0.1 * number)


def check_models(run: RunDir, uri: str, bundles: dict[str, Path], file: Path) -> None:
    runs, models = logged(run, uri)
    addresses = {
        "best": runs["run"].data.tags["soundsweep.best_model"],
        **{f: f"runs:/{runs[f'stack {f}'].info.run_id}/model" for f in ("logreg", "genetic")},
    }
    assert addresses["best"] == f"runs:/{runs['trial 00001'].info.run_id}/model"
    assert len(models) == 3
    assert {str(model.status) for model in models.values()} == {"READY"}
    for model, said in zip(addresses, load_elsewhere(uri, file, *addresses.values()), strict=True):
        expected = Predictor.load(bundles[model]).predict_files([file])[0]
        assert said.pop("path") == str(file)
        assert json.loads(said.pop("events")) == [event._asdict() for event in expected.events]
        assert said == pytest.approx(expected.tags)


def test_models_are_logged_once_and_load_without_pickles(
    run: RunDir, bundles: dict[str, Path], task4_folder: Path, tmp_path: Path
) -> None:
    copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "tiny")))
    add_study(copy)
    sync(copy)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert len(logged(copy, uri)[1]) == 2  # the best trial's and the best meta-learner's
    sync(copy, models=["logreg", "genetic"])
    check_models(copy, uri, bundles, test_files(run, task4_folder)[0])

    runs, before = logged(copy, uri)
    (copy.path / "tracking.json").unlink()  # as after a kill: MLflow itself is asked
    sync(copy)
    assert {m.model_id for m in logged(copy, uri)[1].values()} == {
        m.model_id for m in before.values()
    }
    best = runs["trial 00001"]
    value = best.data.metrics["test/clip_macro_f1"]
    shown = {m.key: m.value for m in before[best.info.run_id].metrics}
    assert shown["test/clip_macro_f1"] == value

    _client(uri).delete_tag(best.info.run_id, "soundsweep.model")  # a kill just before it is set
    write_json(copy.scores, {**read_json(copy.scores), "clips": 7})  # makes all models anew
    sync(copy)
    after = logged(copy, uri)[1]
    assert set(after) == set(before)
    assert not {m.model_id for m in after.values()} & {m.model_id for m in before.values()}


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A tracking server of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
         "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}",
         "--artifacts-destination", str(tmp_path / "artifacts")],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.mark.all
def test_models_load_from_a_tracking_server(
    run: RunDir, bundles: dict[str, Path], task4_folder: Path, tmp_path: Path, server: str
) -> None:
    copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "tiny")))
    write_json(copy.plan_file, {**read_json(copy.plan_file), "mlflow": server})
    add_study(copy)
    sync(copy, models=["logreg", "genetic"])
    check_models(copy, server, bundles, test_files(run, task4_folder)[0])


def test_an_unscored_run_has_no_model_in_mlflow(run: RunDir, tmp_path: Path) -> None:
    copy = RunDir(Path(shutil.copytree(run.path, tmp_path / "tiny")))
    add_study(copy)
    copy.scores.unlink()
    shown = read_views(RunDir(copy.path), False)
    assert [view.model for view in shown] == [None] * 6
