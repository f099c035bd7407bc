"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path, suffix: str = ".new") -> Iterator[Path]:
    """Where to write what becomes ``path`` at the end, at once; its folder is made.

    An error within leaves the old file, or none. ``suffix``: its own where several processes write.

    Raises:
        OSError: it cannot be written, the disk is full say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + suffix)
    temporary.unlink(missing_ok=True)  # a process that was thought dead may hold it open
    yield temporary
    os.replace(temporary, path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes as :func:`whole` does."""
    with whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
