"""Three nights in a row through the real command: seeds only, then code that got worse; a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from command import in_process, soundsweep, wait_until

from orchestrator.nightly.record import Nights
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir

FAKE = Path(__file__).parent / "fakepaper"
RATE = 16_000


def made(root: Path, **study: Any) -> Path:
    """A table of tones, and a nightly file over it."""
    rows = ["path,labels,part"]
    for n in range(44):
        part = ("train", "validation")[n >= 16] if n < 40 else "test"
        t = np.arange(RATE) / RATE
        r = np.random.default_rng(n)
        sound = 0.3 * np.sin(2 * np.pi * (300, 2500)[n % 2] * t) + 0.03 * r.normal(size=RATE)
        soundfile.write(root / f"{n}.wav", sound, RATE)
        rows.append(f"{n}.wav,{('low', 'high')[n % 2]},{part}")
    (root / "tones.csv").write_text("\n".join(rows) + "\n")
    asked = {"system": "fakepaper/classes", "dataset": "table", "data": str(root / "tones.csv"),
             "trials": 2, "budget": "paper", "stack": "mean",
             "space": {"training.learning_rate": "log:0.03:0.08"}, **study}  # fmt: skip
    file = root / "nightly.yaml"
    about = {"storage": "runs", "ray_address": "none", "studies": {"tones": asked}}
    file.write_text(yaml.safe_dump(about))
    return file


def night(root: Path, day: int, **environment: str) -> subprocess.CompletedProcess[str]:
    return soundsweep("nightly", str(root / "nightly.yaml"), "--night", f"2026-11-{day:02d}",
                      cwd=root, check=False, paths=(FAKE,), **environment)  # fmt: skip


@pytest.mark.all
def test_three_nights_of_which_the_third_is_worse(tmp_path: Path) -> None:
    made(tmp_path)
    for day in (1, 2):  # only seeds and draws differ
        done = night(tmp_path, day)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All well: tones." in done.stdout
    done = night(tmp_path, 3, FAKEPAPER_DEAF="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Regression of tones." in done.stdout
    assert "Traceback" not in done.stderr
    page = tmp_path / "runs" / "nights" / "2026-11-03" / "index.html"
    assert f"page of the morning: {page}" in done.stdout
    assert "each worse than every reference" in page.read_text()
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("soundsweep/table")
    assert experiment is not None
    shown = client.search_runs(
        [experiment.experiment_id], "tags.`soundsweep.night` = '2026-11-03'", max_results=100
    )
    trials = [one for one in shown if "soundsweep.trial" in one.data.tags]
    assert len(trials) == 2 + 4  # new draws, and the watched one with four seeds


@pytest.mark.all
def test_a_night_that_is_killed_is_gone_on_with(tmp_path: Path) -> None:
    file = made(tmp_path, trials=12)
    arguments = [sys.executable, "-m", "orchestrator.run", "nightly", str(file), "--night",
                 "2026-11-01"]  # fmt: skip
    paths = os.pathsep.join([str(FAKE), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(arguments, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths})
    run = RunDir(tmp_path / "runs" / "tones")
    wait_until(lambda: len([t for t in run.trials() if t.result.exists()]) > 3)
    process.send_signal(signal.SIGSTOP)  # it drives on while the second one starts
    second = night(tmp_path, 2)
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = {t.number: read_json(t.result) for t in run.trials() if t.result.exists()}
    listed = in_process("status", "--storage", str(tmp_path / "runs"), cwd=tmp_path).stdout
    assert "interrupted" in listed
    done = night(tmp_path, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = {t.number: read_json(t.result) for t in run.trials() if t.result.exists()}
    assert {n: trials[n] for n in ended} == ended
    assert len(list(run.trials())) == 12
    record = Nights(tmp_path / "runs").read("2026-11-01")
    assert record is not None
    assert tuple(record.studies["tones"].trials) == (0, 12)
