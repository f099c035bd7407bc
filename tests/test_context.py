"""The context: seeds by step, checkpoints by phase, and a driver that has been superseded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch

from orchestrator.runs.driver import check_generation
from orchestrator.runs.lease import Superseded
from orchestrator.runs.rundir import RunDir
from systems.context import Context, seed_of


def test_a_step_is_a_function_of_seed_and_step() -> None:
    def draw(seed: int, step: int) -> tuple[float, float]:
        generator = Context(seed=seed).seed_step(step)
        return generator.random(), float(torch.rand(1))

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3)
    assert draw(1, 2) != draw(2, 2)


def test_phases_have_checkpoints_and_seeds_of_their_own(tmp_path: Path) -> None:
    told: list[int] = []

    def on_report(step: int, metrics: Mapping[str, float]) -> None:
        told.append(step)

    parent = Context(tmp_path, seed=5, on_report=on_report)
    one, two = parent.child("round3/fold1"), parent.child("round3/fold2", silent=True)
    one.save({"step": 1, "weights": torch.ones(2)})
    assert two.restore() is None
    restored = parent.child("round3/fold1").restore()
    assert restored is not None
    assert restored["step"] == 1
    assert one.seed == seed_of(5, "round3/fold1") != two.seed
    one.report(1, {})
    two.report(2, {})
    assert told == [1]


def test_a_superseded_driver_publishes_no_checkpoint(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").drive()
    guard = partial(check_generation, run.path, run.generation)
    context = Context(tmp_path / "trial", may_publish=guard)
    context.save({"step": 1})
    run.close()
    later = RunDir(run.path).drive()
    assert later.generation == run.generation + 1
    with pytest.raises(Superseded):
        context.save({"step": 2})
    kept = context.restore()
    assert kept is not None
    assert kept["step"] == 1
    later.close()
