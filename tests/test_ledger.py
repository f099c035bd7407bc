"""The ledger knows a test part by what it is: its sound and its labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_sharing import table

from orchestrator.runs.files import append_line
from orchestrator.scoring.ledger import open_test_labels
from systems import data
from systems.data.dataset import Dataset
from systems.data.store import open_store


def opened(root: Path, folder: Path) -> int:
    """How often the test part of a folder has been opened, this time included."""
    dataset: Dataset = data.load("table", str(folder))
    ids = tuple(clip.clip_id for clip in dataset.clips)
    store = open_store(dataset, ids, 4_000, root / "store", map)
    plan = SimpleNamespace(fingerprint=dataset.fingerprint(), dataset="table", name="run",
                           run_id="0" * 32, protocol="honest")  # fmt: skip
    run: Any = SimpleNamespace(plan=plan, ledger=root / "test_ledger.jsonl")
    return open_test_labels(run, dataset, "test", store.digest, ["best"])[1]


def touched(folder: Path) -> Path:
    for path in folder.glob("*"):
        os.utime(path, (1, 1))
    return folder


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.with_name("copy")))


def renamed(folder: Path) -> Path:
    (folder / "test12.wav").rename(folder / "other.wav")
    path = folder / "table.csv"
    path.write_text(path.read_text().replace("test12.wav", "other.wav"))
    return folder


def grown(folder: Path) -> Path:
    """Another training clip: the test part is the same."""
    table(folder, "more.wav,x,train,")
    return folder


@pytest.mark.parametrize("change", [touched, copied, renamed, grown])
def test_the_same_test_part_is_counted_on(change: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table(folder)
    assert opened(tmp_path, folder) == 1
    assert opened(tmp_path, change(folder)) == 2


def relabelled(folder: Path) -> Path:
    path = folder / "table.csv"
    path.write_text(path.read_text().replace("test12.wav,x", "test12.wav,y"))
    return folder


def other_sound(folder: Path) -> Path:
    (folder / "test13.wav").unlink()
    table(folder, "more.wav,x,test,")
    return folder


@pytest.mark.parametrize("change", [relabelled, other_sound])
def test_another_test_part_is_another(change: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table(folder)
    assert opened(tmp_path, folder) == 1
    assert opened(tmp_path, change(folder)) == 1
    assert opened(tmp_path, folder) == 2


def test_openings_of_before_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    table(folder)
    fingerprint = data.load("table", str(folder)).fingerprint()
    for part in ("test", "eval"):
        append_line(tmp_path / "test_ledger.jsonl", {"fingerprint": fingerprint, "part": part})
    assert opened(tmp_path, folder) == 2
