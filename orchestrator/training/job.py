"""One training of a trial: a fold, or the refit on all labelled clips; here or in workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from orchestrator.plan.plan import Plan
from orchestrator.runs.driver import check_generation
from orchestrator.runs.files import read_json
from orchestrator.runs.mirror import mirror_of
from orchestrator.runs.rundir import RunDir, TrialDir
from systems.context import Context, seed_of
from systems.data.dataset import Dataset
from systems.data.prepare import Sound
from systems.data.splits import Splits, TrainingData, training_data
from systems.errors import UserError
from systems.system import Input

Report = Callable[[dict[str, Any]], None]


def tell_nobody(report: dict[str, Any]) -> None:
    """The report of a training that nobody watches."""


def tell_all(training: Path) -> None:
    """Of a root that is a folder: what is written there is seen by all."""


@dataclass(frozen=True)
class Job:
    """What trials of a run share: the plan, the sound, and what each fold may see.

    No test label is in here. ``stores`` hold the sound by the inputs' keys, once for each that the
    run's configurations take; ``test`` names the clips that a final model predicts.
    """

    run: str
    generation: int
    plan: Plan
    folds: tuple[TrainingData, ...]
    refit: TrainingData
    stores: Mapping[str, Sound]
    test: tuple[str, ...]
    device: str
    address: str = ""  # of the storage root, where it is in an object store
    copy: str = ""  # and the id of the driver's copy of it
    published: Callable[[Path], None] = tell_all  # called by trainings between two epochs

    @classmethod
    def of(
        cls, run: RunDir, plan: Plan, dataset: Dataset, splits: Splits,
        stores: Mapping[str, Sound],
    ) -> Job:  # fmt: skip
        """The job of a run that is being driven, over finished stores, by the inputs' keys."""
        folds, copy = range(len(splits.folds)), mirror_of(run.root)
        return cls(
            run=str(run.path),
            generation=run.generation,
            plan=plan,
            folds=tuple(training_data(dataset, splits, fold, plan.metric) for fold in folds),
            refit=training_data(dataset, splits, None, plan.metric),
            stores=stores,
            test=tuple(clip.clip_id for clip in dataset.test_clips()),
            device="cuda" if plan.resources.gpus else "cpu",
            address=copy.address if copy else "",
            copy=copy.id if copy else "",
        )

    def trial(self, number: int) -> TrialDir:
        return RunDir(Path(self.run)).trial(number)

    def config(self, trial: TrialDir) -> Any:
        """The configuration that a trial trains."""
        return self.plan.trial_config(read_json(trial.config)["params"])

    def sounds(self, config: Any) -> dict[str, Sound]:
        """The sound that a configuration takes, by its inputs.

        Raises:
            UserError: the run holds none of such an input.
        """
        asked = inputs_of(self.plan, config)
        for one in asked.values():
            if one.key not in self.stores:
                raise UserError(
                    f"no sound at {one.key} is stored, but at {'; '.join(self.stores)}: search "
                    "what changes it by its values (one_of)."
                )
        return {name: self.stores[one.key] for name, one in asked.items()}

    def is_seen(self) -> bool:
        """Whether the run directory is seen from this node; of a root in an object store it is."""
        return bool(self.address) or (Path(self.run) / "driver").exists()

    def check_generation(self) -> None:
        """Raise :class:`Superseded` where another driver has taken the run over."""
        check_generation(Path(self.run), self.generation)

    def context(self, folder: Path | None = None, **about: Any) -> Context:
        """A context on the job's device whose checkpoints lie in a folder."""
        device = self.device
        if device == "cuda" and not torch.cuda.is_available():
            device = "cpu"  # of a process whose workers train, on a node without a GPU
        return Context(
            folder,
            device=device,
            threads=self.plan.resources.cpus,
            may_publish=partial(check_generation, Path(self.run), self.generation),
            **about,
        )


def inputs_of(plan: Plan, config: Any) -> dict[str, Input]:
    """The sound that a configuration takes, by the names of its inputs."""
    return plan.entry().build(config).inputs()


@dataclass(frozen=True)
class Task:
    """Train trial ``number`` on a fold; ``None`` is the refit on all labelled clips, which ends at
    ``last_step``. A ``snapshot`` is a refit that ends so and is kept beside the final one, or such
    a training of a fold: as the fold's was after that step, for it sees the same and validates
    nothing."""

    number: int
    fold: int | None
    last_step: int | None = None
    snapshot: bool = False

    def model(self, trial: TrialDir) -> Path:
        """Where the trained model goes."""
        if self.snapshot:
            assert self.last_step is not None
            return trial.snapshot_model(self.last_step, self.fold)
        return trial.refit / "model" if self.fold is None else trial.model(self.fold)

    def folder(self, trial: TrialDir) -> Path:
        """Where checkpoints go; all snapshots of a training go on from one."""
        if self.snapshot:
            return trial.refit / ("snapshots" if self.fold is None else f"snapshots_{self.fold}")
        return trial.refit if self.fold is None else trial.path / f"fold{self.fold}"

    def forget(self, trial: TrialDir) -> None:
        """Remove what the training, which is done, would go on from."""
        for path in self.folder(trial).glob("checkpoint*"):
            path.unlink(missing_ok=True)

    def log(self, trial: TrialDir) -> Path:
        """Where the epochs are noted."""
        if self.snapshot:
            return self.folder(trial) / "metrics.jsonl"
        return trial.refit_metrics if self.fold is None else trial.metrics

    def seed(self, plan: Plan) -> int:
        if self.fold is None:
            return seed_of(plan.seed, "refit", self.number)
        return seed_of(plan.seed, "trial", self.number, self.fold)
