"""What a trial's failure is told as, and files that a kill or a full disk left."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from orchestrator.runs.files import append_line, disk_is_full, read_lines
from orchestrator.runs.rundir import RunDir
from orchestrator.training.job import Job, tell_nobody
from orchestrator.training.trial import run_trial
from orchestrator.training.workers import _failure
from systems.errors import Diverged, UserError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# What a training raises: the outcome, words of its cause, attempts that count.
RAISED: dict[str, tuple[Exception, str, str, int]] = {
    "GPU memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                   "failed", "out of GPU memory: give a trial more of a GPU", 1),
    "loss": (Diverged("the loss is nan in epoch 2"), "diverged", "the loss is nan in epoch 2", 1),
    "user": (UserError("no such clip"), "failed", "no such clip", 1),
    "code": (KeyError("a\nb"), "failed", "KeyError: 'a", 1),
    "permission": (PermissionError(errno.EACCES, "Permission denied"), "failed", "Permission", 1),
    "disk": (FULL, "halted", "Free some space, then resume the run", 0),
}  # fmt: skip


def bare_job(whole: RunDir, run: RunDir) -> Job:
    """What a trial needs that does not come to its training."""
    plan, none = whole.plan, cast(Any, None)
    return Job(str(run.path), run.generation, plan, (), none, none, (), "cpu")


@pytest.mark.parametrize("case", RAISED)
def test_whatever_a_training_raises_is_an_outcome(
    case: str, whole: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, outcome, cause, attempts = RAISED[case]

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("orchestrator.training.trial._train_folds", fail)
    with RunDir(tmp_path / "it").drive() as run:
        found = run_trial(bare_job(whole, run), 0, {}, tell_nobody)
    assert found["outcome"] == outcome
    assert cause in found["cause"]
    assert "\n" not in found["cause"]
    assert ("traceback" in found) == (case in ("GPU memory", "code", "permission"))
    assert len(run.trial(0).attempts()) == attempts
    assert run.trial(0).result.exists() == (outcome != "halted")


def test_a_torn_line_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": 2, "b')
    assert read_lines(path) == [{"a": 1}]
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1}, {"a": 3}]


def test_a_trial_that_cannot_keep_its_books_fails(whole: RunDir, tmp_path: Path) -> None:
    with RunDir(tmp_path / "it").drive() as run:
        run.trial(0).path.mkdir(parents=True)
        (run.trial(0).path / "attempts").write_text("no folder")
        found = run_trial(bare_job(whole, run), 0, {}, tell_nobody)
    assert found["outcome"] == "failed"
    assert "attempts" in found["cause"]


def test_a_disk_that_is_full_in_a_worker_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    """It cannot write its failure down; Ray Train tells it within a text."""
    told = RuntimeError(f"[Rank 0] OSError: [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}")
    assert disk_is_full(_failure(tmp_path / "worker_failure.json", told), tmp_path)
    other = RuntimeError("[Rank 0] ValueError: no")
    assert _failure(tmp_path / "worker_failure.json", other) is other


def test_a_kill_cannot_set_the_generation_back(tmp_path: Path, monkeypatch: Any) -> None:
    """The driver file is never empty between two drivers."""
    run = RunDir(tmp_path / "it")
    run.drive().close()
    sizes = []

    def watched(value: Any, **options: Any) -> str:
        sizes.append((run.path / "driver").stat().st_size)
        return dumps(value, **options)

    dumps = json.dumps
    monkeypatch.setattr("orchestrator.runs.files.json.dumps", watched)
    assert RunDir(run.path).drive().generation == 2
    assert sizes
    assert min(sizes) > 0
