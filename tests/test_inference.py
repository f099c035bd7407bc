"""Bundles and predictions: by file what the run itself predicted, and faults."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scored import MEMBERS, MODELS, clips_of_test, noise, stored

from orchestrator.models import bundle
from orchestrator.models.bundle import export
from orchestrator.models.files import predict_command
from orchestrator.models.inference import Predictor
from orchestrator.plan.plan import Plan
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


@pytest.fixture(scope="module")
def best(bundles: dict[str, Path]) -> Predictor:
    return Predictor.load(bundles["best"])


@pytest.mark.parametrize("model", MODELS)
def test_files_get_what_the_run_predicted(
    scored_run: RunDir, bundles: dict[str, Path], task4_folder: Path, model: str
) -> None:
    found = Predictor.load(bundles[model]).predict_files(clips_of_test(scored_run, task4_folder))
    expected = stored(scored_run, model)
    scores = np.array([list(one.tags.values()) for one in found])
    assert np.abs(scores - expected.clip_scores).max() < 1e-5
    assert all(tuple(one.tags) == expected.classes for one in found)
    if expected.events is None:
        return
    events = [tuple(event[:3] for event in one.events) for one in found]
    assert events == [tuple(map(tuple, clip)) for clip in expected.events]
    assert any(events) or model != "best:SALR_train"


def test_a_stack_has_the_first_members_events_of_the_tags_that_it_holds_for_present(
    scored_run: RunDir, bundles: dict[str, Path], task4_folder: Path
) -> None:
    stack = Predictor.load(bundles["genetic"])
    low = {"thresholds": [0.05] * 10, "medians": [1] * 10}
    decided = replace(stack.members[0], main=(stack.members[0].first.with_decision(low),))
    first = replace(stack, members=(decided, stack.members[1]))
    files = clips_of_test(scored_run, task4_folder)
    alone = replace(first, members=first.members[:1], learner=None).predict_files(files)
    together = first.predict_files(files)
    for one, both in zip(alone, together, strict=True):
        assert both.events == tuple(e for e in one.events if both.tags[e.label] > 0.5)
    assert 0 < sum(len(p.events) for p in together) < sum(len(p.events) for p in alone)


def test_a_bundle_says_what_it_is_and_needs_no_run(
    scored_run: RunDir, bundles: dict[str, Path]
) -> None:
    about = read_json(bundles["logreg"] / "bundle.json")
    plan = Plan.from_json(read_json(scored_run.plan))
    assert [member["trial"] for member in about["members"]] == list(MEMBERS)
    assert about["members"][0]["config"]["network"]["blocks"] == 2
    assert about["learner"] == "logreg"
    assert (about["classes"], about["rate"]) == (list(plan.classes), 16_000)
    assert about["run"] == {"name": "tiny", "id": plan.run_id}
    rows = {row["learner"]: row for row in read_json(scored_run.scores)["rows"]}
    assert about["test"]["metrics"] == rows["logreg"]["metrics"]
    refined = read_json(bundles["best:SALR_train"] / "bundle.json")
    assert refined["members"][0]["config"]["refinement"]["on"] == "labelled"
    names = {str(p.relative_to(bundles["logreg"])) for p in bundles["logreg"].rglob("*.*")}
    members = {f"members/{n}/refit/model.{end}" for n in (0, 1) for end in ("json", "safetensors")}
    assert names == {"bundle.json", "learner/learner.json", *members}


def test_a_bundle_is_whole_or_not_there(
    scored_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="taken exists"):
        export(scored_run, tmp_path / "taken")

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(bundle, "write_json", fail)
    with pytest.raises(OSError, match="full"):
        export(scored_run, tmp_path / "new")
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
def test_unknown_models(scored_run: RunDir, tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export(scored_run, tmp_path / "bundle", model=model)


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
    scored_run: RunDir, tmp_path: Path, gone: str, model: str, message: str
) -> None:
    copy = RunDir(Path(shutil.copytree(scored_run.path, tmp_path / "copy")))
    path = copy.path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=message) as caught:
        export(copy, tmp_path / "bundle", model=model)
    assert gone == "plan.json" or f"--resume {copy.path}" in str(caught.value)


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


def test_table_and_json(scored_run: RunDir, task4_folder: Path, tmp_path: Path) -> None:
    folder = task4_folder / "dataset" / "audio" / "test"
    text = command(scored_run, folder, format="json")
    rows = json.loads(text, parse_constant=pytest.fail)
    assert [row["file"] for row in rows] == [str(p) for p in sorted(folder.glob("*.wav"))]
    assert set(rows[0]) == {"file", "duration", "tags", "events"}
    event = next(event for row in rows for event in row["events"])
    assert set(event) == {"onset", "offset", "label", "score"}
    assert 0 < event["score"] < 1

    assert command(scored_run, folder, format="json", output=str(tmp_path / "a" / "out.json"))
    assert (tmp_path / "a" / "out.json").read_text() == text
    one = command(scored_run, Path(rows[0]["file"]))
    assert all(f"{label} " in one for label in rows[0]["tags"])
    assert f"{rows[0]['tags']['Dog']:.3f}" in one


def test_label_tracks(scored_run: RunDir, task4_folder: Path, tmp_path: Path) -> None:
    source = min((task4_folder / "dataset" / "audio" / "test").glob("*.wav"))
    events = json.loads(command(scored_run, source, format="json"))[0]["events"]
    track = command(scored_run, source, format="audacity")
    fields = [line.split("\t") for line in track.splitlines()]
    assert [(float(a), float(b), c) for a, b, c in fields] == [
        (pytest.approx(e["onset"]), pytest.approx(e["offset"]), e["label"]) for e in events
    ]
    for name in ("in/a/x.wav", "in/b/x.wav", "in/b/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / name)
    with pytest.raises(UserError, match="--output"):
        command(scored_run, tmp_path / "in", format="audacity")
    command(scored_run, tmp_path / "in", format="audacity", output=str(tmp_path / "out"))
    written = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert [str(p.relative_to(tmp_path / "out")) for p in written] == ["a/x.wav.txt", "b/x.wav.txt"]
    assert {p.read_text() for p in written} == {track}


def test_mistakes_of_the_command(scored_run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'json'"):
        command(scored_run, tmp_path, format="jsn")
    with pytest.raises(UserError, match=f"no audio file in {tmp_path}"):
        command(scored_run, tmp_path)
    with pytest.raises(UserError, match=r"missing\.wav"):
        command(scored_run, tmp_path / "missing.wav")
