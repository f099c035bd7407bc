"""Tables as programs save them: read rightly, or refused with the line and what to do."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_table import opened, read, refused, table

from orchestrator.plan.options import Options
from orchestrator.planning.classes import class_notes
from orchestrator.planning.resolve import make_plan
from systems import data
from systems.data.dataset import Event
from systems.data.events import event_notes, merged, once
from systems.errors import UserError

LINES = ["path,labels,part", *(f"{x}.wav,{y},{p}" for x, y, p in
         [("a", "Vögel", "train"), ("b", "dog", "train"), ("c", "Vögel|dog", "test")])]  # fmt: skip
TEXT = "\n".join(LINES) + "\n"
READ: dict[str, bytes] = {
    "a byte order mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, the other way": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "ends of lines of Windows": TEXT.replace("\n", "\r\n").encode(),
    "ends of lines of old": TEXT.replace("\n", "\r").encode(),
    "quoted": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in LINES).encode(),
    "spaces": TEXT.replace(",", " , ").encode(),
    "blank lines": TEXT.replace("\n", "\n\n").encode(),
    "empty cells at the end": TEXT.replace("\n", ",,\n").encode(),
    "TABs": TEXT.replace(",", "\t").encode(),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "Latin-1": (TEXT.encode("latin-1"), r"line 2: byte 0xf6 .*'ö' in Latin-1.*save .* as UTF-8"),
    "UTF-16 that does not say so": (TEXT.encode("utf-16-le"), "line 1: .*UTF-16 without a byte"),
    "NUL bytes at the end": (TEXT.encode() + b"\0" * 64, "line 5: there are NUL bytes"),
    "half a letter": (TEXT.encode("utf-16")[:-1], "cut off"),
    "a stray quote": (TEXT.replace("b.wav", '"b.wav').encode(), "line 3: a quote"),
    "two stray quotes": (
        TEXT.replace("a.wav", '"a.wav').replace("c.wav", 'c.wav"').encode(), "line 2: a quote",
    ),
    "a TAB for a bar": (TEXT.replace("Vögel|dog", "Vögel,dog").encode(), r"line 4 \(c.wav\): 4 f"),
    "a short row": (TEXT.encode() + b"d.wav,dog\n", "line 5 .*: 2 fields instead of 3"),
}  # fmt: skip


@pytest.mark.parametrize("how", READ)
def test_a_table_is_read_whoever_saved_it(how: str, tmp_path: Path) -> None:
    path = table(tmp_path, LINES)
    expected = read(path)
    path.write_bytes(READ[how])
    found = read(path)
    assert found.clips == expected.clips
    assert found.labels == expected.labels
    assert opened(found) == {"c.wav": ("Vögel", "dog")}


@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_read_rightly_is_refused_with_its_line(how: str, tmp_path: Path) -> None:
    content, why = REFUSED[how]
    path = table(tmp_path, LINES)
    path.write_bytes(content)
    with pytest.raises(UserError, match=why):
        read(path)


def test_every_reader_reads_tables_alike(task4_copy: Path) -> None:
    """The published set's reader too, whose tables have commas between labels."""
    weak = task4_copy / "dataset/metadata/train/weak.csv"
    text = weak.read_text()
    expected = data.load("dcase2018_task4", str(task4_copy)).labels["weak"]
    for content in (text.encode("utf-8-sig"), text.encode("utf-16"), text.replace("\n", " \n")):
        weak.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert data.load("dcase2018_task4", str(task4_copy)).labels["weak"] == expected
    line = next(n for n, row in enumerate(text.splitlines(), start=1) if "," in row)
    changes: dict[str, Callable[[str], Any]] = {
        f"weak.csv line {line}: 3 fields instead of 2 .*commas": lambda t: t.replace(",", "\t", 1),
        "weak.csv line 2: a quote": lambda t: t.replace("\nY", '\n"Y', 1),
        r"weak.csv line 2: byte 0xe4": lambda t: t.replace("\nY", "\nä", 1).encode("latin-1"),
        "weak.csv line 26: there are NUL": lambda t: t + "\0\0",
    }
    for why, change in changes.items():
        changed = change(text)
        weak.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        with pytest.raises(UserError, match=why):
            data.load("dcase2018_task4", str(task4_copy))


def test_sounds_lie_beside_a_link_not_where_it_leads(tmp_path: Path) -> None:
    """As caches that keep contents by their digest lay a data set out."""
    expected = read(table(tmp_path / "plain", LINES)) if (tmp_path / "plain").mkdir() is None else 0
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    for folder in (blobs, snapshot):
        folder.mkdir()
    for number, path in enumerate(sorted((tmp_path / "plain").iterdir())):
        (blobs / str(number)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(blobs / str(number))
    assert read(snapshot / "sounds.csv").clips == read(snapshot).clips == expected.clips


# What labels say


def test_events_written_twice_count_once_and_those_that_overlap_are_merged(tmp_path: Path) -> None:
    lines = ["path,labels,onset,offset,part", "t.wav,dog,,,train", "u.wav,cat,,,train"]
    lines += [f"a.wav,{x},test" for x in ("dog,.1,.4", "dog,.2,.6", "dog,.2,.6", "cat,.3,.5")]
    lines += ["b.wav,dog,.0,.5,test", "b.wav,dog,.5,.9,test", "c.wav,,,,test"]
    found = read(table(tmp_path, lines))
    assert opened(found) == {
        "a.wav": (Event(0.1, 0.6, "dog"), Event(0.3, 0.5, "cat")),
        "b.wav": (Event(0.0, 0.5, "dog"), Event(0.5, 0.9, "dog")),
        "c.wav": (),
    }
    twice, overlap, touch = found.notes
    assert "1 written twice" in twice
    assert "a.wav" in twice
    assert "1 that overlap an earlier one of their class are merged" in overlap
    assert "1 that begin where another of their class ends" in touch
    assert "b.wav" in touch


def test_a_published_set_counts_a_row_that_is_written_twice_once(task4_copy: Path) -> None:
    path = task4_copy / "dataset/metadata/test/test.csv"
    expected = data.load("dcase2018_task4", str(task4_copy)).open_sealed("test", lambda: None)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1], lines[2]]) + "\n")
    found = data.load("dcase2018_task4", str(task4_copy))
    assert found.open_sealed("test", lambda: None) == expected
    assert any("2 written twice, which count once" in note for note in found.notes)


def test_events_that_do_not_meet_are_left_alone() -> None:
    events = [Event(0, 1, "a"), Event(0.5, 2, "b"), Event(1.5, 2, "a"), Event(1.7, 3, "b")]
    assert once(events) == tuple(events)
    assert merged(events) == (Event(0, 1, "a"), Event(0.5, 3, "b"), Event(1.5, 2, "a"))
    assert merged([Event(0, 3, "a"), Event(1, 2, "a")]) == (Event(0, 3, "a"),)
    assert event_notes({"x": events[:3]}, "events", merges=True) == []


def test_a_clip_with_none_of_the_classes_is_said_by_a_dash(tmp_path: Path) -> None:
    lines = ["path,labels,part", "a.wav,bird,train", "b.wav,-,train", "c.wav,,train"]
    lines += ["d.wav,bird,validation", "e.wav,-,validation", "f.wav,bird,test", "g.wav,-,test"]
    found = read(table(tmp_path, lines))
    assert found.classes == ("bird",)
    assert found.labels["train"].kind == "tags"
    assert found.labels["train"].values == {"a.wav": ("bird",), "b.wav": ()}
    assert [clip.clip_id for clip in found.role("unlabelled")] == ["c.wav"]
    assert opened(found) == {"f.wav": ("bird",), "g.wav": ()}
    assert class_notes(found) == []
    wrong = refused(table(tmp_path, [*lines, "h.wav,bird|-,train", "i.wav,,test"]))
    assert "line 9 (h.wav): '-' says that none of the classes is there: it stands alone" in wrong
    assert "line 10 (i.wav): no label, but part 'test' is scored" in wrong


def test_the_plan_notes_what_is_not_told_apart_and_names_that_look_alike(tmp_path: Path) -> None:
    def plan(labels: list[str]) -> Any:
        lines = ["path,labels,part"]
        for part in ("train", "validation", "test"):
            lines += [f"{part}{k}.wav,{label},{part}" for k, label in enumerate(labels)]
        asked = Options(dataset="table", data=str(table(tmp_path, lines)), gpus_per_trial=0.0)
        return make_plan(asked)[0]

    notes = plan(["bird"] * 3).notes
    assert any("every training clip has 'bird'" in note and "perfect" in note for note in notes)
    notes = plan(["Dog|x", "dog|x", "sea_lion|x", "Sea lion|x", "cat|x"]).notes
    assert any("'Dog' and 'dog'" in note for note in notes)
    assert any("'Sea lion' and 'sea_lion'" in note for note in notes)
    assert any("every training clip has 'x'" in note for note in notes)
    assert not any("name" in n or "apart" in n for n in plan(["dog", "cat", "cat"]).notes)
