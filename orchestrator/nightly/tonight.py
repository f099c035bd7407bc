"""A night: every study that is due, within the time there is; then the page of the morning."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.nightly.drive import Limit
from orchestrator.nightly.notify import notify
from orchestrator.nightly.page import write_page
from orchestrator.nightly.record import Guard, Night, Nights, StudyRecord
from orchestrator.nightly.settings import DAYS, Settings
from orchestrator.nightly.study import StudyNight
from orchestrator.planning.duration import parse_duration
from orchestrator.planning.resolve import code_versions
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import full_disk_is_told, root_of, writable
from systems.errors import UserError

ERRORS = "errors.log"


def work_tonight(
    settings: Settings, file: Path, progress: Progress | None = None, *,
    night: date | None = None, now: Callable[[], datetime] = datetime.now,
) -> Night:  # fmt: skip
    """Work on a night's studies and write its page; what an earlier call left is gone on with.

    Args:
        settings: of the nightly file.
        file: the file, for the page.
        progress: what is told.
        night: the night to work on, whatever the clock says; by default the one that it is.
        now: the clock, local time.

    Raises:
        UserError: it is outside the window, or another process works on the nights of this root.
    """
    anytime, tonight = night is not None, night or settings.night(now())
    progress = progress or Progress()
    root = root_of(settings.storage)
    writable(root)
    nights = Nights(root)
    folder = RunDir(nights.path)
    with full_disk_is_told(folder), folder.drive(), Stop() as stop:
        record = _begun(nights, tonight, settings, file)
        nights.write(record)
        try:
            limit = Limit(settings.seconds(now(), anytime), stop)
            _work(record, nights, settings, limit, stop, progress)
        finally:
            record.ended = time.time()
            nights.write(record)
            page = write_page(record, nights)
            progress.say(f"nightly: page of the morning: {page}")
        if problem := notify(settings.notify, record, page):
            progress.say(f"nightly: {problem}")
            record.problems.append(problem)
            nights.write(record)
    return record


def _begun(nights: Nights, tonight: date, settings: Settings, file: Path) -> Night:
    """The record of a night, with the studies that are due as they stand."""
    name = tonight.isoformat()
    record = nights.read(name) or Night(name)
    record.file, record.ended, record.problems = str(file), None, []
    record.code = code_versions()
    due = [key for key, one in settings.studies.items() if DAYS[tonight.weekday()] in one.days]
    for key in due:
        if key not in record.studies:
            record.studies[key] = StudyRecord(guard=_guard(nights, name, key))
    record.studies = {key: one for key, one in record.studies.items() if key in due}
    return record


def _guard(nights: Nights, night: str, study: str) -> Guard | None:
    """What the last night that worked on a study left to be compared with."""
    for before in nights.before(night):
        if study in before.studies and (guard := before.studies[study].next_guard):
            return guard
    return None


def _work(
    record: Night, nights: Nights, settings: Settings, limit: Limit, stop: Stop, progress: Progress
) -> None:
    due = [name for name, one in record.studies.items() if one.state != "done"]
    for place, name in enumerate(due):
        study = record.studies[name]
        if stop.requested or limit.is_over():
            study.state = "interrupted" if stop.requested else "cut off"
            study.why = study.why or "its turn did not come"
            continue
        asked = settings.studies[name]
        most = None if asked.time_budget is None else parse_duration(asked.time_budget)
        began = time.monotonic()
        study.state, study.why, study.next_guard = "waiting", "", study.guard
        try:
            work = StudyNight(name, asked, settings, record.night, study,
                              limit.share(len(due) - place, most), progress,
                              lambda: nights.write(record))  # fmt: skip
            study.state = work.work()
        except UserError as error:
            study.state, study.why = "failed", str(error)
        except Exception as error:
            study.state, study.why = "failed", f"{type(error).__name__}: {error}"
            with open(nights.folder(record.night) / ERRORS, "a", encoding="utf-8") as log:
                log.write(f"{name}\n{traceback.format_exc()}\n")
        finally:
            study.seconds += time.monotonic() - began
            nights.write(record)
        if study.why:
            progress.say(f"nightly: {name} {study.state}: {study.why}")
        if study.state == "interrupted":
            stop.requested = True
