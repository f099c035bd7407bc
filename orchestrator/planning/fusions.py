"""What a graph of nodes trains, and what is wrong with it and can be known before it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.plan.options import Options
from orchestrator.planning.learners import stack_names
from orchestrator.planning.resolve import dataset_of, make_plan
from orchestrator.stacking.families import kind_of
from orchestrator.stacking.learners.means import Weights
from systems import config as configs
from systems import registry
from systems.data.dataset import Dataset
from systems.errors import UserError, unknown
from systems.registry import Entry, Fusion, Node


class Graph:
    """The nodes that a node needs, in the order of their training, it being the last.

    ``options``: of the whole; what of them a node takes is :meth:`of`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        entries = [node.entry for node in registry.resolve(options.system)]
        first = next(entry for entry in entries if isinstance(entry, Entry))
        self.dataset = dataset_of(options, first)[0]
        self.nodes = registry.resolve(options.system, self.dataset, options.set)

    @property
    def target(self) -> Node:
        """What was asked for."""
        return self.nodes[-1]

    def node(self, name: str) -> Node:
        """What a member or a requirement names."""
        return registry.node(name, self.dataset, self.options.set)

    def scored(self) -> set[str]:
        """The keys of the nodes that are to be scored: the target and, of a fusion, its members;
        the others only teach."""
        found = {self.target.key}
        for node in reversed(self.nodes):
            if node.key in found and isinstance(node.entry, Fusion):
                found |= {self.node(name).key for name in node.entry.members}
        return found

    def trainings(self) -> Counter[str]:
        """How many trainings of each node, by its key, the fusions need."""
        wanted: Counter[str] = Counter()
        for node in self.nodes:
            if isinstance(node.entry, Fusion):
                wanted |= Counter(self.node(name).key for name in node.entry.members)
        return wanted

    def of(self, node: Node) -> Options:
        """The options of a node: values are set, and ranges searched, where it has the key."""
        return replace(
            self.options, system=node.name, set=_taken(node, self.options.set),
            space=_taken(node, self.options.space),
        )  # fmt: skip


def _taken(node: Node, given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if _takes(node, key)}


def _takes(node: Node, key: str) -> bool:
    return node.config is not None and key not in node.overrides and configs.has(node.config, key)


def check_graph(graph: Graph) -> None:
    """Check every fusion that is to be fitted, by itself and against the data.

    Raises:
        UserError: an unknown meta-learner or setting, members that do not fit together, too few
            trials, a key that no system has, or data that lacks what a fusion needs.
    """
    options = graph.options
    if isinstance(graph.target.entry, Fusion):
        _check_options(graph.target.entry, options)
    fusions = [node for node in graph.nodes if isinstance(node.entry, Fusion)]
    for node in fusions:
        _check(node, graph)
    wanted = graph.trainings()
    for node in graph.nodes:
        few = options.trials is not None and options.trials < wanted[node.key]
        if few and not options.repeat:
            raise UserError(
                f"--trials {options.trials}: the fusion takes {wanted[node.key]} trainings of "
                f"{node.name}: give --trials {wanted[node.key]} or more, or none."
            )
    systems = [node for node in graph.nodes if isinstance(node.entry, Entry)]
    _check_keys("--set", options.set, systems)
    _check_keys("--space", options.space, systems)
    if fusions:
        _, dataset, _ = make_plan(graph.of(systems[0]))
        for node in fusions:
            _check_data(node, dataset, graph)


def _check_keys(option: str, given: Mapping[str, Any], systems: Sequence[Node]) -> None:
    """Refuse a key that no system takes."""
    for key in given:
        if any(_takes(node, key) for node in systems):
            continue
        fixing = [node.name for node in systems if key in node.overrides]
        if fixing:
            raise UserError(f"{option} {key}: each of {', '.join(fixing)} fixes it.")
        for node in systems:
            configs.get(node.config, key)  # names the nearest
        raise AssertionError(key)


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


def _check(node: Node, graph: Graph) -> None:
    fusion = node.entry
    assert isinstance(fusion, Fusion)
    kind = kind_of(fusion.learner)
    settings = configs.replace(kind.Settings(), dict(fusion.settings))
    count = len(fusion.members)
    if isinstance(settings, Weights) and len(settings.weights) not in (0, count):
        raise UserError(f"{node.name}: {len(settings.weights)} weights for {count} members.")
    members = [graph.node(name) for name in fusion.members]
    for inner in members:
        if isinstance(inner.entry, Fusion) and inner.entry.final != fusion.final:
            raise UserError(
                f"{inner.name} predicts by {inner.entry.final}, {node.name} by {fusion.final}: a "
                "fusion of fusions takes one kind of final model."
            )
    systems = {one.key: one.name for one in members if isinstance(one.entry, Entry)}
    if fusion.events_of and graph.node(fusion.events_of).key not in systems:
        raise unknown(
            f"system among the members of {node.name}", fusion.events_of, systems.values()
        )


def _check_data(node: Node, dataset: Dataset, graph: Graph) -> None:
    fusion = node.entry
    assert isinstance(fusion, Fusion)
    below = registry.resolve(node.name, graph.dataset, graph.options.set)
    given = [set(one.entry.gives) for one in below if isinstance(one.entry, Entry)]
    stack_names(fusion.learner, dataset, tuple(sorted(set.intersection(*given))), registered=True)
    columns = {column for clip in dataset.role("labelled") for column in clip.columns}
    for column in fusion.row_weights:
        if column not in columns:
            raise unknown(f"column of {dataset.name}, by which rows weigh,", column, columns)


def preview(graph: Graph) -> list[tuple[str, str]]:
    """What a graph would train: kind and name of each node, in order.

    Raises:
        UserError: what a run of it would be refused for.
    """
    check_graph(graph)
    for node in graph.nodes:
        if isinstance(node.entry, Entry):  # what was asked for is checked as for a run
            make_plan(graph.of(node))
    return [("fusion" if isinstance(n.entry, Fusion) else "system", n.name) for n in graph.nodes]
