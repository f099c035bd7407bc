"""The registry: every published system under ``PAPER/SYSTEM``, and what goes with it as data.

``PAPER`` alone is the paper's main system, ``PAPER/SYSTEM#VARIANT`` the configuration of one of its
figures: a *node*. A module in :mod:`systems.papers` registers its own systems; another package adds
papers by the entry-point group ``soundsweep.papers``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from systems import config as configs
from systems.data import EMBEDDED
from systems.data.dataset import LabelKind
from systems.data.protocol import Protocol
from systems.errors import UserError, unknown
from systems.figures import Figure, figure_called
from systems.installed import bibtex, papers
from systems.objective import Objective
from systems.requirement import Requirement, Requires

if TYPE_CHECKING:  # which loads torch
    from systems.system import System

__all__ = [
    "Entry",
    "Fusion",
    "Node",
    "Requirement",
    "Requires",
    "Traits",
    "bibtex",
    "entries",
    "find",
    "fusion_node",
    "fusions",
    "get",
    "node",
    "papers",
    "register",
    "resolve",
]  # fmt: skip

B = TypeVar("B", bound=Callable[..., Any])


@dataclass(frozen=True)
class Traits:
    """What the orchestrator may do with a system.

    ``comparable_steps``: its steps may be compared across trials, so that bad ones are stopped.
    """

    data_parallel: bool = True
    comparable_steps: bool = True


@dataclass(frozen=True)
class Registered:
    """What is addressed ``PAPER/NAME``."""

    name: str
    paper: str

    @property
    def address(self) -> str:
        """``PAPER/NAME``."""
        return f"{self.paper}/{self.name}"

    @property
    def is_main(self) -> bool:
        """Whether ``PAPER`` alone means it: the first that its module registers."""
        return next(iter(_of_paper(self.paper))) == self.name


@dataclass(frozen=True)
class Fusion(Registered):
    """A registered fusion: members in order, the meta-learner over them, and the paper's figures.

    A system that is named several times stands for as many trainings: its best trials, or, where
    nothing is searched, trainings of the published point with other seeds. A member may be a fusion
    itself.

    ``settings``: of the meta-learner. ``final``: what members predict the test part with: a
    ``refit`` on all labelled clips, or the arithmetic or geometric mean of their folds' models
    (``fold_mean``, ``fold_geometric``). ``by_fold``: a meta-learner for each fold, over its own
    rows and models. ``pool``: whether clips are fused, or frames (chunks) over which a clip is the
    mean or the vote. ``events_of``: the member whose own events are kept where the fused tags say
    so. ``row_weights``: of the rows that it is fitted on, by a column of the clip and its value, as
    text; rows of weight 0 are no part of its metric either. ``fitted_on``: where the paper fitted
    it, which ``--protocol paper`` does too. ``protocol``: what its members are trained and judged
    on instead of their own, where that is asked for. ``figures``: those of ``results.csv`` that it
    is, with the fields that differ in each; ``unmapped``: variant -> why it cannot be run.
    """

    members: tuple[str, ...]
    learner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    final: Literal["refit", "fold_mean", "fold_geometric"] = "refit"
    by_fold: bool = False
    pool: Literal["clips", "frame_mean", "frame_vote"] = "clips"
    events_of: str | None = None
    row_weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fitted_on: Literal["out_of_fold", "validation", "test"] = "out_of_fold"
    protocol: Any = None
    figures: tuple[Figure, ...] = ()
    unmapped: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""

    def at(self, overrides: Mapping[str, Any]) -> Fusion:
        """The fusion with some fields changed, as its figures say.

        Raises:
            UserError: it has no such field.
        """
        known = {one.name for one in fields(self)} - {"name", "paper", "figures", "unmapped"}
        changed: dict[str, Any] = {"settings": dict(self.settings)}
        for key, value in overrides.items():
            field_name, _, setting = key.partition(".")
            if field_name not in known or (setting and field_name != "settings"):
                raise unknown(f"field of the fusion {self.address}", key, known)
            if setting:
                changed["settings"] = {**changed["settings"], setting: value}
            else:
                changed[key] = value
        return replace(self, **changed)


@dataclass(frozen=True)
class Entry(Registered):
    """One registered system.

    ``config``: the paper's values. ``published``: other values of the paper by data set.
    ``schedule``: integer keys that a budget factor scales. ``quick``: what ``--budget quick``
    sets; searched keys among it leave the space. ``figures``: what rows of ``results.csv`` are of;
    those that change only keys below ``decision`` need no training of their own.
    ``unmapped``: variant -> why it cannot be run. ``labels``: the kind of training labels it needs.
    ``gives``: the kinds of predictions that stage two gets.
    ``requires``: name -> what is trained before it, which its training reaches as
    ``context.required(name)``; or a function configuration -> such a mapping. ``example``: the data
    set that it learns from where none is named; without one the embedded set of its kind of labels.
    ``outputs``: which of the values that the data set has of a clip it answers; of none all.
    ``parameters``: of its network at the paper's values and number of ``classes``, published or
    counted, with or without the running statistics of its norms. ``tiny``: values at which it
    trains in seconds, for tests.
    ``protocol``: the paper's splits, which ``--protocol paper`` uses, and the clips that its
    metrics are of, which always hold. ``objective``: what the paper's search ranks trials by.
    """

    build: Callable[..., System]
    config: Any
    task: str
    dataset: str
    labels: tuple[LabelKind, ...]
    schedule: tuple[str, ...] = ()
    quick: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    unmapped: Mapping[str, str] = field(default_factory=dict)
    decision: str | None = None
    gives: tuple[str, ...] = ("clip_scores", "frame_scores")
    requires: Requires | Callable[[Any], Requires] = field(default_factory=dict)
    traits: Traits = Traits()
    example: str | None = None
    outputs: tuple[str, ...] = ()
    protocol: Protocol | None = None
    parameters: int | None = None
    classes: int = 10
    tiny: Mapping[str, Any] = field(default_factory=dict)
    objective: Objective | None = None
    summary: str = ""

    def embedded(self) -> str:
        """The data set that it learns from where none is named.

        Raises:
            UserError: none is embedded for its kind of labels.
        """
        found = self.example or next((EMBEDDED[k] for k in self.labels if k in EMBEDDED), None)
        if found is None:
            raise UserError(
                f"{self.address} learns from {' or '.join(self.labels)}, for which no data set is "
                f"embedded: name one with --data (the paper's is {self.dataset})."
            )
        return found

    def published_config(self, dataset: str) -> Any:
        """The paper's configuration for a data set."""
        return configs.replace(self.config, self.published.get(dataset, {}))

    def required(self, config: Any) -> Requires:
        """What is trained before it at a configuration."""
        return self.requires(config) if callable(self.requires) else self.requires


@dataclass(frozen=True)
class Node:
    """A system at a configuration, or a fusion at its fields.

    ``name``: ``PAPER/SYSTEM`` or ``PAPER/SYSTEM#VARIANT``; ``overrides``: what the variant fixes;
    ``config``: the whole configuration, ``None`` of a fusion.
    """

    entry: Entry | Fusion
    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config: Any = None

    @property
    def key(self) -> str:
        """The same of nodes that are the same configuration, whatever they are called."""
        if isinstance(self.entry, Fusion):
            same = {k: v for k, v in asdict(self.entry).items() if k not in ("figures", "unmapped")}
            return json.dumps(same, sort_keys=True, default=str)
        return f"{self.entry.address} {configs.to_json(self.config)}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the nodes that must be trained before it."""
        if isinstance(self.entry, Fusion):
            return self.entry.members
        return tuple(one.address for one in self.requires.values())

    @property
    def requires(self) -> Requires:
        """What it learns from; nothing of a fusion."""
        return {} if isinstance(self.entry, Fusion) else self.entry.required(self.config)


_ENTRIES: dict[str, Entry | Fusion] = {}


class Register:
    """``@register("paper", ...)`` on a function configuration -> system."""

    def __call__(
        self, name: str, *, config: Any, task: str, dataset: str, **about: Any
    ) -> Callable[[B], B]:
        """Register the decorated function; ``name`` is ``PAPER`` or ``PAPER/SYSTEM``."""

        def decorate(build: B) -> B:
            paper, system = _split(name)
            summary = (build.__doc__ or "").strip().split("\n")[0]
            _add(Entry(system, paper, build, config, task, dataset, summary=summary, **about))
            return build

        return decorate

    def variant(
        self, name: str, *, of: str, overrides: Mapping[str, Any], summary: str, **about: Any
    ) -> None:
        """Register ``PAPER/SYSTEM`` as another system of its paper with some values changed."""
        base = _ENTRIES["/".join(_split(of))]
        assert isinstance(base, Entry)
        paper, system = _split(name)
        own = {"name": system, "paper": paper, "summary": summary, "parameters": None}
        values = {**vars(base), **own, **about}
        values["config"] = configs.replace(base.config, overrides)
        _add(Entry(**values))

    def fusion(self, name: str, *, members: Sequence[str], learner: str, **about: Any) -> None:
        """Register ``PAPER/FUSION`` over members, systems or fusions (``PAPER/NAME``), in order."""
        paper, fusion = _split(name)
        _add(Fusion(fusion, paper, tuple(members), learner, **about))


register = Register()


def get(name: str) -> Entry:
    """The system at ``PAPER`` or ``PAPER/SYSTEM``.

    Raises:
        UserError: there is none (names the nearest one), or it is a fusion.
    """
    found = find(name)
    if isinstance(found, Fusion):
        raise UserError(
            f"{found.address} is a fusion of {', '.join(found.members)}: `soundsweep run --system "
            f"{found.address}` trains and combines them; name one of them here."
        )
    return found


def find(name: str) -> Entry | Fusion:
    """The system or fusion at ``PAPER`` or ``PAPER/NAME``; a fusion as ``#VARIANT`` has it.

    Raises:
        UserError: there is none; names the nearest one.
    """
    return node(name).entry


def node(name: str, dataset: str | None = None, given: Mapping[str, Any] | None = None) -> Node:
    """The node of this name.

    Args:
        name: ``PAPER``, ``PAPER/NAME`` or ``PAPER/NAME#VARIANT``.
        dataset: whose published values and figures count; ``None`` is the paper's.
        given: configuration keys that are changed, where there are such and no variant fixes them.

    Raises:
        UserError: there is none; names the nearest one.
    """
    address, _, label = name.partition("#")
    entry = _registered(address)
    overrides: Mapping[str, Any] = {}
    full = entry.address
    if label:
        figure = figure_called(entry.figures, label, dataset)
        if figure is None:
            labels = [figure.label for figure in entry.figures]
            raise unknown(f"variant of {entry.address}", label, filter(None, labels))
        overrides, full = figure.overrides, f"{entry.address}#{figure.label}"
    if isinstance(entry, Fusion):
        return replace(fusion_node(entry, overrides), name=full)
    config = configs.replace(entry.published_config(dataset or entry.dataset), overrides)
    for key, value in (given or {}).items():
        if key not in overrides and configs.has(config, key):
            read = configs.parse(config, key, value) if isinstance(value, str) else value
            config = configs.replace(config, {key: read})
    return Node(entry, full, overrides, config)


def fusion_node(fusion: Fusion, overrides: Mapping[str, Any]) -> Node:
    """A fusion with some fields changed, as a node."""
    return Node(fusion.at(overrides), fusion.address, overrides)


def _registered(name: str) -> Entry | Fusion:
    paper, _, system = name.partition("/")
    if name in _ENTRIES:  # to look through all installed packages takes its time
        return _ENTRIES[name]
    if paper not in papers():
        raise unknown("system", name, papers())
    importlib.import_module(papers()[paper])
    entries = _of_paper(paper)
    if system and system not in entries:
        raise unknown(f"system of {paper}", system, entries)
    return entries[system] if system else next(iter(entries.values()))


def entries() -> list[Entry]:
    """All registered systems, papers in alphabetical order, the main system of each first."""
    return [entry for entry in _all() if isinstance(entry, Entry)]


def fusions() -> list[Fusion]:
    """All registered fusions, papers in alphabetical order."""
    return [entry for entry in _all() if isinstance(entry, Fusion)]


def _all() -> list[Entry | Fusion]:
    for module in papers().values():
        importlib.import_module(module)
    return [entry for paper in sorted(papers()) for entry in _of_paper(paper).values()]


def resolve(
    name: str, dataset: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[Node, ...]:
    """The nodes that must be trained for one, itself last, each after all that it needs.

    Args: as of :func:`node`. Nodes that are the same configuration are one.

    Raises:
        UserError: an unknown name, or needs that go in a circle (names it).
    """
    done: dict[str, Node] = {}

    def visit(one: Node, above: Mapping[str, str]) -> None:
        if one.key in above:
            names = list(above.values())[list(above).index(one.key) :]
            raise UserError(f"these need each other: {' -> '.join((*names, one.name))}.")
        if one.key not in done:
            for needed in one.needs:
                visit(node(needed, dataset, given), {**above, one.key: one.name})
            done[one.key] = one

    visit(node(name, dataset, given), {})
    return tuple(done.values())


def _of_paper(paper: str) -> dict[str, Entry | Fusion]:
    return {entry.name: entry for entry in _ENTRIES.values() if entry.paper == paper}


def _split(name: str) -> tuple[str, str]:
    paper, _, system = name.partition("/")
    return paper, system or paper


def _add(entry: Entry | Fusion) -> None:
    if entry.address in _ENTRIES:
        raise UserError(f"the system {entry.address} is registered twice.")
    _ENTRIES[entry.address] = entry
