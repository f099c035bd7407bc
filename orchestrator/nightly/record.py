"""What is known of the nights: ``ROOT/nights/DATE/night.json``, and in each run which night made
which of its trials."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

State = Literal["waiting", "done", "cut off", "interrupted", "failed"]


@dataclass
class Guard:
    """The configuration that a study is watched by: a trial of one of its runs, whose retrainings
    later ones are compared with."""

    run: str
    trial: int


@dataclass
class StudyRecord:
    """A study's night. ``guard``: what tonight is compared with; ``next_guard``: what the next
    night will be. ``trials``: how many its run had begun before, and has now. ``best``: its best
    trial's number and value. ``check``: see ``check.py``."""

    state: State = "waiting"
    why: str = ""
    run: str = ""
    metric: str = ""
    mode: str = "max"
    trials: tuple[int, int] | None = None
    best_before: tuple[int, float] | None = None
    best: tuple[int, float] | None = None
    stack: tuple[str, float] | None = None
    guard: Guard | None = None
    next_guard: Guard | None = None
    check: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def regression(self) -> bool:
        return bool(self.check.get("regression"))


@dataclass
class Night:
    """A night. ``code``: git commit and versions of what ran. ``ended``: Unix time, s.
    ``problems``: of the night itself, such as a page that could not be sent."""

    night: str
    file: str = ""
    began: float = field(default_factory=time.time)
    ended: float | None = None
    code: dict[str, str] = field(default_factory=dict)
    studies: dict[str, StudyRecord] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def regressions(self) -> list[str]:
        return [name for name, one in self.studies.items() if one.regression]

    def failures(self) -> list[str]:
        return [name for name, one in self.studies.items() if one.state == "failed"]

    def interrupted(self) -> bool:
        return any(one.state == "interrupted" for one in self.studies.values())

    def exit_code(self) -> int:
        """1 after regressions or failures, 3 where a signal ended it, else 0."""
        if self.regressions() or self.failures() or self.problems:
            return 1
        return 3 if self.interrupted() else 0


class Nights:
    """The folder of all nights of a storage root."""

    def __init__(self, root: Path) -> None:
        self.path = root / "nights"

    def folder(self, night: str) -> Path:
        return self.path / night

    def write(self, night: Night) -> None:
        write_json(self.folder(night.night) / "night.json", asdict(night))

    def read(self, night: str) -> Night | None:
        """A night as it has been noted; ``None`` if it has not begun."""
        path = self.folder(night) / "night.json"
        return _read(path) if path.exists() else None

    def before(self, night: str) -> Iterator[Night]:
        """The nights before one, the latest first."""
        paths = sorted(self.path.glob("*/night.json"), reverse=True)
        yield from (_read(path) for path in paths if path.parent.name < night)


def _read(path: Path) -> Night:
    try:
        about = read_json(path)
        studies = {name: StudyRecord(**one) for name, one in about.pop("studies").items()}
        for one in studies.values():
            one.guard = Guard(**one.guard) if isinstance(one.guard, dict) else None
            one.next_guard = Guard(**one.next_guard) if isinstance(one.next_guard, dict) else None
        return Night(**about, studies=studies)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no record of a night that this version reads ({error}): move it away."
        ) from error


def note_night(run: RunDir, night: str, first: int, commit: str | None) -> int:
    """Note in a run that its trials from ``first`` on are of a night; returns the first one of the
    night, which is another where the night was begun before."""
    known = run.nights()
    for one in known:
        if one["night"] == night:
            return int(one["first"])
    known.append({"night": night, "first": first, "git_commit": commit})
    write_json(run.nights_file, known)
    return first
