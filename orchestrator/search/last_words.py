"""Why a process of Ray's was lost: the error that it ended with, or what it said last."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import ray

WARNING = re.compile(r"^\S+:\d+: \w*Warning: .*\n(?:  .*\n)?", re.MULTILINE)  # is no cause
LINES, LONGEST = 3, 400  # of what a process said last: so many lines, characters of them


def last_words(error: str) -> str:
    """The cause of a lost process in one line.

    Args:
        error: what Ray tells of it: a traceback, or that it has died, with its process id.
    """
    if "low on memory" in error:
        return "the machine ran low on memory, and Ray ended it: give trials less, or fewer at once"
    if "temporarily unavailable" in error or "node has died" in error:
        return "its node was lost, or the connection to it"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if "worker process has died" not in error:
        return lines[-1] if lines else "no cause is known"
    found = re.search(r"pid[:=]\s*(\d+)", error)
    said = _said(found[1]) if found else []
    if not said:
        return "it ended without a word, as where the machine has no memory left and kills it"
    return f"its last lines: {' | '.join(said)}"[:LONGEST]


def _said(pid: str) -> list[str]:
    """The last lines of a process of this machine's Ray, from its log."""
    node: Any = ray._private.worker._global_node
    said: list[str] = []
    with contextlib.suppress(OSError):
        for path in Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err"):
            text = WARNING.sub("", path.read_text(encoding="utf-8", errors="replace"))
            said += [line.strip() for line in text.splitlines() if line.strip()]
    return [line for line in said if not line.startswith(":")][-LINES:]  # ":job_id:..." is Ray's
