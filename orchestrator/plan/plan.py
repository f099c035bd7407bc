"""A run, resolved: what is asked for, as data. Nothing here imports torch or Ray."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.plan.options import Purpose
from orchestrator.plan.search import HalvingSettings, SamplerSettings
from orchestrator.plan.stage import StageSettings
from search_spaces import Parameter, SearchSpace
from systems import config as configs
from systems import registry
from systems.budget import Budget
from systems.data.protocol import Protocol
from systems.kinds import KINDS, kind
from systems.metrics import metric

IN_PROCESS = "none"  # the Ray address of a run without Ray: all in its own process


@dataclass(frozen=True)
class MemberRef:
    """A member of a stack over several runs: the run's directory, the trial, and its system."""

    run: str
    trial: int
    system: str


@dataclass(frozen=True)
class Resources:
    """How many trials run at once; CPUs and GPUs of each of a trial's workers, and their number.

    ``as_fit``: nobody asked for so many at once: they are as many as fitted where the run was
    planned. On a cluster that changes meanwhile there are as many as fit then.
    """

    concurrency: int
    cpus: int
    gpus: float
    workers: int = 1
    as_fit: bool = False

    @property
    def total_cpus(self) -> int:
        """CPUs that all trials at once take."""
        return self.concurrency * self.cpus * self.workers

    def of_process(self) -> tuple[float, float]:
        """CPUs and GPUs of a trial's own process; none of one whose workers ask for theirs: two
        trials that each hold a part of a CPU could wait for each other's."""
        return (0, 0) if self.workers > 1 else (self.cpus, self.gpus)

    def in_words(self) -> str:
        """What a trial takes: ``2 workers, each 1 CPU and 0.5 GPU``."""
        each = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        each += f" and {self.gpus:g} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        return f"{self.workers} workers, each {each}" if self.workers > 1 else each


@dataclass(frozen=True)
class Plan:
    """A run, resolved. Written once as plan.json; resuming reads it back."""

    name: str
    run_id: str
    created: str
    system: str
    dataset: str
    data: str | None
    fingerprint: str
    classes: tuple[str, ...]
    parts: dict[str, dict[str, Any]]
    splits: dict[str, Any]
    metric: str
    space: tuple[Parameter, ...]
    config: dict[str, Any]
    first_trial: dict[str, Any]
    moved: dict[str, Any]
    budget: Budget
    scaled: dict[str, tuple[Any, Any]]
    trials: int
    seed: int
    sampler: SamplerSettings
    halving: HalvingSettings | None
    resources: Resources
    stage: StageSettings
    transductive: bool
    mlflow: str | None
    purpose: Purpose = "search"
    protocol: str = "honest"
    split_by: Protocol | None = None  # of a paper; else the honest default
    test_parts: tuple[str, ...] = ("test",)
    place: str = "this machine"  # what the run was planned for: this machine, or a cluster
    time_budget: float | None = None  # seconds, of the whole run
    search_share: float = 1.0  # of the time budget
    ray_address: str | None = None
    mixed_precision: bool = False
    skip_broken: bool = False
    skip_shared: bool = False
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    members: tuple[MemberRef, ...] = ()  # of a stack over several runs
    fusion: str | None = None  # the node of the registered fusion that this run is
    required: dict[str, str] = field(default_factory=dict)  # name -> directory of the run
    teaches: bool = False  # others learn from it, and that is all: it ends before the final models
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None

    def search_space(self) -> SearchSpace:
        return SearchSpace(self.metric, self.mode, self.space)

    @property
    def mode(self) -> Literal["max", "min"]:
        """Whether more (``max``) or less (``min``) of the metric is better."""
        return metric(self.metric).mode

    def entry(self) -> registry.Entry:
        return registry.get(self.system)

    def requires(self) -> registry.Requires:
        """What the system learns from, as it is configured."""
        return self.entry().required(self.base_config())

    @property
    def repeats(self) -> bool:
        """Whether trials differ in their seeds alone, and all of them are scored."""
        every = self.purpose == "search" and not self.space and self.stage.top_k >= self.trials
        return self.purpose == "train" or every

    def base_config(self) -> Any:
        """The configuration before searched values and budget."""
        return configs.from_dict(type(self.entry().config), self.config)

    def trial_config(self, params: dict[str, Any]) -> Any:
        """The configuration that a trial with these searched values trains."""
        return self.budget.apply(configs.replace(self.base_config(), params))

    def steps(self) -> int:
        """Epochs of one whole training."""
        return steps_of(self.entry(), self.trial_config(self.first_trial))

    def final_is_refit(self) -> bool:
        """Whether members train again on all labelled clips; else the fold's model is the model."""
        return self.purpose != "train" and not self.stage.folds_predict

    def exclusive(self) -> bool:
        """Whether the classes exclude each other: a clip has one, not tags."""
        kinds = [kind(about["labels"]) for about in self.parts.values() if about["labels"] in KINDS]
        decided = [one for one in kinds if one.decide is not None]
        return bool(decided) and all(one.exclusive for one in decided)

    def search_end(self) -> float | None:
        """The run's time at which its search ends, in seconds; ``None`` for never."""
        return None if self.time_budget is None else self.search_share * self.time_budget

    def planned_share(self) -> float:
        """The share of the time budget at which the search ends.

        What follows it are the members' missing folds and refits; a search that stops trials early
        is counted with half of its trainings.
        """
        searching = self.trials * self.splits["searched"] * (0.5 if self.halving else 1.0)
        missing = len(self.splits["folds"]) - self.splits["searched"]
        following = min(self.stage.top_k, self.trials) * (missing + self.final_is_refit())
        return min(0.9, max(0.5, searching / (searching + following)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """The inverse of :meth:`to_json` after a way through a file."""
        return configs.from_dict(cls, value)


def steps_of(entry: registry.Entry, config: Any) -> int:
    return int(configs.get(config, entry.schedule[0])) if entry.schedule else 1
