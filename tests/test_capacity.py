"""What fits a machine or a cluster, what waits there, and what hangs; none of it starts Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_stopping import referee, small_search

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.plan.plan import Resources
from orchestrator.runs.rundir import RunDir
from orchestrator.search import capacity as asked
from orchestrator.search import watchdog
from orchestrator.search.capacity import HERE, Capacity, Node, check_fits
from orchestrator.search.gpu_share import share_in_words
from orchestrator.search.nodes import _faults, looker
from orchestrator.search.referee import Referee
from orchestrator.search.study import cause_of, state_name
from systems.errors import UserError

HEAD = Node(0, 0, is_head=True)
GPU = Node(8, 2)
PLACE = "the cluster at 10.0.0.1:6379"


@pytest.mark.parametrize(
    ("trial", "slots"),
    [
        (Resources(1, 1, 0), 10),
        (Resources(1, 4, 0), 2),  # none spans two nodes
        (Resources(1, 1, 1), 2),
        (Resources(1, 1, 0.25), 8),
        (Resources(1, 1, 0.6), 2),  # none spans two GPUs
        (Resources(1, 4, 0.1), 2),
        (Resources(1, 1, 1, workers=2), 1),
        (Resources(1, 3, 0, workers=2), 1),  # over nodes together
        (Resources(1, 9, 0), 0),
    ],
)
def test_as_many_trials_as_fit_the_nodes(trial: Resources, slots: int) -> None:
    there = Capacity(PLACE, (HEAD, GPU, Node(2)))
    assert there.slots(trial) == slots


def test_what_an_autoscaler_may_start_counts(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text(
        "max_workers: 4\nhead_node_type: head\navailable_node_types:\n"
        "  head: {resources: {CPU: 0}, node_config: {}}\n"
        "  small: {resources: {CPU: 2}, node_config: {}}\n"
        "  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 3, node_config: {}}\n"
    )
    kinds, most, unknown = asked._kinds(file)
    assert not unknown
    there = Capacity(PLACE, (HEAD,), kinds, most)
    assert there.slots(Resources(1, 1, 1)) == 3
    assert there.slots(Resources(1, 2, 0)) == 3 * 4 + 1  # the large ones first, 4 in all
    assert there.has_gpus
    assert not Capacity(PLACE, (HEAD, Node(2))).has_gpus
    with pytest.raises(UserError, match=r"16 CPUs.*no node has so much"):
        check_fits(Resources(1, 16, 0), there)


def test_what_machines_of_ones_own_have_is_not_known(tmp_path: Path) -> None:
    """As `ray up` leaves it of ``type: local``."""
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(
        "max_workers: 1\nhead_node_type: local.cluster.node\navailable_node_types:\n"
        "  local.cluster.node: {resources: {}, node_config: {}, max_workers: 1}\n"
    )
    assert asked._kinds(file) == ((), 1, True)


def test_a_trial_that_fits_nowhere_is_refused_with_what_there_is() -> None:
    there = Capacity(PLACE, (HEAD, Node(2), Node(2)))
    check_fits(Resources(1, 2, 0), there)
    check_fits(Resources(1, 1, 0, workers=4), there)
    with pytest.raises(UserError, match=r"2 nodes of 2 CPU, 1 node of 0 CPU|1 node of 0 CPU, 2"):
        check_fits(Resources(1, 3, 0), there)
    with pytest.raises(UserError, match="5 workers, each 1 CPU, and only 4 of them fit at once"):
        check_fits(Resources(1, 1, 0, workers=5), there)
    check_fits(Resources(1, 3, 0), Capacity(PLACE, (HEAD,), is_open=True))  # it may grow
    check_fits(Resources(1, 64, 0), Capacity(HERE, (Node(2),)))  # a Ray of our own takes it
    with pytest.raises(UserError, match="--gpus-per-trial 1: this machine has no CUDA device"):
        check_fits(Resources(1, 1, 1), Capacity(HERE, (Node(2),)))


def test_a_node_that_differs_is_named_with_what_to_do(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch()
    here = looker(str(token), None)()
    assert list(_faults(here, here)) == []
    assert {"Python", "torch", "ray", "soundsweep"} <= set(here["versions"])
    blind = looker(str(tmp_path / "none"), str(tmp_path / "data"))()
    storage, data = _faults({**here, "paths": blind["paths"]}, blind)
    assert f"does not see the storage root {tmp_path}" in storage
    assert str(tmp_path / "data") in data
    old = {**here, "versions": {**here["versions"], "torch": "1.0"}}
    assert "it runs torch 1.0 (here" in next(_faults(here, old))


def test_a_trial_hangs_when_it_is_silent_for_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    dog = watchdog.Watchdog()

    def after(seconds: float) -> None:
        now[0] += seconds

    dog.begins(0)
    dog.begins(1)
    after(3600 * 5)
    assert dog.silent() == []  # nobody knows how long an epoch takes
    dog.hears(0, new=False)  # told again by a trial that goes on
    assert dog.patience() == watchdog.UNKNOWN
    after(100)
    dog.hears(0, new=True)
    dog.hears(1, new=False)
    after(100 * watchdog.FACTOR)
    dog.hears(1, new=False)
    after(1)
    assert dog.silent() == [0]
    dog.ends(0)
    assert dog.silent() == []


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_trial_that_hangs_is_begun_again_once(whole: RunDir, tmp_path: Path) -> None:
    search = small_search(tmp_path / "study.log", whole)
    judge = referee(search, Stop(), up=False)
    search.ask()
    search.ask()
    judge.goes_on(1, {"step": 1, "metric": 0.5, "loss": 1.0})
    assert judge.hung(0, 1800)
    assert search.running() == [0, 1]
    assert not judge.hung(0, 1800)
    failed = search.trials()[0]
    assert state_name(failed) == "failed"
    assert "it hung: it said nothing for 30 min, twice" in str(cause_of(failed))


GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "gpus", "said"),
    [
        ([[3 * GIB, 24 * GIB], [4 * GIB, 24 * GIB]], 1, "4.0 GiB of a GPU's 24 GiB at most: "
         "--gpus-per-trial 0.25 would let 4 trials share one"),
        ([[GIB, 80 * GIB]], 0.5, "--gpus-per-trial 0.06 would let 16"),
        ([[4 * GIB, 24 * GIB]], 0.25, None),
        ([[20 * GIB, 24 * GIB]], 1, None),
        ([[GIB, 24 * GIB]], 2, None),
        ([], 1, None),
    ],
)  # fmt: skip
def test_a_share_of_a_gpu_is_proposed_where_more_trials_fit(
    memory: Any, gpus: float, said: str | None
) -> None:
    text = share_in_words(memory, gpus)
    assert text is None if said is None else said in str(text)


def test_the_share_is_told_once_after_the_first_trials(whole: RunDir, tmp_path: Path) -> None:
    told = Told()
    search = small_search(tmp_path / "study.log", whole)
    judge = Referee(search, 8, Stop(), told, referee(search, Stop(), False).clock, gpus=1)
    for number in range(4):
        search.ask()
        outcome = {"outcome": "complete", "value": 0.5, "gpu_memory": [2 * GIB, 16 * GIB]}
        judge.goes_on(number, outcome)
    assert told.lines == [
        "a trial took 2.0 GiB of a GPU's 16 GiB at most: --gpus-per-trial 0.2 would let 5 trials "
        "share one"
    ]
