"""A search space as an object: picklable, asked trial by trial (define by run)."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import pydantic
import yaml

from search_spaces.schema import Range, Section
from systems import config as configs
from systems.errors import UserError, nearest, unknown
from systems.metrics import metric
from systems.registry import entries

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class Suggests(Protocol):
    """The part of an Optuna trial that a space uses."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Parameter:
    """One searched configuration key.

    ``repeat``: of a repeated one, the parameter that says how many there are; ``place`` is its own,
    from 1, and ``template`` the key with ``{n}`` for it.
    """

    key: str
    kind: Literal["float", "int", "one_of"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int = 1
    choices: tuple[Any, ...] = ()
    when: Mapping[str, Any] = field(default_factory=dict)
    repeat: str = ""
    place: int = 0
    template: str = ""

    def suggest(self, trial: Suggests) -> Any:
        if self.kind == "one_of":
            return trial.suggest_categorical(self.key, self.choices)
        if self.kind == "int":
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(self.key, low, high, step=self.step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        if self.kind == "one_of":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        inside = self.low <= value <= self.high
        return inside and (self.kind == "float" or (value - self.low) % self.step == 0)

    def nearest(self, value: Any) -> Any:
        """The value itself, or the closest one in the range."""
        if self.holds(value):
            return value
        if self.kind == "one_of" or not isinstance(value, int | float):
            return self.choices[0] if self.choices else self.low
        bounded = min(max(value, self.low), self.high)
        if self.kind == "float":
            return bounded
        most = (self.high - self.low) // self.step
        return int(self.low + self.step * min(most, round((bounded - self.low) / self.step)))

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether the conditions in ``when`` hold, given the values so far."""
        return all(_condition(values.get(key), wanted) for key, wanted in self.when.items())

    def text(self) -> str:
        """The range in words, as ``--space`` takes it."""
        if self.kind == "one_of":
            return "one-of:" + ",".join(map(str, self.choices))
        name = ("log" if self.kind == "float" else "int-log") if self.log else self.kind
        bounds = (f"{bound:.0f}" if self.kind == "int" else f"{bound:.12g}"
                  for bound in (self.low, self.high))  # fmt: skip
        return f"{name}:{':'.join(bounds)}" + (f":{self.step}" if self.step > 1 else "")


@dataclass(frozen=True)
class SearchSpace:
    """Metric, its direction and the parameters of one system; ``sampler``: what searches them."""

    metric: str
    mode: Literal["max", "min"]
    parameters: tuple[Parameter, ...]
    sampler: str = "tpe"

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Ask a trial for every parameter that applies, in order."""
        return self._walk(lambda parameter: parameter.suggest(trial))

    def published(self, config: Any) -> dict[str, Any]:
        """The configuration's own values (or the nearest inside) of what is searched."""
        return self.first(lambda key: configs.get(config, key))

    def first(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """Given values by key (or the nearest inside) of what is searched."""
        return self._walk(lambda p: p.nearest(value_of(p.key)))

    def moved(self, config: Any) -> dict[str, Any]:
        """Keys whose published value lies outside the range."""
        values = {p.key: configs.get(config, p.key) for p in self.parameters}
        return {p.key: values[p.key] for p in self.parameters if not p.holds(values[p.key])}

    def with_parameters(self, changed: Iterable[Parameter]) -> SearchSpace:
        """The space with some parameters replaced, where they still apply, or added."""
        new = {p.key: p for p in self.parameters}
        for p in changed:
            old = new.get(p.key, p)
            new[p.key] = replace(
                p, when=old.when, repeat=old.repeat, place=old.place, template=old.template
            )
        return replace(self, parameters=tuple(new.values()))

    def without(self, keys: Iterable[str]) -> SearchSpace:
        """The space less some keys and all that lies below them."""
        dropped = tuple(keys)
        kept = tuple(p for p in self.parameters if not _below(p.key, dropped))
        return replace(self, parameters=kept)

    def settled(self, value_of: Callable[[str], Any]) -> SearchSpace:
        """The space whose conditions on what is not searched are decided, by the values of that."""
        searched, kept = {p.key for p in self.parameters}, []
        for p in self.parameters:
            fixed = {key: wanted for key, wanted in p.when.items() if key not in searched}
            if all(_condition(value_of(key), wanted) for key, wanted in fixed.items()):
                open_ = {key: wanted for key, wanted in p.when.items() if key in searched}
                kept.append(replace(p, when=open_))
        return replace(self, parameters=tuple(kept))

    def _walk(self, value_of: Callable[[Parameter], Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.applies(values):
                values[parameter.key] = value_of(parameter)
        return values


def load(address: str, config: Any, dataset: str = "", default: str = "") -> SearchSpace:
    """The space of ``PAPER/SYSTEM``, checked against the system's configuration.

    Args:
        address: of the system.
        config: with the published values.
        dataset: whose metric is taken, where the section names one by data set.
        default: the metric where it names none.

    Raises:
        UserError: no such section, a range that cannot be, an unknown key (names the nearest), a
            published value that lies outside its range, or no metric.
    """
    paper, _, system = address.partition("/")
    sections = _sections(paper)
    name = paper if system in ("", paper) else address
    if name not in sections and any(e.address == address and e.is_main for e in entries()):
        name = paper  # a main system may have a name of its own
    section, space = _resolved(sections, name)
    by_set = section.metric
    named = by_set.get(dataset, by_set.get("default")) if isinstance(by_set, dict) else by_set
    if not (named or default):
        raise UserError(
            f"search_spaces/{paper}.yaml, {name}: no metric for the data set '{dataset}'; name one "
            "under 'metric', or a 'default' there."
        )
    where = f"search_spaces/{paper}.yaml, {name}"
    loaded = SearchSpace(
        named or default, metric(named or default).mode, _parameters(space, where),
        section.sampler or "tpe",
    )  # fmt: skip
    check(loaded, config, where)
    return loaded


STAGE_TWO = "stacking"  # the file of the meta-learners
BEST_MEMBERS = "members.best"  # how many of the best members a meta-learner gets


def learner_space(name: str, settings: Any, members: int) -> SearchSpace | None:
    """The space of a meta-learner's settings and of its members; ``None`` where there is none.

    What is searched is the run's metric, so that more is better. ``members.best`` goes up to the
    number of members and is left out where there is one.

    Raises:
        UserError: an unknown key (names the nearest), or a setting that lies outside its range.
    """
    sections = _sections(STAGE_TWO)
    if name not in sections:
        return None
    _, ranges = _resolved(sections, name)
    best = ranges.pop(BEST_MEMBERS, None)
    own = SearchSpace("worth", "max", tuple(_parameter(k, r) for k, r in ranges.items()))
    check(own, settings, f"search_spaces/{STAGE_TWO}.yaml, {name}")
    if best is None or members == 1:
        return own if own.parameters else None
    wanted = _parameter(BEST_MEMBERS, best)
    return own.with_parameters([replace(wanted, high=min(wanted.high, members))])


def _resolved(sections: Mapping[str, Section], name: str) -> tuple[Section, dict[str, Range]]:
    """A section and its ranges, those of the one that it is like included."""
    if name not in sections:
        raise unknown("section", name, sections)
    section, space = sections[name], dict[str, Range]()
    if section.like:
        if section.like not in sections:
            raise unknown("section to be like", section.like, sections)
        base = sections[section.like]
        space = {k: r for k, r in base.space.items() if not _below(k, tuple(section.without))}
        told = {"metric": section.metric or base.metric, "sampler": section.sampler or base.sampler}
        section = section.model_copy(update=told)
    return section, {**space, **section.space}


def check(space: SearchSpace, config: Any, where: str) -> None:
    """Every key is one of the configuration's and the published values lie inside."""
    keys = configs.flatten(config)
    for parameter in space.parameters:
        for key in (parameter.key, *parameter.when):
            if key not in keys:
                raise UserError(f"{where}: unknown key '{key}'{nearest(key, keys)}.")
    outside = space.moved(config)
    if outside:
        raise UserError(f"{where}: the published values {outside} lie outside their ranges.")


def parse_parameter(text: str) -> Parameter:
    """Read ``key=log:1e-4:1e-2``, ``key=float:0:1``, ``key=int:1:8[:step]``, ``key=one-of:a,b``."""
    key, equals, spec = text.partition("=")
    kind, _, rest = spec.partition(":")
    try:
        if not equals or not rest:
            raise ValueError
        if kind == "one-of":
            choices = tuple(yaml.load(choice, Loader=_Loader) for choice in rest.split(","))
            if None in choices or len(set(choices)) < len(choices):
                raise ValueError  # an empty place, or a value twice
            return Parameter(key, "one_of", choices=choices)
        numbers = rest.split(":")
        if kind in ("float", "log") and len(numbers) == 2:
            ranged = Range.model_validate({kind: [float(n) for n in numbers]})
        elif kind in ("int", "int-log") and len(numbers) in (2, 3):
            low, high, *step = (int(n) for n in numbers)
            ranged = Range.model_validate(
                {"int": [low, high], "step": step[0] if step else None,
                 "log": True if kind == "int-log" else None}
            )  # fmt: skip
        else:
            raise ValueError
    except pydantic.ValidationError as error:
        raise UserError(f"--space {text}: {_reason(error)}.") from error
    except ValueError as error:
        raise UserError(
            f"--space {text} cannot be read; write key=log:1e-4:1e-2, key=float:0:1, key=int:1:8 "
            "or key=one-of:a,b."
        ) from error
    return _parameter(key, ranged)


def _sections(paper: str) -> dict[str, Section]:
    file = importlib.resources.files("search_spaces") / f"{paper}.yaml"
    if not file.is_file():
        for point in importlib.metadata.entry_points(group="soundsweep.search_spaces", name=paper):
            file = importlib.resources.files(point.value) / f"{paper}.yaml"
    if not file.is_file():
        raise UserError(f"there is no search space search_spaces/{paper}.yaml.")
    raw = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    try:
        return {name: Section.model_validate(section) for name, section in raw.items()}
    except pydantic.ValidationError as error:
        raise UserError(f"search_spaces/{paper}.yaml: {_reason(error)}.") from error


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-4`` as a string; here it is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"),
    list("-+0123456789."),
)


def _parameters(space: Mapping[str, Range], where: str) -> tuple[Parameter, ...]:
    """The parameters of a section; of a repeated one, one a place."""
    found: list[Parameter] = []
    for key, ranged in space.items():
        if ranged.repeat is None:
            found.append(_parameter(key, ranged))
            continue
        count = next((p for p in found if p.key == ranged.repeat and p.kind == "int"), None)
        if count is None or "{n}" not in key:
            raise UserError(
                f"{where}: '{key}' is repeated by '{ranged.repeat}': the key holds {{n}}, and that "
                "is an int parameter above it."
            )
        for place in range(1, int(count.high) + 1):
            one = _parameter(key.format(n=place), ranged)
            own = {other.format(n=place): wanted for other, wanted in one.when.items()}
            when = {count.key: f">= {place}", **own}
            found.append(replace(one, when=when, repeat=count.key, place=place, template=key))
    return tuple(found)


def _parameter(key: str, ranged: Range) -> Parameter:
    if ranged.one_of is not None:
        return Parameter(key, "one_of", choices=tuple(ranged.one_of), when=ranged.when)
    if ranged.int_ is not None:
        low, high = ranged.int_
        return Parameter(
            key, "int", low, high, log=ranged.log is True, step=ranged.step or 1, when=ranged.when
        )
    is_log = ranged.float_ is None
    bounds = ranged.log if is_log else ranged.float_
    assert isinstance(bounds, tuple)
    return Parameter(key, "float", bounds[0], bounds[1], log=is_log, when=ranged.when)


def _condition(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        sign, _, bound = wanted.partition(" ")
        if sign in _COMPARISONS:
            return value is not None and _COMPARISONS[sign](value, float(bound))
    return bool(value == wanted)


def _below(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def _reason(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
