"""Names of files are bytes: whatever they are, the others are predicted too."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import soundfile
from scored import noise
from test_inference import command

from orchestrator.models import sound
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

ODD = (b"V\xf6gel am See.wav", b"line\nbreak.wav", b"[bold]x[bold].wav", b"-dash.wav", b"a.WAV")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "odd"
    found.mkdir()
    soundfile.write(tmp_path / "x.wav", noise(1, 16_000)[0], 16_000)
    content = (tmp_path / "x.wav").read_bytes()
    for name in ODD:
        with open(os.path.join(os.fsencode(found), name), "wb") as file:
            file.write(content)
    return found


def test_files_of_any_name_are_predicted_in_every_format(
    scored_run: RunDir, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    command(scored_run, folder, format="json", output=str(out))
    rows = json.loads(out.read_bytes().decode())  # UTF-8
    assert {Path(row["file"]).name for row in rows} == {
        r"V\xf6gel am See.wav", "line\nbreak.wav", "[bold]x[bold].wav", "-dash.wav", "a.WAV"
    }  # fmt: skip
    assert len({json.dumps(row["tags"]) for row in rows}) == 1  # it is one sound
    text = command(scored_run, folder)
    text.encode()
    assert sum(line.endswith("(1.000 s)") for line in text.splitlines()) == len(ODD)
    command(scored_run, folder, format="audacity", output=str(tmp_path / "tracks"))
    tracks = {path.name for path in (tmp_path / "tracks").iterdir()}
    assert len(tracks) == len(ODD)
    assert r"V\xf6gel am See.wav.txt" in tracks


def test_a_broken_file_of_an_odd_name_is_named(scored_run: RunDir, folder: Path) -> None:
    for name in ODD[:2]:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"no sound")
    with pytest.raises(UserError, match=r"2 of 5 files") as error:
        command(scored_run, folder)
    str(error.value).encode()
    assert r"V\xf6gel am See.wav  is no audio file" in str(error.value)


def test_label_tracks_of_links_are_named_as_the_links(
    scored_run: RunDir, folder: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in ("one.wav", "two.wav"):
        (links / name).symlink_to(folder / "a.WAV")
    command(scored_run, links, format="audacity", output=str(tmp_path / "tracks"))
    written = sorted(path.name for path in (tmp_path / "tracks").iterdir())
    assert written == ["one.wav.txt", "two.wav.txt"]


def test_no_room_to_unpack_a_file_blames_the_folder_and_not_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sound.tempfile, "TemporaryFile", full)
    with pytest.raises(UserError, match="Make room there") as error:
        sound.FileSound(str(folder / "a.WAV"), 1.0).at(16_000)
    assert sound.tempfile.gettempdir() in str(error.value)
