"""Every command but ``run`` by its real command line, on a tiny data set."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from subprocess import run as run_process

import numpy as np
import pytest
import soundfile
from command import HERE, TINY, in_process, on_data, soundsweep
from test_run import openings

from orchestrator.report.published import published
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

NARROW = ("--set", "refinement.thresholds=0.3,0.5", "--set", "refinement.medians=1,9")


@pytest.fixture(scope="module")
def trained(whole: RunDir, task4_folder: Path) -> RunDir:
    """Two trainings of the published point without a search, beside the whole run."""
    options = on_data(task4_folder, "--name", "tr", "--seeds", "2", "--seed", "1", *TINY, *NARROW)
    in_process("train", "gcrnn_vat", *options, *HERE, cwd=whole.root.parent, check=True)
    return RunDir(whole.root / "tr")


@pytest.fixture
def copied(whole: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the whole run that a test may change."""
    shutil.copytree(whole.path, tmp_path / "runs" / "it")
    shutil.copy(whole.ledger, tmp_path / "runs" / whole.ledger.name)
    return RunDir(tmp_path / "runs" / "it")


def test_train_trains_once_a_seed_and_scores_that_model(trained: RunDir) -> None:
    results = read_json(trained.results)
    assert [trial["state"] for trial in results["trials"]] == ["complete", "complete"]
    curves = [[line["loss"] for line in trial["curve"]] for trial in results["trials"]]
    assert curves[0] != curves[1]
    assert results["stack"] == []
    rows = {(row["trial"], row["variant"]) for row in results["test"]["rows"]
            if not row["trivial"]}  # fmt: skip
    assert rows == {(n, v) for n in (0, 1) for v in ("no refinement", "SALR_train")}
    for trial in trained.trials():
        assert {line["fold"] for line in trial.read_metrics()} == {0}
        assert not (trial.refit / "model").exists(), "it was trained a second time"
    assert len(openings(trained)) == 1


def test_compare_gives_the_difference_of_the_reported_figures(
    whole: RunDir, trained: RunDir, tmp_path: Path
) -> None:
    output = tmp_path / "difference.json"
    pair = (str(whole.path), str(trained.path))
    done = in_process("compare", *pair, "--output", str(output), cwd=tmp_path, check=True)
    assert "clip_macro_f1" in done.stdout
    found = read_json(output)
    first, second = (_reported(run, "no refinement", "event_f1") for run in (whole, trained))
    row = next(
        r
        for r in found["rows"]
        if (r["part"], r["who"], r["metric"]) == ("test", "best, no refinement", "event_f1")
    )
    assert (row["first"], row["second"]) == (first, second)
    assert row["difference"]["value"] == pytest.approx(second - first)
    assert row["difference"]["low"] <= row["difference"]["value"] <= row["difference"]["high"]
    assert found["settings"]["purpose"] == ["search", "train"]


def _reported(run: RunDir, variant: str, metric: str) -> float:
    rows = read_json(run.results)["test"]["rows"]
    return next(row["metrics"][metric]["value"] for row in rows
                if row["best"] and row["variant"] == variant)  # fmt: skip


def test_runs_of_other_data_are_not_compared(copied: RunDir, whole: RunDir) -> None:
    plan = read_json(copied.plan_file)
    copied.plan_file.write_text(json.dumps({**plan, "fingerprint": "other", "name": "elsewhere"}))
    done = in_process("compare", str(whole.path), str(copied.path), cwd=copied.root)
    assert done.returncode == 2
    assert "their fingerprint differs" in done.stderr
    assert "elsewhere" in done.stderr


def test_stack_fits_others_over_the_same_search(copied: RunDir, whole: RunDir) -> None:
    asked = ("it", "--stack", "logreg", "--top-k", "1")
    in_process("stack", *asked, cwd=copied.root.parent, check=True)
    results = read_json(copied.results)
    assert results["trials"] == read_json(whole.results)["trials"]
    assert [stack["name"] for stack in results["stack"]] == ["logreg"]
    assert len(results["members"]) == len(results["stack"][0]["members"]) == 1
    assert len(openings(copied)) == len(openings(whole)) + 1


def test_clean_removes_what_can_be_made_again_and_nothing_else(copied: RunDir) -> None:
    unread = copied.root / "store" / "synthetic-16000-000000000000"
    unread.mkdir(parents=True)
    (unread / "waveforms.f32").write_bytes(b"\0" * 2000)
    stopped = [t["number"] for t in read_json(copied.results)["trials"] if t["state"] == "stopped"]
    checkpoint = copied.trial(stopped[0]).path / "fold0" / "checkpoint.pt"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_bytes(b"\0" * 1000)
    before = {path for path in copied.path.rglob("*") if path.is_file()}
    listed = in_process("clean", "--dry-run", cwd=copied.root.parent).stdout
    assert "3.0 kB could be freed" in listed
    assert {path for path in copied.path.rglob("*") if path.is_file()} == before
    assert in_process("clean", cwd=copied.root.parent).returncode == 0
    assert not unread.exists()
    after = {path for path in copied.path.rglob("*") if path.is_file()}
    assert before - after == {checkpoint}


def test_reproduce_sets_the_papers_table_beside_ours(whole: RunDir, task4_folder: Path) -> None:
    more = (*TINY, *NARROW, *HERE, "--set", "training.epochs=2", "--name", "rep")
    options = on_data(task4_folder, *more)
    done = in_process("reproduce", "gcrnn_vat/gcrnn", *options, cwd=whole.root.parent, check=True)
    assert "the budget quick is not the paper's" in done.stdout
    table = read_json(whole.root / "rep" / "table.json")
    assert len(table["rows"]) == len(published("gcrnn_vat"))
    rows = {(r["system"], r["variant"], r["metric"], r["label"]): r for r in table["rows"]}
    run = RunDir(whole.root / "rep-gcrnn")
    for variant in ("no refinement", "SALR_train", "SALR_dev"):
        row = rows["gcrnn", variant, "event_f1", ""]
        assert row["ours"] == pytest.approx(100 * _reported(run, variant, "event_f1"))
        assert row["transductive"] == (variant == "SALR_dev")
    assert rows["gcrnn", "SALR_dev", "event_er", ""]["paper"] == 1.23
    assert rows["gcrnn_vat", "no refinement", "event_f1", ""]["why"] == "not asked for"
    with open(whole.root / "rep" / "table.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table["rows"])
    assert [line["protocol"] for line in openings(run)] == ["paper"]
    trained, held_out = run.plan.splits["folds"][0]
    assert trained + held_out == 24
    assert f"{trained} labelled clips trained, {held_out} were held out" in done.stdout
    assert "unlabelled ones" not in done.stdout  # without VAT nothing reads them


def test_predict_names_what_the_run_itself_predicted(whole: RunDir, task4_folder: Path) -> None:
    sound = sorted(task4_folder.glob("dataset/audio/test/*.wav"))[0]
    asked = (str(whole.path), str(sound), "--format", "json")
    done = in_process("predict", *asked, cwd=whole.root, check=True)
    (found,) = json.loads(done.stdout)
    assert found["file"] == str(sound)
    assert len(found["tags"]) == 10
    assert all(0 <= score <= 1 for score in found["tags"].values())


def test_a_users_own_table_runs_the_whole_way(tmp_path: Path, task4_folder: Path) -> None:
    """Sounds of two rates, a label each, no part column: a fifth becomes the test part."""
    sounds = sorted(task4_folder.glob("dataset/audio/train/weak/*.wav"))
    rows = ["path,labels,group"]
    for place, sound in enumerate(sounds):
        samples, rate = soundfile.read(sound)
        target = tmp_path / "sounds" / f"{place}.flac"
        target.parent.mkdir(exist_ok=True)
        if place % 2:  # another rate, two channels
            samples, rate = np.repeat(np.stack([samples, samples], 1), 2, axis=0), 2 * rate
        soundfile.write(target, samples, rate)
        rows.append(f"sounds/{place}.flac,{'even' if place % 2 else 'odd'},{place // 2}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    in_process(
        "train", "gcrnn_vat/gcrnn", "--dataset", "table", "--data", "mine.csv", "--name", "mine",
        *TINY, *NARROW, *HERE, cwd=tmp_path, check=True,
    )  # fmt: skip
    results = read_json(tmp_path / "runs" / "mine" / "results.json")
    assert results["run"]["classes"] == ["even", "odd"]
    assert next(iter(results["test"]["rows"][0]["metrics"])) == "accuracy"
    assert any("test" in note for note in results["run"]["notes"])


def test_timed_events_in_training_fit_event_thresholds(tmp_path: Path, task4_folder: Path) -> None:
    """A table whose every part has onsets: the third learner joins, and its model predicts."""
    sounds = sorted(task4_folder.glob("dataset/audio/*/weak/*.wav"))
    rows = ["path,labels,onset,offset,part"]
    for place, sound in enumerate(sounds):
        label, part = ("even", "odd")[place % 2], "test" if place >= 18 else "train"
        rows.append(f"{sound},{label},0.{place % 3},0.9,{part}")
    (tmp_path / "timed.csv").write_text("\n".join(rows) + "\n")
    in_process(
        "run", "--system", "gcrnn_vat/gcrnn", "--dataset", "table", "--data", "timed.csv",
        "--name", "timed", *TINY, *NARROW, *HERE, "--trials", "2", "--top-k", "2",
        "--stack", "logreg,genetic_events", cwd=tmp_path, check=True,
    )  # fmt: skip
    results = read_json(tmp_path / "runs" / "timed" / "results.json")
    learners = {learner["name"]: learner for learner in results["stack"]}
    assert learners["genetic_events"]["metric"] == "event_f1"
    (row,) = [r for r in results["test"]["rows"] if r["learner"] == "genetic_events"]
    assert set(row["metrics"]) == {"clip_macro_f1", "event_f1", "event_er"}
    done = in_process(
        "predict", "timed", str(sounds[0]), "--model", "genetic_events", "--format", "json",
        cwd=tmp_path, check=True,
    )  # fmt: skip
    stored = json.loads(done.stdout)[0]
    assert set(stored["tags"]) == {"even", "odd"}


@pytest.mark.all
def test_data_parallel_workers_train_the_whole_way(tmp_path: Path, task4_folder: Path) -> None:
    options = on_data(task4_folder, "--name", "two", "--workers-per-trial", "2", *TINY, *NARROW)
    soundsweep("train", "gcrnn_vat", *options, cwd=tmp_path)
    (trial,) = read_json(tmp_path / "runs" / "two" / "results.json")["trials"]
    assert trial["state"] == "complete"
    assert trial["steps"] == 6


@pytest.mark.parametrize(
    ("system", "key"),
    [("gcrnn_vat", "vat.epsilon"), ("mask_breathing_resnet/breath_cnn_lstm_small", "seconds")],
)
def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    system: str, key: str, tmp_path: Path
) -> None:
    options = ("--system", system, "--dry-run", "--time-budget", "1h30m")
    done = in_process("run", *options, cwd=tmp_path, check=True)
    for words in ("first configuration", key, "estimated on", "s a step", "whole run",
                  "memory of one trial", "disk", "90 min, the search at most"):  # fmt: skip
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_script_runs_as_a_lone_copy_from_anywhere(tmp_path: Path) -> None:
    import orchestrator.run

    lone = shutil.copy(orchestrator.run.__file__, tmp_path / "job.py")
    done = run_process(
        [sys.executable, lone, "systems"], cwd="/", capture_output=True, text=True, check=True
    )
    assert "gcrnn_vat/gcrnn" in done.stdout


def test_listings(tmp_path: Path) -> None:
    assert "gcrnn_vat/gcrnn" in in_process("systems", cwd=tmp_path).stdout
    listed = in_process("datasets", cwd=tmp_path).stdout
    assert "dataset/metadata/train/weak.csv" in listed
    assert "table" in listed
    cited = in_process("systems", "--cite", "gcrnn_vat", cwd=tmp_path).stdout
    assert cited.startswith("@inproceedings{")
    assert "1810.06897" in cited
