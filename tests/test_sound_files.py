"""Files of sound that cannot be used, and data that has changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from systems import data
from systems.data.dataset import Dataset
from systems.data.files import Files, examine
from systems.errors import UserError


def load(folder: Path) -> Dataset:
    return data.load("dcase2018_task4", str(folder))


def noise(path: Path, seconds: float = 1.0) -> Path:
    """A mono file at 16 kHz, in the format of its suffix."""
    samples = np.random.default_rng(0).normal(0, 0.05, round(seconds * 16_000))
    soundfile.write(path, samples, 16_000)
    return path


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def why_not(path: Path, decode: bool = False) -> str:
    """Why a file cannot be used, or an empty string."""
    _, broken = examine(Files(str(path.parent), {"x": path.name}), {"x": "a table"}, decode)
    return broken[0][1] if broken else ""


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac", "mp3"])
def test_a_truncated_file_is_known_by_its_header(suffix: str, tmp_path: Path) -> None:
    path = noise(tmp_path / f"a.{suffix}")
    assert why_not(path) == why_not(path, decode=True) == ""
    cut(path)
    assert why_not(path).startswith("is truncated")


def test_the_length_that_a_pipe_leaves_open_is_no_fault(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.wav")
    written = bytearray(path.read_bytes())
    written[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(written)
    assert why_not(path, decode=True) == ""
    flac = noise(tmp_path / "b.flac")
    written = bytearray(flac.read_bytes())
    written[21:26] = bytes([written[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO: total samples unknown
    flac.write_bytes(written)
    assert why_not(flac, decode=True) == ""


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.zeros((0, 1)), "holds no samples"),
        (np.zeros((800, 1)), "is silent"),
        (np.full((800, 1), 0.25), "is silent"),
        (np.linspace(-0.5, 0.5, 800)[:, None] * [[1.0, -1.0]], "cancels itself"),
        (np.r_[np.full((799, 1), 0.25), [[np.inf]]], "not finite"),
        (np.r_[np.zeros((799, 1)), [[1e-6]]], ""),
    ],
)
def test_what_sound_cannot_be_used(samples: np.ndarray, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    assert why in why_not(path, decode=True)
    assert bool(why_not(path, decode=True)) == bool(why)


def test_the_error_of_broken_files_says_what_to_do(task4_copy: Path) -> None:
    weak = sorted((task4_copy / "dataset/audio/train/weak").iterdir())
    cut(weak[0])
    soundfile.write(weak[1], np.zeros(0), 16_000)
    with pytest.raises(UserError) as error:
        load(task4_copy)
    text = str(error.value)
    assert f"{weak[0].name}  is truncated" in text
    assert f"{weak[1].name}  holds no samples" in text
    assert text.endswith(
        "Mend or remove them (and their rows), or pass --skip-broken to leave them out (they are "
        "listed in the report)."
    )


def test_broken_files_are_left_out_with_their_rows(task4_copy: Path) -> None:
    audio = task4_copy / "dataset/audio"
    weak, test = (sorted((audio / part).iterdir()) for part in ("train/weak", "test"))
    weak[0].unlink()
    soundfile.write(weak[1], np.zeros(16_000), 16_000)
    cut(test[0])
    dataset = data.load("dcase2018_task4", str(task4_copy), skip_broken=True)
    assert dict(dataset.skipped).keys() == {
        f"audio/train/weak/{weak[0].name}", f"audio/train/weak/{weak[1].name}",
        f"audio/test/{test[0].name}",
    }  # fmt: skip
    assert (len(dataset.part("weak")), len(dataset.part("test"))) == (22, 7)
    assert len(dataset.labels["weak"].values) == 22
    assert len(dataset.open_sealed("test", lambda: None).values) == 7
    assert set(dataset.source.paths) == {clip.clip_id for clip in dataset.clips}  # type: ignore[attr-defined]
    for path in test:
        path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="no clip of part test"):
        data.load("dcase2018_task4", str(task4_copy), skip_broken=True)


def test_edited_labels_are_changed_data(task4_copy: Path) -> None:
    before = load(task4_copy).fingerprint()
    table = task4_copy / "dataset/metadata/train/weak.csv"
    table.write_text(table.read_text().replace("Frying", "Speech", 1))
    assert load(task4_copy).fingerprint() != before
