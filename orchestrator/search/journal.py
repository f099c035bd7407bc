"""The study's journal on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from orchestrator.runs.files import disk_is_full
from systems.errors import UserError


class Journal(BaseJournalBackend):
    """An append-only journal of JSON lines that never grows on a torn line.

    There is one writer, the run's driver, and ``may_append`` raises where it is so no more;
    Optuna's own file lock, broken after 30 s, would be no such guard. A torn tail is cut off when
    opening; a failed append is cut back and the next one refused.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, may_append: Callable[[], None] = lambda: None
    ) -> None:
        self.path, self.may_append = path, may_append
        self.failed: str | None = None  # why nothing more is written
        if not read_only:
            path.touch()
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text) and not read_only:
            with open(path, "r+b") as file:
                file.truncate(whole)
        self._logs = [json.loads(line) for line in text[:whole].splitlines()]

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self.failed is not None:
            raise UserError(self.failed)
        self.may_append()
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        # Unbuffered: a buffer keeps what a full disk refused, and closing would write it after all.
        with open(self.path, "ab", buffering=0) as file:
            size, rest = file.tell(), text.encode()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError as error:
                os.truncate(self.path, size)
                full = disk_is_full(error, self.path)
                self.failed = full or f"{self.path} cannot be written: {error}."
                raise UserError(self.failed) from error
        self._logs += json.loads(f"[{','.join(text.splitlines())}]")
