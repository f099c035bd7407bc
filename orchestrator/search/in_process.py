"""This process as the executor: one thing at a time, without Ray (``--ray-address none``).

For debugging, and where nothing is about processes: a trial can be stepped through, and nothing is
started beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.search.referee import Referee


class _Stopped(BaseException):
    """The trial was told to end; no error that it may catch."""


def execute(trial: Any, shared: Any, referee: Referee) -> None:
    """Run ``trial(shared, number, params, report) -> outcome`` until nothing is next."""
    while (found := referee.next()) is not None:
        number, params = found
        referee.begins(number)

        def report(result: Mapping[str, Any], number: int = number) -> None:
            if not referee.goes_on(number, result):
                raise _Stopped

        try:
            referee.goes_on(number, trial(shared, number, params, report))
        except _Stopped:
            continue
