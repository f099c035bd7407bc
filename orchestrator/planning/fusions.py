"""What is wrong with a fusion and can be known before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.plan.options import Options
from orchestrator.planning.learners import stack_names
from orchestrator.planning.resolve import make_plan
from orchestrator.stacking.families import kind_of
from orchestrator.stacking.learners.means import Weights
from systems import config as configs
from systems import registry
from systems.data.dataset import Dataset
from systems.errors import UserError, unknown
from systems.registry import Entry, Fusion


def _check_options(fusion: Fusion, options: Options) -> None:
    """Refuse options that a registered fusion answers itself."""
    said = {
        "--stack": options.stack not in (Options.stack, "none"),
        "--top-k": options.top_k != Options.top_k,
        "--final": options.final != Options.final,
        "--by-fold": options.by_fold is not None,
    }
    for option, asked in said.items():
        if asked:
            raise UserError(
                f"{option}: {fusion.address} names its members, its meta-learner and what predicts "
                "the test part itself. For others: soundsweep stack."
            )


def check_graph(order: Sequence[Entry | Fusion], options: Options) -> None:
    """Check every fusion that is to be fitted, by itself and against the data.

    Raises:
        UserError: an unknown meta-learner or setting, members that do not fit together, too few
            trials, or data that lacks what a fusion needs.
    """
    if isinstance(order[-1], Fusion):
        _check_options(order[-1], options)
    fusions = [entry for entry in order if isinstance(entry, Fusion)]
    for fusion in fusions:
        _check(fusion)
    for address, count in trainings(order).items():
        if options.trials is not None and options.trials < count:
            raise UserError(
                f"--trials {options.trials}: the fusion takes {count} trainings of {address}: "
                f"give --trials {count} or more, or none."
            )
    if fusions:
        first = next(entry for entry in order if isinstance(entry, Entry))
        _, dataset, _ = make_plan(replace(options, system=first.address))
        for fusion in fusions:
            _check_data(fusion, dataset)


def trainings(order: Sequence[Entry | Fusion]) -> Counter[str]:
    """How many trainings of each system the fusions among these need."""
    wanted: Counter[str] = Counter()
    for entry in order:
        if isinstance(entry, Fusion):
            wanted |= Counter(registry.find(name).address for name in entry.members)
    return wanted


def _check(fusion: Fusion) -> None:
    kind = kind_of(fusion.learner)
    settings = configs.replace(kind.Settings(), dict(fusion.settings))
    count = len(fusion.members)
    if isinstance(settings, Weights) and len(settings.weights) not in (0, count):
        raise UserError(f"{fusion.address}: {len(settings.weights)} weights for {count} members.")
    members = [registry.find(name) for name in fusion.members]
    for inner in members:
        if isinstance(inner, Fusion) and inner.final != fusion.final:
            raise UserError(
                f"{inner.address} predicts by {inner.final}, {fusion.address} by {fusion.final}: a "
                "fusion of fusions takes one kind of final model."
            )
    systems = [member.address for member in members if isinstance(member, Entry)]
    if fusion.events_of and registry.find(fusion.events_of).address not in systems:
        raise unknown(f"system among the members of {fusion.address}", fusion.events_of, systems)


def _check_data(fusion: Fusion, dataset: Dataset) -> None:
    below = registry.resolve(fusion.address)
    given = [set(entry.gives) for entry in below if isinstance(entry, Entry)]
    stack_names(fusion.learner, dataset, tuple(sorted(set.intersection(*given))), registered=True)
    columns = {column for clip in dataset.role("labelled") for column in clip.columns}
    for column in fusion.row_weights:
        if column not in columns:
            raise unknown(f"column of {dataset.name}, by which rows weigh,", column, columns)


def preview(options: Options) -> list[tuple[str, str]]:
    """What a fusion, or a system that learns from others, would train: kind and address, in order.

    Raises:
        UserError: what a run of it would be refused for.
    """
    order = registry.resolve(options.system)
    check_graph(order, options)
    for entry in order:
        if isinstance(entry, Entry):  # what was asked for is checked as for a run
            make_plan(replace(options, system=entry.address))
    return [("fusion" if isinstance(one, Fusion) else "system", one.address) for one in order]
