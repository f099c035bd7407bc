"""The CPUs of the tasks after a search: the last ones share what would lie idle."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members import choose
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Resources
from orchestrator.plan.variants import decision_variants, variants_of
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.rundir import RunDir
from orchestrator.search import ray_session
from orchestrator.search.tasks import cpus_of_tasks, in_parallel
from orchestrator.training.job import Job


@pytest.mark.parametrize(
    ("count", "slots", "each", "expected"),
    [
        (3, 2, 1, [1, 1, 2]),
        (1, 2, 1, [2]),
        (4, 2, 1, [1, 1, 1, 1]),
        (3, 1, 1, [1, 1, 1]),
        (5, 8, 1, [1] * 5),
        (3, 8, 2, [4] * 3),
        (9, 8, 1, [1] * 8 + [8]),
        (0, 2, 1, []),
    ],
)
def test_the_last_tasks_share_the_slots_cpus(
    count: int, slots: int, each: int, expected: list[int]
) -> None:
    assert cpus_of_tasks(count, Resources(slots, each, 0)) == expected
    last = count % slots
    assert sum(expected[count - last :]) <= slots * each


def test_on_gpus_and_with_workers_all_tasks_get_the_same() -> None:
    assert cpus_of_tasks(3, Resources(2, 1, 0.5)) == [1, 1, 1]
    assert cpus_of_tasks(3, Resources(2, 1, 0, workers=2)) == [1, 1, 1]


def test_a_members_cpus_follow_from_its_place_and_not_from_what_is_left(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    plan = run.plan = make_plan(Options(concurrency=2, gpus_per_trial=0, final="refit"))[0]
    members = choose.members_of(run, (5, 6, 7))
    rows: Any = SimpleNamespace(members=members, last_steps=(1, 2, 3))

    def wanted() -> dict[int, int]:
        return {task[0]: cpus for task, cpus in choose.final_tasks(plan, rows, run, {})}

    assert wanted() == {5: 1, 6: 1, 7: 2}
    for place, number in enumerate((5, 6)):
        for variant in variants_of(plan, decision_variants(plan), place):
            path = run.trial(number).test_predictions(variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        assert wanted() == {5: {6: 1, 7: 2}, 6: {7: 2}}[number]


class AtOnce:
    """Stands for Ray: a task runs where it is begun, and what it asked for is noted."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, cores: int) -> None:
        self.cores, self.asked = cores, list[float]()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(self.cores)}}]

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> Any:
        def options(num_cpus: float, **about: Any) -> Any:
            def run(*arguments: Any) -> Any:
                self.asked.append(num_cpus)
                return object(), function(*arguments)

            return SimpleNamespace(remote=run)

        return SimpleNamespace(options=options)

    def wait(self, waiting: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return waiting, []

    def get(self, reference: Any) -> Any:
        return reference[1]


@pytest.mark.parametrize(("cores", "threads"), [(2, {7: 1, 8: 1, 9: 2}), (1, {7: 1, 8: 1, 9: 1})])
def test_ray_is_asked_for_the_cpus_that_a_task_computes_with(
    cores: int, threads: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a task are the same whatever a kill has left to do; a small node gets the plan's."""
    plan = make_plan(Options(concurrency=2, gpus_per_trial=0))[0]
    job = Job("run", 1, plan, (), None, {}, (), "cpu")  # type: ignore[arg-type]
    wanted = dict(zip((7, 8, 9), cpus_of_tasks(3, plan.resources), strict=True))
    monkeypatch.setattr(ray_session, "start_ray", lambda *about: None)
    for left in ((7, 8, 9), (8, 9), (9,), (7,)):
        ray, seen = AtOnce(cores), dict[int, int]()
        monkeypatch.setitem(sys.modules, "ray", ray)

        def note(job: Job, number: int, seen: dict[int, int] = seen) -> None:
            seen[number] = job.context().threads

        with Progress() as progress:
            in_parallel(
                note, job, [(n,) for n in left], [wanted[n] for n in left], plan.resources,
                Stop(), progress,
            )  # fmt: skip
        assert seen == {n: threads[n] for n in left}
        assert ray.asked == [seen[n] for n in left]
