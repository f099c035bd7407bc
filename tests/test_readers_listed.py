"""Readers of sets whose tables list their clips: every fault of tables and files, told at once."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made_sets import CASES, RATE, SCENES, Case, edit, refusal, sound

from systems import data
from systems.data.dataset import Labels
from systems.errors import UserError


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def root(case: Case, tmp_path: Path) -> Path:
    case.make(tmp_path / "set")
    return tmp_path / "set"


def test_parts_classes_and_columns(case: Case, root: Path) -> None:
    dataset = data.load(case.name, str(root))
    assert Counter(clip.part for clip in dataset.clips) == case.clips
    assert (dataset.name, dataset.task) == (case.name, case.task)
    kinds = {part: dataset.label_kind(part) for part in case.clips}
    assert kinds == {**dict.fromkeys(case.clips, case.kind), "test": case.test_kind}
    assert {clip.role for clip in dataset.clips} == {"labelled"}
    assert {tuple(clip.columns) for clip in dataset.clips} == {case.columns}
    assert case.label in dataset.classes
    if case.kind == "class":
        assert set(dataset.labels["train"].values.values()) == set(dataset.classes)
    if len(data.reader(case.name).CLASSES) > 2:
        assert any("2 of the set's" in note for note in dataset.notes)


def test_every_fault_is_named_at_once(case: Case, root: Path) -> None:
    sounds = sorted((root / case.audio).glob(case.trained))[:4]
    sounds[0].unlink()
    sounds[1].write_bytes(b"")
    sounds[2].write_bytes(sounds[2].read_bytes()[:200])
    sound(sounds[0].with_name("stranger.wav"))
    for path in case.test_tables:
        edit(root / path, lambda lines: [*lines[:-1], spoilt(lines[-1])])
    edit(root / case.train_table, lambda lines: [*lines, lines[1], lines[2] + "\t,more"])
    text = refusal(case, root)
    assert f"{sounds[0].name}  is listed in {case.train_table} and missing" in text
    assert f"{sounds[1].name}  is empty (0 bytes)" in text
    assert f"{sounds[2].name}  is truncated" in text
    assert f"{case.audio}/stranger.wav: no row of " in text
    assert "2 rows are of" in text
    assert "fields instead of" in text
    assert f"{case.test_tables[0]} line" in text
    assert ("did you mean" if case.kind == "class" else "is no number") in text
    assert sounds[3].name not in text


def spoilt(line: str) -> str:
    """A row with a misspelt label."""
    line = line.replace(",?", ",maskx")
    for name in ("Bark", "Hi-hat", *SCENES):
        for separator in ",\t":
            line = line.replace(f"{separator}{name}", f"{separator}{name[:-1]}x")
    return line


def test_broken_files_are_left_out_with_their_rows(case: Case, root: Path) -> None:
    silent, broken = sorted((root / case.audio).glob(case.trained))[:2]
    soundfile.write(silent, np.zeros(soundfile.info(silent).frames), RATE)
    broken.write_bytes(b"no sound at all")
    dataset = data.load(case.name, str(root), skip_broken=True)
    assert {Path(path).name for path, _ in dataset.skipped} == {silent.name, broken.name}
    train = {clip.clip_id for clip in dataset.part("train")}
    assert len(train) == case.clips["train"] - 2
    assert set(dataset.labels["train"].values) == train
    edit(root / case.train_table, lambda lines: [*lines, lines[-1]])
    assert broken.name not in refusal(case, root, skip_broken=True)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.test_tables != (c.train_table,)], ids=lambda c: c.name,
    indirect=True,
)  # fmt: skip
def test_missing_and_unreadable_tables_are_named(case: Case, root: Path) -> None:
    other = case.test_tables[-1]
    (root / other).unlink()
    text = (root / case.train_table).read_text()
    (root / case.train_table).write_bytes(text.replace("label", "l\u00e4bel").encode("latin-1"))
    found = refusal(case, root)
    assert f"{other}: is missing" in found
    assert f"{case.train_table}: line 1: byte 0xe4 is no UTF-8" in found
    (root / case.train_table).write_text(text.replace("label", "tag"))
    assert f"{case.train_table}: has no column" in refusal(case, root)
    assert ".wav" not in refusal(case, root)  # what follows from a missing table is not told


def test_a_missing_folder_of_sound_is_one_fault(case: Case, root: Path) -> None:
    (root / case.audio).rename(root / "moved")
    assert refusal(case, root).count(case.audio) == 1


@pytest.mark.parametrize(("given", "message"), [(None, "--data"), ("nowhere", "does not exist")])
def test_a_wrong_folder_says_what_was_expected(
    case: Case, given: str | None, message: str, tmp_path: Path
) -> None:
    for folder in (given and str(tmp_path / given), str(tmp_path)):
        with pytest.raises(
            UserError, match=message if folder != str(tmp_path) else "holds no"
        ) as e:
            data.load(case.name, folder)
        assert case.train_table in str(e.value)


def test_marks_ends_of_lines_and_separators_do_not_matter(case: Case, root: Path) -> None:
    before = data.load(case.name, str(root))
    for path in {case.train_table, *case.test_tables}:
        text = (root / path).read_text()
        separator = "\t" if "\t" in text else ","
        rows = list(csv.reader(text.splitlines(), delimiter=separator))
        other = "\t" if separator == "," else ","
        lines = [other.join(f'"{cell}"' for cell in row) for row in rows]
        (root / path).write_bytes("\r\n".join([*lines, "", ""]).encode("utf-8-sig"))
    after = data.load(case.name, str(root))
    assert {part: said(labels) for part, labels in after.labels.items()} == {
        part: said(labels) for part, labels in before.labels.items()
    }
    assert after.clips == before.clips
    assert after.fingerprint() != before.fingerprint()  # edited tables are changed data


def said(labels: Labels) -> tuple[Any, ...]:
    """Labels, with series as lists."""
    return labels.kind, {i: np.asarray(v).tolist() for i, v in labels.values.items()}
