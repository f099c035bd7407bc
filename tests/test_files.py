"""A file is the old one or the whole new one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from systems.files import whole, write_whole


def test_a_file_is_written_whole_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_whole(path, "é")
    assert path.read_bytes() == "é".encode()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_seen_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_whole(path, "old")

    def half() -> None:
        with whole(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        half()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
