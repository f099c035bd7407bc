"""The main job by its real command, on a tiny data set: whole, killed, resumed, refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import HERE, PATIENCE, SEARCH, in_process, on_data, soundsweep, wait_until

from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.rundir import RunDir
from systems.predictions import Predictions


def run_arguments(data: Path, *more: str) -> tuple[str, ...]:
    return ("run", *on_data(data, "--name", "it", *SEARCH, *more))


def fingerprint_of_run(run: RunDir) -> Any:
    """All that a kill must not change: trials, states, curves, members, stage two, test scores."""
    results = read_json(run.results)
    for trial in results["trials"]:
        del trial["seconds"], trial["attempts"]
        for line in trial["curve"]:
            del line["seconds"], line["time"]
    for stack in results["stack"]:
        del stack["seconds"]
    del results["test"]["openings"]
    return {key: results[key] for key in ("trials", "members", "stack", "test", "paper")}


def test_on_ray_and_in_this_process_a_run_is_the_same(real: RunDir, whole: RunDir) -> None:
    assert "trial 0 started (the published point)" in (real.root / "printed.txt").read_text()
    assert fingerprint_of_run(real) == fingerprint_of_run(whole)


def test_a_run_leaves_the_whole_directory(whole: RunDir) -> None:
    results = read_json(whole.results)
    trials = results["trials"]
    assert [t["number"] for t in trials] == list(range(5))
    assert trials[0]["published"]
    assert trials[0]["state"] == "complete"
    assert {t["state"] for t in trials} <= {"complete", "stopped"}
    for trial in trials:
        if trial["state"] == "complete":
            assert trial["interval"][0] <= trial["value"] <= trial["interval"][1]
    assert len(results["members"]) == 2
    assert {s["name"] for s in results["stack"]} == {"logreg", "genetic"}
    who = {(row["who"], row["variant"]) for row in results["test"]["rows"]}
    best = results["members"][0]["trial"]
    assert (f"trial {best}, refitted", "no refinement") in who
    assert (f"trial {best}, refitted", "SALR_train") in who
    assert not any(row["transductive"] for row in results["test"]["rows"])
    assert (whole.report / "index.html").exists()


def test_checkpoints_are_gone_and_models_load(whole: RunDir) -> None:
    assert not list(whole.path.glob("trials/*/**/checkpoint.pt")) or all(
        "stopped" in json.dumps(t)
        for t in read_json(whole.results)["trials"]
        if list(whole.trial(t["number"]).path.glob("**/checkpoint.pt"))
    )
    best = read_json(whole.members)["members"][0]["trial"]
    assert (whole.trial(best).refit / "model" / "model.safetensors").exists()


def openings(run: RunDir) -> list[Any]:
    """The run's own lines of the ledger, which all runs of the root share."""
    run_id = read_json(run.plan_file)["run_id"]
    return [line for line in read_lines(run.ledger) if line["run_id"] == run_id]


def test_out_of_fold_rows_cover_every_labelled_clip_once(whole: RunDir) -> None:
    rows = Predictions.load(whole.stack("logreg") / "out_of_fold.npz")
    assert len(rows.clip_ids) == len(set(rows.clip_ids)) == 24
    assert all(clip_id.startswith("weak/") for clip_id in rows.clip_ids)


def test_mlflow_shows_every_trial(real: RunDir) -> None:
    import sqlite3

    with sqlite3.connect(real.root / "mlflow.db") as store:
        tags = store.execute(
            "select t.value from tags t join tags r on t.run_uuid = r.run_uuid where t.key = "
            "'soundsweep.trial' and r.key = 'soundsweep.run_id' and r.value = ?",
            (read_json(real.plan_file)["run_id"],),
        ).fetchall()
    assert sorted(int(value) for (value,) in tags) == list(range(5))


def test_resuming_a_finished_run_repeats_nothing(whole: RunDir, tmp_path: Path) -> None:
    run = RunDir(Path(shutil.copytree(whole.root, tmp_path / "runs")) / "it")
    metrics = {t.number: t.metrics.read_bytes() for t in run.trials()}
    in_process("run", "--resume", str(run.path), cwd=tmp_path, check=True)
    assert fingerprint_of_run(run) == fingerprint_of_run(whole)
    assert {t.number: t.metrics.read_bytes() for t in run.trials()} == metrics
    assert len(openings(run)) == read_json(run.results)["test"]["openings"] == 1


@pytest.mark.all
def test_killed_three_times_and_resumed_it_equals_the_uninterrupted_run(
    whole: RunDir, tmp_path: Path, task4_folder: Path
) -> None:
    run = RunDir(tmp_path / "runs" / "it")
    first = (*run_arguments(task4_folder),)
    generator = np.random.default_rng(0)
    moments = sorted(generator.choice(np.arange(3, 60), 3, replace=False))
    for attempt, lines in enumerate(moments):
        arguments = first if attempt == 0 else ("run", "--resume", "it", "--storage", "runs")
        _kill_after(int(lines), run, arguments, tmp_path)
    soundsweep("run", "--resume", "it", "--storage", "runs", cwd=tmp_path)
    assert fingerprint_of_run(run) == fingerprint_of_run(whole)
    for trial in run.trials():
        steps = [(line["fold"], line["step"]) for line in trial.read_metrics()]
        assert len(steps) == len(set(steps)), "an epoch ran twice"
    assert len(run.ledger.read_text().splitlines()) == 1


def _kill_after(lines: int, run: RunDir, arguments: tuple[str, ...], cwd: Path) -> None:
    """Start the command and SIGKILL its driver once so many epochs are on disk."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.run", *arguments],
        cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def is_there() -> bool:
        found = sum(len(t.read_metrics()) for t in run.trials())
        return found >= lines or driver.poll() is not None

    wait_until(is_there)
    driver.kill()
    driver.wait(PATIENCE)


@pytest.mark.all
def test_an_interrupt_ends_the_epoch_and_says_how_to_resume(
    tmp_path: Path, task4_folder: Path
) -> None:
    """Also in a fold that the search does not judge."""
    run = RunDir(tmp_path / "runs" / "it")
    driver = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.run", *run_arguments(task4_folder)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_until(
        lambda: (
            any(line["fold"] == 1 for t in run.trials() for line in t.read_metrics())
            or driver.poll() is not None
        )
    )
    driver.send_signal(signal.SIGTERM)
    output = driver.communicate(timeout=PATIENCE)[0]
    assert driver.returncode == 3, output
    assert f"--resume {run.path}" in output
    assert not run.scores.exists()
    assert read_json(run.results)["trials"][0]["state"] == "running"
    assert (run.report / "index.html").exists()


BAD = {
    "system": (("--system", "gcrn_vat"), "did you mean 'gcrnn_vat'"),
    "data set": (("--dataset", "synthetik"), "did you mean 'synthetic'"),
    "key": (("--set", "vat.epsilom=1"), "did you mean 'vat.epsilon'"),
    "value": (("--set", "network.attention_over=clases"), "classes, time, sigmoid"),
    "space": (("--space", "vat.epsilon=log:0:1"), "starts above 0"),
    "space key": (("--space", "vat.epsilom=log:0.1:1"), "did you mean 'vat.epsilon'"),
    "budget": (("--budget", "fast"), "quick, paper or a factor"),
    "learner": (("--stack", "logref"), "did you mean 'logreg'"),
    "trials": (("--trials", "many"), "--trials takes a number"),
    "embedded": (("--dataset", "synthetic", "--data", "."), "takes no folder"),
    "resume": (("--resume", "nothing"), "no run 'nothing'"),
    "protocol": (("--protocol", "papr"), "did you mean 'paper'"),
    "name": (("--name", "a/b"), "a name is one folder's name"),
    "time": (("--time-budget", "soon"), "2h, 90m or 1h30m"),
    "ray": (("--ray-address", "127.0.0.1:9"), "nothing answers there"),
    "ray address": (("--ray-address", "head"), "HOST:PORT, auto or local"),
    "gpus": (("--gpus-per-trial", "-1"), "--gpus-per-trial takes 0 or more"),
    "target": (("--set", "refinement.on=target"), "ask for it with --transductive"),
    "event thresholds": (("--stack", "genetic_events"), "which say nothing about time"),
    "workers": (("--workers-per-trial", "0"), "--workers-per-trial takes 1 or more"),
    "no folder": (("--data", "nowhere"), "nowhere does not exist"),
    "layout": (("--data", "/usr"), "holds no folder 'metadata'"),
    "permission": (("--storage", "/proc/runs"), "the storage root /proc/runs cannot be made"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    options, expected = BAD[case]
    done = in_process("run", "--storage", "runs", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_offers_the_nearest(tmp_path: Path) -> None:
    done = in_process("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'train'" in done.stderr


def _break_audio(data: Path) -> tuple[str, ...]:
    missing, empty, corrupt = sorted((data / "dataset/audio/train/weak").glob("*.wav"))[:3]
    missing.unlink()
    empty.write_bytes(b"")
    corrupt.write_bytes(b"no sound at all" * 20)
    return missing.name, empty.name, corrupt.name, "and missing", "is empty", "is no audio file"


def _silence(data: Path) -> tuple[str, ...]:
    """Seen only when it is decoded."""
    sounds = sorted((data / "dataset/audio/train/weak").glob("*.wav"))[:2]
    for sound in sounds:
        samples, rate = soundfile.read(sound)
        soundfile.write(sound, np.zeros_like(samples), rate)
    return (*(sound.name for sound in sounds), "silent")


def _break_labels(data: Path) -> tuple[str, ...]:
    weak, test = (data / "dataset/metadata" / name for name in ("train/weak.csv", "test/test.csv"))
    weak.write_text(weak.read_text().replace("Blender", "Blendr"))
    test.write_text(test.read_text().replace("0.100\t0.450", "0.100\t7.450"))
    return "'Blendr' is no class (did you mean 'Blender'?)", "event 0.100 to 7.450 s does not lie"


def _lose_a_class(data: Path) -> tuple[str, ...]:
    weak = data / "dataset/metadata/train/weak.csv"
    lines = weak.read_text().splitlines()
    weak.write_text("\n".join(line for line in lines if "Dishes" not in line) + "\n")
    return "Dishes", "no training clip"


@pytest.mark.parametrize(
    "breaks",
    [_break_audio, _break_labels, _lose_a_class, _silence],
)
def test_unusable_data_is_one_message_with_all_offenders(
    breaks: Callable[[Path], tuple[str, ...]], task4_copy: Path, tmp_path: Path
) -> None:
    expected = breaks(task4_copy)
    done = in_process(*run_arguments(task4_copy, *HERE), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for words in expected:
        assert words in done.stderr
    assert not list(tmp_path.glob("runs/*/trials")), "a trial was started"
    assert not list(tmp_path.glob("runs/store/*/index.json")), "a store was published"


CHANGED = {
    "system": ("--system", "gcrnn_vat/gcrnn"),
    "dataset": ("--dataset", "synthetic"),
    "seed": ("--seed", "7"),
    "set": ("--set", "vat.epsilon=3"),
}


@pytest.mark.parametrize("option", CHANGED)
def test_a_run_is_not_resumed_as_another(option: str, whole: RunDir) -> None:
    before = whole.plan_file.read_bytes()
    done = in_process("run", "--resume", "it", *CHANGED[option], cwd=whole.root.parent)
    assert done.returncode == 2
    assert f"was planned with --{option}" in done.stderr
    assert whole.plan_file.read_bytes() == before


def test_a_name_that_exists_is_refused(whole: RunDir, task4_folder: Path) -> None:
    done = in_process(*run_arguments(task4_folder), cwd=whole.root.parent)
    assert done.returncode == 2
    assert "a run named 'it' exists" in done.stderr


def test_changed_data_is_not_resumed(whole: RunDir, tmp_path: Path, task4_folder: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(task4_folder, copy)
    moved = tmp_path / "runs" / "it"
    shutil.copytree(whole.path, moved)
    plan = read_json(moved / "plan.json")
    plan["data"] = str(copy)
    (moved / "plan.json").write_text(json.dumps(plan))
    sound = next(copy.glob("**/audio/test/*.wav"))
    sound.write_bytes(sound.read_bytes() + b"\0\0")
    done = in_process("run", "--resume", "it", "--storage", "runs", cwd=tmp_path)
    assert done.returncode == 2
    assert "has changed" in done.stderr


def test_a_driven_run_is_refused(whole: RunDir) -> None:
    with RunDir(whole.path).drive():
        done = in_process("run", "--resume", str(whole.path), cwd=whole.root.parent)
    assert done.returncode == 2
    assert "being driven by another process" in done.stderr
