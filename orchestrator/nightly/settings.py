"""What a nightly file asks for, and its schema: ``cluster/nightly.yaml`` is an example."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.plan.options import Options
from orchestrator.planning.duration import parse_duration
from systems.catalogue import catalogue
from systems.errors import UserError, nearest, unknown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NOON = timedelta(hours=12)


def _checked(error: type[Exception], check: Any) -> Any:
    """A check that raises ``error`` as one that the schema shows."""

    def checked(value: Any) -> Any:
        try:
            check(value)
        except error as why:
            raise ValueError(str(why).replace("--time-budget", "it")) from why
        return value

    return AfterValidator(checked)


def _known(system: str) -> None:
    found, name = catalogue(), system.partition("#")[0]
    fusions = {row.address: row.members for row in found.rows if row.kind == "fusion"}
    if name in fusions:
        raise UserError(f"'{system}' is a fusion: name its members ({', '.join(fusions[name])})")
    if name not in found.names():
        raise unknown("system", system, found.names())


Duration = Annotated[str, _checked(UserError, parse_duration)]
System = Annotated[str, _checked(UserError, _known)]


class Model(BaseModel):
    """What knows its keys, and takes no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Study(Model):
    """A study that goes on from night to night: a system on a data set.

    ``trials``: new ones each night. ``days``: on which its nights begin. ``time_budget``: at most,
    each night. ``test``: also score the test part each night (each opening of its labels is in the
    ledger). ``since``: trainings of earlier nights are nothing to compare with, for what has become
    worse since is accepted. The others are those of ``soundsweep run``.
    """

    system: System
    dataset: str | None = None
    data: str | None = None
    trials: int = Field(default=8, ge=1)
    days: tuple[Day, ...] = DAYS  # type: ignore[assignment]
    time_budget: Duration | None = None
    test: bool = False
    since: date | None = None
    metric: str | None = None
    sampler: str | None = None
    budget: str | float | None = None
    max_epochs: int | None = None
    set: dict[str, Any] = {}
    space: dict[str, str] = {}
    seed: int = 0
    stack: str = "standard"
    top_k: int = Field(default=3, ge=1)
    stage_trials: int | None = None
    concurrency: int | None = Field(default=None, ge=1)
    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float | None = None
    workers_per_trial: int = Field(default=1, ge=1)
    skip_broken: bool = False
    skip_shared: bool = False

    def options(self, name: str, settings: Settings) -> Options:
        """The options of its run."""
        mine = self.model_dump(include={field.name for field in fields(Options)})
        mine["budget"] = None if self.budget is None else str(self.budget)
        return Options(**{**mine, "time_budget": None, "name": name, "storage": settings.storage,
                          "mlflow": settings.mlflow,
                          "ray_address": settings.ray_address})  # fmt: skip


class Window(Model):
    """The hours of a night, local time: it opens at ``start`` and closes at the next ``end``."""

    start: time
    end: time

    def opened(self, now: datetime) -> datetime | None:
        """When the window in which ``now`` lies has opened; ``None`` where it lies in none."""
        for day in (now, now - timedelta(days=1)):
            start = datetime.combine(day.date(), self.start)
            if start <= now < self._closes(start):
                return start
        return None

    def left(self, now: datetime) -> float:
        """Seconds until it closes."""
        opened = self.opened(now)
        return 0.0 if opened is None else (self._closes(opened) - now).total_seconds()

    def _closes(self, start: datetime) -> datetime:
        end = datetime.combine(start.date(), self.end)
        return end if end > start else end + timedelta(days=1)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


class Notify(Model):
    """Whom the page of the morning goes to.

    ``webhook``: a URL that gets it as JSON, or ``$NAME`` of the environment variable that holds the
    URL; ``token``: name of the variable that holds a bearer token. ``command``: gets the page as
    Markdown on its standard input. ``when``: always, or only where there is a problem.
    """

    webhook: str | None = Field(default=None, pattern=r"^(https?://[^@]+|\$\w+)$")
    token: str | None = Field(default=None, pattern=r"^\w+$")
    command: tuple[str, ...] = ()
    when: Literal["always", "problems"] = "always"


class Settings(Model):
    """A nightly file. ``budget``: of the whole night; ``window``: ``22:00-06:00``, local time."""

    storage: str = "runs"
    window: Window | None = None
    budget: Duration | None = None
    mlflow: str | None = None
    ray_address: str | None = None
    notify: Notify = Notify()
    studies: dict[str, Study] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _window_of_text(cls, given: Any) -> Any:
        text = given.get("window") if isinstance(given, dict) else None
        if text is None:
            return given
        found = re.fullmatch(r"(\d{1,2}):(\d{2}) ?- ?(\d{1,2}):(\d{2})", str(text))
        try:
            ends = [time(int(h), int(m)) for h, m in (found.groups()[:2], found.groups()[2:])]  # type: ignore[union-attr]
        except (AttributeError, ValueError):
            raise ValueError(f"window: write it as 22:00-06:00, not '{text}'") from None
        if ends[0] == ends[1]:
            raise ValueError(f"window: '{text}' is empty")
        return {**given, "window": {"start": ends[0], "end": ends[1]}}

    @model_validator(mode="after")
    def _names(self) -> Settings:
        for name in self.studies:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name == "nights":
                raise ValueError(
                    f"studies: '{name}' cannot be a folder's name: letters, digits and _ . - may"
                )
            if (base := re.sub(r"(-check)?-\d+$", "", name)) != name and base in self.studies:
                raise ValueError(f"studies: '{name}' is what a later run of '{base}' is called")
        return self

    def night(self, now: datetime) -> date:
        """The night that a moment lies in: the day on which its window opened; without a window a
        night lasts from noon to noon.

        Raises:
            UserError: it lies outside the window.
        """
        if self.window is None:
            return (now - NOON).date()
        opened = self.window.opened(now)
        if opened is None:
            raise UserError(
                f"it is {now:%H:%M}, outside the window {self.window}: nothing was started. "
                "--night DATE works on a night at any time."
            )
        return opened.date()

    def seconds(self, now: datetime, anytime: bool) -> float | None:
        """How long a night that goes on now may take; ``None`` for no end."""
        found = [] if self.budget is None else [parse_duration(self.budget)]
        if self.window is not None and not anytime:
            found.append(self.window.left(now))
        return min(found, default=None)


def read_settings(path: Path) -> Settings:
    """A nightly file.

    Raises:
        UserError: it is not there, is no YAML, or has unknown keys or values: all are named.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the nightly file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"the nightly file {path} is no YAML: {error}") from error
    try:
        return Settings.model_validate(given or {})
    except ValidationError as error:
        found = "; ".join(_in_words(one) for one in error.errors())
        raise UserError(f"{path}: {found}.") from error


def _in_words(error: Any) -> str:
    place = [str(piece) for piece in error["loc"]]
    if error["type"] == "extra_forbidden":
        models: dict[str, type[Model]] = {"studies": Study, "notify": Notify}
        known = models.get(place[0] if len(place) > 1 else "", Settings).model_fields
        return (f"unknown key '{'.'.join(place)}'{nearest(place[-1], known)}: known are "
                f"{', '.join(known)}")  # fmt: skip
    said = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] == "missing":
        said = "is missing"
    return f"{'.'.join(place)}: {said}" if place else said
