"""Files that are whole or not there: JSON, JSON lines, and what a full disk says."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systems.files import lock, write_whole


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: the old file or the whole new one is there, never a part.

    Raises:
        ValueError: a number in it is not finite.
    """
    write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def best_line(lines: list[dict[str, Any]], metric: str, mode: str) -> dict[str, Any] | None:
    """The line of metrics.jsonl with the best metric, of equals the first; ``None`` without any."""
    sign = 1 if mode == "max" else -1
    return max(lines, key=lambda line: (sign * line[metric], -line["step"]), default=None)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; one that a kill tore off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def append_step(path: Path, fold: int, step: int, values: Mapping[str, float]) -> None:
    """Add a step to a metrics.jsonl; one that is there already is left as it is."""
    if any(line["fold"] == fold and line["step"] >= step for line in read_lines(path)):
        return
    append_line(path, {"fold": fold, "step": step, "time": time.time(), **values})


def append_line(path: Path, value: Any) -> None:
    """Add a JSON line, on the disk when this returns, after cutting off a torn one.

    Several runs may share the file (the ledger): one at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        lock(file)
        file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.write((json.dumps(value) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def disk_is_full(error: BaseException, path: Path) -> str | None:
    """What to tell the user where an error says that no more can be written, else ``None``."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{path} cannot be written: {error.strerror}. Free some space, then resume the run."
    return None
