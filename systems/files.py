"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


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


# What a file system says that has no locks: some shared ones, or an NFS server without its daemon.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def lock(file: IO[Any]) -> None:
    """Wait for the lock on an open file; where the file system has none, go on without."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
