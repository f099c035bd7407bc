"""Presence of sources: emergence, thresholds, ratings, their reader, and runs of tracks."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import HERE, in_process
from made_sets import grafic_scenes
from scipy.stats import pearsonr
from sklearn.linear_model import LinearRegression

from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems import data, registry
from systems.context import Context
from systems.data.answered import answered
from systems.data.dataset import Dataset, Event
from systems.data.protocol import Protocol
from systems.data.ratings import Answers, careless, explained, means, outliers
from systems.data.soundscapes import SOURCES, TIMES, active
from systems.data.splits import make_splits, training_data
from systems.errors import UserError
from systems.kinds import Truth
from systems.metrics import metric
from systems.predictions import Predictions
from systems.presence import Presence, emergence, floor_of, mean_emergence
from systems.sounds import open_sounds
from systems.testing import Case

PAPER = "urban_source_presence"
MINI = "SOUNDSWEEP_MINI_SETS"

# --- the indicators ---


def test_emergence_by_hand() -> None:
    """Two bands and two frames; a source alone, two as loud, and silence on both sides."""
    levels = np.array([
        [[60.0, -200.0], [40.0, 30.0]],
        [[57.0, -200.0], [-200.0, 50.0]],
        [[57.0, -200.0], [-200.0, -200.0]],
    ])  # fmt: skip
    found = emergence(levels, 0.0)
    assert found[0, 0, 0] == pytest.approx(60 - 60.01, abs=0.01)  # 57 and 57 dB are 60.01
    assert found[0, 1, 0] == 40.0  # over the floor
    assert np.isneginf(found[1, 1, 0])
    assert np.isneginf(found[:, 0, 1]).all()  # all silent: none is present, though all are level
    np.testing.assert_allclose(found[:2, 1, 1], [-20.0, 20.0], atol=0.01)
    mean = mean_emergence(found, -6.0)
    np.testing.assert_allclose(mean[0, 0], (found[0, 0, 0] + 40.0) / 2)  # of both bands
    assert np.isneginf(mean[0, 1])  # 30 beside 50 dB
    assert mean[1, 1] == pytest.approx(20.0, abs=0.01)
    given = Presence(-6.0, -5.0).fit([found], np.zeros((1, 3)))
    assert given.predict([found]).tolist() == [[0.5, 1.0, 0.5]]
    strict = Presence(mean[1, 1], None).fit([found], np.zeros((1, 3)))
    assert strict.predict([found])[0, 1] == 0.0  # not above alpha: as loud is not enough


def test_the_floor_is_0_db_spl_or_80_db_below_the_loudest_frame() -> None:
    scene = np.array([-60.0, -20.0, -40.0])
    assert floor_of(scene, 100.0) == -100.0
    assert floor_of(scene, None) == -100.0
    assert floor_of(scene + 7.0, None) == -93.0


@pytest.mark.parametrize("beta", [(-4.0, 6.0), None])
def test_the_grid_is_searched_as_a_plain_search_does(beta: Any) -> None:
    rng = np.random.default_rng(3)
    x = [rng.normal(0, 6, (3, 4, 25)) for _ in range(6)]
    y = np.stack([(one > 1.5).mean(axis=(1, 2)) for one in x]) + 0.02 * rng.standard_normal((6, 3))
    fitted = Presence((-5.0, 5.0), beta).fit(x, y)
    found = {}
    alphas = np.arange(-5.0, 6.0)
    for a, b in product(alphas, np.arange(-4.0, 7.0) if beta else [-99.0]):
        shares = np.zeros((6, 3))
        for n, s, t in np.ndindex(6, 3, 25):
            band = x[n][s, :, t]
            over = band[band > a]
            shares[n, s] += len(over) > 0 and over.mean() > b
        found[a, b] = pearsonr(shares.ravel(), y.ravel()).statistic if shares.std() else -1.0
    best = max(found.values())
    equal = [key for key, r in found.items() if r > best - 1e-12]
    alpha, b = min(equal, key=lambda key: (abs(key[0]), abs(key[1])))
    assert fitted.r_ == pytest.approx(best)
    assert fitted.alpha_ == alpha
    assert beta is None or found[fitted.alpha_, max(fitted.beta_, -4.0)] == pytest.approx(best)
    assert fitted.beta_ is None if beta is None else fitted.beta_ in (b, max(b, alpha))


def test_of_equal_thresholds_the_nearest_to_zero_is_taken() -> None:
    x = [np.full((1, 1, 4), level) for level in (-20.0, 20.0, -20.0)]
    fitted = Presence((-15.0, 15.0), (-15.0, 15.0)).fit(x, np.array([[0.0], [1.0], [0.0]]))
    assert (fitted.alpha_, fitted.beta_) == (0.0, 0.0)
    same = Presence((3.0, 5.0), None).fit(x[:1], np.array([[0.5]]))  # nothing varies
    assert (same.alpha_, same.r_) == (3.0, 0.0)


# --- ratings ---


def answers(values: np.ndarray) -> Answers:
    """Of [subjects, scenes, questions]."""
    subjects, scenes, questions = values.shape
    return Answers(
        tuple(f"S{s}" for s in range(subjects) for _ in range(scenes)),
        tuple(f"P{p}" for p in range(scenes)) * subjects,
        tuple(f"Q{q}" for q in range(questions)),
        values.reshape(-1, questions),
    )


def test_who_strays_too_often_is_left_out_and_a_single_slip_counts() -> None:
    rng = np.random.default_rng(0)
    values = 5 + rng.uniform(-0.5, 0.5, (20, 3, 4))
    values[7, :2] = 9.5  # 8 of 12 answers
    values[3, 2, 1] = 0.0  # 1 of 12
    values[5, 2, 0] = 5.75  # 2.2 standard deviations off: none
    given = answers(values)
    far = outliers(given).reshape(20, 3, 4)
    expected = np.zeros((20, 3, 4), bool)
    expected[7, :2], expected[3, 2, 1] = True, True
    np.testing.assert_array_equal(far, expected)
    assert careless(given) == ("S7",)
    found = means(given, careless(given))
    kept = np.delete(values, 7, axis=0).mean(axis=0)
    assert [list(of.values()) for of in found.values()] == pytest.approx(kept)


def test_principal_components_beside_eigenvalues() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((9, 4)) @ rng.standard_normal((4, 4))
    rows = [dict(zip("abcd", row, strict=True)) for row in values.tolist()]
    expected = np.linalg.eigvalsh(np.corrcoef(values.T))[::-1] / 4
    np.testing.assert_allclose(explained(rows, "abcd"), expected)


# --- the metric ---


def test_pearson_over_all_values_together() -> None:
    rng = np.random.default_rng(2)
    true = rng.random((9, 5)) + np.arange(5)
    said = true + 0.3 * rng.standard_normal((9, 5))
    truth = Truth("values", true, tuple("abcde"))
    of = metric("pearson_r")
    counts = of.counts(truth, Predictions.of(tuple("abcdefghi"), tuple("abcde"), clip_values=said))
    assert counts is not None
    assert of.value(counts) == pytest.approx(pearsonr(true.ravel(), said.ravel()).statistic)
    alone = [pearsonr(true[:, d], said[:, d]).statistic for d in range(5)]
    assert metric("pcc").value(counts) == pytest.approx(np.mean(alone))
    assert of.by_class is not None
    np.testing.assert_allclose(of.by_class(counts), alone)
    constant = of.count(truth, np.ones((9, 5)))
    assert of.value(constant) == 0.0


# --- scenes ---


def test_scenes_have_tracks_of_sound_and_of_what_is_known(tmp_path: Path) -> None:
    dataset = data.load("grafic_scenes", str(grafic_scenes(tmp_path)))
    assert dataset.calibration == 100.0
    assert dataset.classes[:4] == ("OL", "I", "L", "C")
    assert "11 of 12 subjects count; more than 10 % of the answers of S12" in dataset.notes[0]
    mix, rate = dataset.source.read("P2")
    assert (mix.shape, rate) == ((1, 24_000), 48_000)
    tracks = sum(dataset.source.read("P2", track)[0] for track in SOURCES.values())
    np.testing.assert_allclose(tracks, mix, atol=1e-3)
    lies, hz = dataset.source.read("P2", "birds/events")
    assert lies.shape == (1, 500)
    assert lies.sum() / hz == pytest.approx(0.3)  # two events that overlap count once
    assert not dataset.source.read("P2", "traffic/events")[0].any()  # a background is no event
    said, _ = dataset.source.read("P3", "perceived/OL")
    assert (said == np.float32(dataset.labels["train"].values["P3"][0])).all()
    assert 0.2 < said.max() < 0.8
    splits = make_splits(dataset, 0)
    assert [fold.validation for fold in splits.folds] == [(s,) for s in ("P2", "P3", "P5", "P9")]


def test_a_system_answers_some_of_the_values_and_the_others_stay_beside(tmp_path: Path) -> None:
    dataset = data.load("grafic_scenes", str(grafic_scenes(tmp_path)))
    narrow = answered(dataset, ("T_B", "OL"))
    whole, labels = dataset.labels["train"].values["P5"], narrow.labels["train"]
    assert narrow.classes == ("T_B", "OL")
    assert labels.values["P5"] == (whole[dataset.classes.index("T_B")], whole[0])
    assert float(labels.columns["P5"]["I"]) == whole[1]
    assert "OL" not in labels.columns["P5"]
    assert answered(dataset, ()) is dataset
    with pytest.raises(UserError, match=r"no values of pleasantness.*OL, I, L"):
        answered(dataset, ("pleasantness",))


@pytest.mark.parametrize("where", ["ratings.csv", "scenes.csv"])
def test_pleasantness_may_come_with_either_table(where: str, tmp_path: Path) -> None:
    table = grafic_scenes(tmp_path) / where
    head, *rows = table.read_text().splitlines()
    lines = [f"{head},pleasantness", *(f"{row},7.5" for row in rows)]
    table.write_text("\n".join(lines) + "\n")
    dataset = data.load("grafic_scenes", str(tmp_path))
    assert dataset.classes[-1] == "pleasantness"
    assert dataset.labels["train"].values["P2"][-1] == pytest.approx(0.75)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    root = grafic_scenes(tmp_path)
    (root / "scenes/P2/birds.flac").unlink()
    soundfile.write(root / "scenes/P3/birds.flac", np.zeros(4800), 48_000)
    (root / "scenes/P5/mix.flac").write_bytes(b"broken")
    with open(root / "annotations/P9.csv", "a") as file:
        file.write("trains,event,0.0,0.1,0.0\nbirds,evnt,0.0,0.1,0.0\nbirds,event,0.4,0.9,0.0\n")
    text = (root / "ratings.csv").read_text().splitlines()
    text[1] = text[1].replace(",P2,", ",P7,")
    text[2] = ",".join([*text[2].split(",")[:4], "11", *text[2].split(",")[5:]])
    text[3] = ",".join([*text[3].split(",")[:4], "loud", *text[3].split(",")[5:]])
    (root / "ratings.csv").write_text("\n".join(text) + "\n")
    (root / "calibration.csv").write_text("rms_1_is_db_spl\nloud\n")
    with pytest.raises(UserError) as error:
        data.load("grafic_scenes", str(root))
    for why in ("scenes/P2/birds.flac", "scenes/P3/birds.flac: lasts 0.100 s", "scenes/P5/mix.flac",
                "'trains' is no source", "'evnt' is no kind", "does not lie in its clip",
                "'P7' is no scene", "OL '11' is no number from 0 to 10", "OL 'loud'",
                "calibration.csv line 2: 'loud' is no level"):  # fmt: skip
        assert why in str(error.value), why


def test_scenes_with_broken_files_are_left_out(tmp_path: Path) -> None:
    root = grafic_scenes(tmp_path)
    (root / "scenes/P5/mix.flac").write_bytes(b"broken")
    (root / "calibration.csv").unlink()
    dataset = data.load("grafic_scenes", str(root), skip_broken=True)
    assert [clip.clip_id for clip in dataset.clips] == ["P2", "P3", "P9"]
    assert [path for path, _ in dataset.skipped] == ["scenes/P5/mix.flac"]
    assert dataset.calibration is None


def test_activity_is_the_union_of_events() -> None:
    events = (Event(0.1, 0.3, "a"), Event(0.2, 0.5, "a"), Event(0.9, 1.0, "a"))
    assert active(1.0, events)[0].mean() == pytest.approx(0.5)


def test_the_embedded_streets_are_learnable_and_not_trivial() -> None:
    dataset = data.load("synthetic_streets", None)
    assert "19 of 20 subjects count; more than 10 % of the answers of S01" in dataset.notes[0]
    values = np.array(list(dataset.labels["train"].values.values()))
    assert (values.std(axis=0) > 0.04).all()
    samples, rate = dataset.source.read("S00", "voices")
    assert rate == 16_000
    assert np.array_equal(samples, dataset.source.read("S00", "voices")[0])
    tracks = [dataset.source.read("S03", track)[0] for track in SOURCES.values()]
    np.testing.assert_allclose(sum(tracks), dataset.source.read("S03")[0], atol=1e-6)
    assert np.abs(sum(tracks)).max() < 1.0


# --- systems ---


def trained(name: str, dataset: Dataset, root: Path, **overrides: Any) -> tuple[Any, Any, Any]:
    """Fitted and judged on all clips: what it says, what is true, and the fitted system."""
    entry = registry.get(f"{PAPER}/{name}")
    narrow = answered(dataset, entry.outputs)
    system = entry.build(configs.replace(entry.config, overrides))
    ids = tuple(clip.clip_id for clip in narrow.clips)
    sounds = open_sounds(narrow, ids, system.inputs(), root, map)
    fold = training_data(narrow, make_splits(narrow, 0, entry.protocol), 0, "pearson_r")
    fitted = system.train(fold, sounds, Context(threads=1))
    said = fitted.predict(ids, sounds, Context(threads=1))
    assert fold.validation is not None
    assert fold.validation.clip_ids == ids
    return said.clip_values, fold.labelled.targets, fitted


def test_presence_beats_activity_and_pleasantness_is_least_squares(tmp_path: Path) -> None:
    dataset = data.load("synthetic_streets", None)
    r = {}
    for name in ("presence_bands", "presence_broadband", "presence_activity"):
        overrides = {} if name == "presence_activity" else {"levels.rate": 16_000}
        said, true, _ = trained(name, dataset, tmp_path, **overrides)
        r[name] = pearsonr(said.ravel(), true.ravel()).statistic
    assert r["presence_bands"] > r["presence_activity"] + 0.2
    assert 0.8 < r["presence_bands"] < 0.995
    assert r["presence_broadband"] > r["presence_activity"] + 0.2
    shares = {
        scene: [active(6.0, (e for e in events if e.label == track))[0].mean()
                for track in SOURCES.values()]
        for scene, events in dataset.source.events.items()  # type: ignore[attr-defined]
    }  # fmt: skip
    np.testing.assert_allclose(said, list(shares.values()), atol=1e-6)
    said, true, _ = trained("pleasantness_linear", dataset, tmp_path)
    places = [dataset.classes.index(q) for q in ("OL", "T_T", "T_V", "T_B")]
    x = np.array(list(dataset.labels["train"].values.values()))[:, places]
    expected = LinearRegression().fit(x, true).predict(x)
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_levels_follow_the_calibration_and_the_weighting(tmp_path: Path) -> None:
    dataset = data.load("grafic_scenes", str(grafic_scenes(tmp_path / "set")))
    z, _, fitted = trained("overall_level", dataset, tmp_path)
    uncalibrated, _, _ = trained("overall_level", replace(dataset, calibration=None), tmp_path)
    np.testing.assert_allclose(z - uncalibrated, 100.0, atol=1e-3)
    frames = dataset.source.read("P2")[0].reshape(-1, 6000)  # of white noise
    l50 = np.median(20 * np.log10(frames.std(axis=1))) + 100.0
    assert z[0, 0] == pytest.approx(l50, abs=0.5)
    a, _, _ = trained("overall_level", dataset, tmp_path, weighting="A")
    one, _, _ = trained("overall_level", dataset, tmp_path, weighting="1kHz")
    assert np.all((a < z) & (one < a))
    peaks, _, _ = trained("source_emergence", dataset, tmp_path)
    silent = peaks[:, 2]  # at 0 dB SPL beside the scene's level
    np.testing.assert_allclose(silent, -z[:, 0], atol=12.0)
    folder = tmp_path / "model"
    fitted.save(folder)
    entry = registry.get(f"{PAPER}/overall_level")
    assert entry.build(entry.config).load(folder).features.calibration == 100.0


def test_frames_may_be_longer_and_each_track_is_an_input() -> None:
    entry = registry.get(PAPER)
    inputs = entry.build(configs.replace(entry.config, {"levels.frame": 0.5})).inputs()
    assert tuple(inputs) == ("mix", *SOURCES.values())
    assert len({one.key for one in inputs.values()}) == 6
    assert inputs["birds"].features.hop_seconds == 0.5


def test_all_clips_train_and_all_are_judged_where_a_paper_does_so() -> None:
    dataset = answered(data.load("synthetic_streets", None), TIMES)
    splits = make_splits(dataset, 0, Protocol(same=True))
    assert splits.same
    assert len(splits.folds) == 1
    assert splits.folds[0].train == splits.folds[0].validation
    assert not make_splits(dataset, 0).same


@pytest.mark.all
@pytest.mark.parametrize("name", ["presence_activity", "source_emergence", "pleasantness_linear"])
def test_other_systems_are_kept_and_loaded(name: str, tmp_path: Path) -> None:
    case = Case.of(registry.get(f"{PAPER}/{name}"), tmp_path / "store")
    fitted, reports = case.train(tmp_path / "a")
    assert not reports
    fitted.save(tmp_path / "model")
    again = case.system().load(tmp_path / "model")
    assert np.array_equal(case.predict(fitted).clip_values, case.predict(again).clip_values)


# --- runs ---


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by the honest protocol and by the paper's, over a set that lies on disk."""
    root = tmp_path_factory.mktemp("runs")
    grafic_scenes(root / "set")
    for protocol in ("honest", "paper"):
        in_process(
            "run", "--system", PAPER, "--data", "set", "--storage", "runs", "--name", protocol,
            "--protocol", protocol, "--trials", "2", "--concurrency", "1", *HERE,
            cwd=root, check=True,
        )  # fmt: skip
    return root


def test_a_run_says_what_its_values_go_with(root: Path) -> None:
    results = json.loads((root / "runs/paper/results.json").read_text())
    assert results["run"]["splits"]["protocol"] == "fitted and judged on the same clips"
    assert results["stack"] == []
    found = results["members"][0]["correlations"]
    pairs = {(one["output"], one["value"]): one for one in found}
    assert ("T_B", "OL") in pairs
    assert ("T_H", "OL") not in pairs  # silent throughout: it does not vary
    assert pairs["T_B", "L_B"]["n"] == 4
    with open(root / "runs/paper/report/correlations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["r"]) == pytest.approx(found[0]["r"])
    page = (root / "runs/paper/report/index.html").read_text()
    assert 'id="correlations"' in page
    assert "were fitted on" in page
    beside = {
        (row["variant"], row["label"]): row for row in results["paper"]
        if row["system"] == "presence_bands"
    }  # fmt: skip
    row = beside["source B; alpha=-6 dB; beta=-5 dB; p<0.01", "T_B,p"]
    assert row["ours"]["value"] == pytest.approx(pairs["T_B", "T_B"]["r"])
    other = beside["source B; alpha=-6 dB; beta=-5 dB; p<0.01", "I"]
    assert other["ours"]["value"] == pytest.approx(pairs["T_B", "I"]["r"])


def test_correlations_are_those_of_scipy(root: Path) -> None:
    run = RunDir(root / "runs/paper")
    results = json.loads((run.path / "results.json").read_text())
    member = results["members"][0]
    said = Predictions.load(run.trial(member["trial"]).predictions(0))
    dataset = data.load("grafic_scenes", str(root / "set"))
    assert said.clip_values is not None
    for one in member["correlations"]:
        place = dataset.classes.index(one["value"])
        true = [dataset.labels["train"].values[clip][place] for clip in said.clip_ids]
        expected = pearsonr(said.clip_values[:, TIMES.index(one["output"])], true)
        assert one["r"] == pytest.approx(expected.statistic, abs=1e-6)
        assert one["p"] == pytest.approx(expected.pvalue, abs=1e-6)


def test_held_out_figures_are_not_set_beside_fitted_ones(root: Path) -> None:
    results = json.loads((root / "runs/honest/results.json").read_text())
    assert len(results["run"]["splits"]["folds"]) == 4
    rows = [row for row in results["paper"] if row["system"] == "presence_bands"]
    assert {row["why"] for row in rows} == {"held_out", "unmapped"}


def test_stage_two_is_refused_where_clips_were_fitted(root: Path) -> None:
    done = in_process("stack", "paper", "--storage", "runs", *HERE, cwd=root)
    assert done.returncode == 2
    assert "stage two needs predictions of clips that were held out" in done.stderr


def test_folders_of_tracks_are_predicted_and_sound_alone_is_refused(root: Path) -> None:
    def predict(*files: str, form: str = "json") -> Any:
        return in_process(
            "predict", "paper", *files, "--storage", "runs", "--format", form, cwd=root
        )

    said = json.loads(predict("set/scenes").stdout)
    assert [Path(one["file"]).name for one in said] == ["P2", "P3", "P5", "P9"]
    assert list(said[0]["values"]) == list(TIMES)
    assert said[0]["duration"] == 0.5
    (one,) = json.loads(predict("set/scenes/P3").stdout)
    assert one["values"] == said[1]["values"]
    assert predict("set/scenes/P3", form="csv").stdout.startswith("file,T_T,T_B")
    table = predict("set/scenes/P3", form="table").stdout
    assert f"T_T  {one['values']['T_T']:.3f}" in table
    assert "*" not in table
    alone = predict("set/scenes/P3/mix.flac")
    assert alone.returncode == 2
    assert "is no folder that holds them" in alone.stderr
    (root / "less").mkdir()
    soundfile.write(root / "less/mix.wav", np.ones(100), 48_000)
    assert "lacks traffic, birds" in predict("less").stderr


def test_what_only_a_data_set_tells_is_asked_of_no_file(root: Path) -> None:
    in_process(
        "train", f"{PAPER}/presence_activity", "--data", "set", "--storage", "runs",
        "--name", "activity", *HERE, cwd=root, check=True,
    )  # fmt: skip
    done = in_process("predict", "activity", "set/scenes/P2", "--storage", "runs", cwd=root)
    assert "is told traffic/events" in done.stderr
    refused = in_process(
        "train", f"{PAPER}/pleasantness_linear", "--data", "set", "--storage", "runs",
        *HERE, cwd=root,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "no values of pleasantness" in refused.stderr
    assert "a column of ratings.csv or scenes.csv" in refused.stderr


# --- the small set ---


@pytest.mark.skipif(MINI not in os.environ, reason="needs the mini data sets")
def test_the_small_set_of_scenes(tmp_path: Path) -> None:
    folder = Path(os.environ[MINI]) / "grafic_mini"
    dataset = data.load("grafic_scenes", str(folder))
    with open(folder / "extra/careless_subjects.csv", newline="") as file:
        left_out = [row["subject"] for row in csv.DictReader(file)]
    assert f"the answers of {', '.join(left_out)} are outliers" in dataset.notes[0]
    said, true, _ = trained("presence_bands", dataset, tmp_path, fit="given")
    with open(folder / "extra/true_indicators.csv", newline="") as file:
        rows = {row["scene"]: row for row in csv.DictReader(file)}
    told = np.array([
        [float(rows[clip.clip_id][f"presence_{s}"]) for s in SOURCES] for clip in dataset.clips
    ])  # fmt: skip
    # Other filters there: up to three of the 32 frames differ.
    assert np.abs(said - told).max() < 3.5 / 32
    assert np.abs(said - told).mean() < 1 / 32
    assert pearsonr(said.ravel(), true.ravel()).statistic > 0.95
    level, _, _ = trained("overall_level", dataset, tmp_path)
    l50 = [float(rows[clip.clip_id]["L50"]) for clip in dataset.clips]
    np.testing.assert_allclose(level[:, 0], l50, atol=0.8)
