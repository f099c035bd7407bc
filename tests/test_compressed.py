"""Lengths of compressed files: what is there counts, not what a header says."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scored import noise

from orchestrator.models.sound import FileSound
from systems.data.files import BrokenSound, Files, examine, fault

RATE = 44_100
needs_mp3 = pytest.mark.skipif(
    "MP3" not in soundfile.available_formats(), reason="this libsndfile writes no MP3"
)


def sweep(seconds: float = 3.0) -> np.ndarray:
    """Quiet first, then loud: what a guess from the first frames takes for small frames."""
    time = np.arange(round(seconds * RATE)) / RATE
    loud = noise(seconds, RATE)[0] + 0.3 * np.sin(2 * np.pi * (300 * time + 500 * time**2))
    return np.where(time < 1, 0.0005, 1) * loud


def mp3(path: Path, how: str) -> tuple[bytes, int]:
    """An MP3 with its header, and how long the header is."""
    soundfile.write(path, sweep(), RATE, format="MP3", bitrate_mode=how, compression_level=0.5)
    content = path.read_bytes()
    # 417 or 522 bytes: the first frame of MPEG-1, layer III, whose bitrate its header has.
    kbits = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[content[2] >> 4]
    return content, 144_000 * kbits // RATE + (content[2] >> 1 & 1)


def seconds_of(path: Path) -> tuple[float, float, float]:
    """By a look at the file, decoded for the store, and for a prediction; 0 where it is refused."""
    files = Files(str(path.parent), {"x": path.name})
    found, broken = examine(files, {"x": ""}, decode=False)
    if broken:
        return 0.0, 0.0, 0.0
    decoded, rate = files.read("x")
    heard = FileSound(str(path), found["x"])
    heard.at(16_000)
    return found["x"], decoded.shape[1] / rate, heard.seconds


@needs_mp3
@pytest.mark.parametrize("how", ["VARIABLE", "CONSTANT"])
def test_an_mp3_is_as_long_as_its_frames(how: str, tmp_path: Path) -> None:
    whole, header = mp3(tmp_path / "whole.mp3", how)
    bare = whole[header:]
    tag = b"ID3\x03\0\0" + bytes([0, 6, 0, 0]) + b"\0" * (6 << 14)  # a picture, say
    cases = {
        "whole": (whole, 3.0),
        "without a header": (bare, 3.02),
        "tagged": (tag + whole, 3.0),
        "tagged, without a header": (tag + bare, 3.02),
        "with a tail": (bare + b"\0" * 20_000 + b"TAG" + b" " * 125, 3.02),
        "joined": (whole + whole, 6.03),
        "joined, tagged": (tag + whole + tag + bare, 6.03),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / f"{name}.mp3"
        path.write_bytes(content)
        told, decoded, heard = seconds_of(path)
        assert told == pytest.approx(expected, abs=0.05), name
        assert decoded == pytest.approx(told, abs=0.01), name
        assert heard == pytest.approx(told, abs=0.01), name
    joined, _ = Files(str(tmp_path), {"x": "joined.mp3"}).read("x")
    second = joined[0, round(4.2 * RATE) : round(5.8 * RATE)]  # the second one's loud part
    assert np.sqrt((second**2).mean()) > 0.1


@needs_mp3
def test_a_truncated_mp3_is_told_where_its_header_says_more(tmp_path: Path) -> None:
    whole, header = mp3(tmp_path / "x.mp3", "VARIABLE")
    (tmp_path / "x.mp3").write_bytes(whole[: len(whole) // 2])
    _, ((_, why),) = examine(Files(str(tmp_path), {"x": "x.mp3"}), {"x": ""}, decode=False)
    assert "truncated" in why
    with pytest.raises(BrokenSound, match="truncated"):
        FileSound(str(tmp_path / "x.mp3"), 3.0).at(RATE)
    (tmp_path / "x.mp3").write_bytes(whole[header : len(whole) // 2])  # nobody can tell
    assert all(1 < seconds < 3 for seconds in seconds_of(tmp_path / "x.mp3"))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chained_ogg_is_all_of_its_links(subtype: str, tmp_path: Path) -> None:
    rate = 48_000
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        sound = noise(seconds, rate)[0]
        soundfile.write(tmp_path / f"{name}.ogg", sound, rate, format="OGG", subtype=subtype)
    first, second = ((tmp_path / f"{name}.ogg").read_bytes() for name in "ab")
    (tmp_path / "chained.ogg").write_bytes(first + second)
    for name, expected in (("a", 1.0), ("chained", 3.0)):
        assert seconds_of(tmp_path / f"{name}.ogg") == pytest.approx((expected,) * 3, abs=0.01)
    soundfile.write(tmp_path / "c.ogg", noise(1, 16_000)[0], 16_000, format="OGG", subtype=subtype)
    (tmp_path / "odd.ogg").write_bytes(first + (tmp_path / "c.ogg").read_bytes())
    with pytest.raises(BrokenSound, match="different rates"):
        FileSound(str(tmp_path / "odd.ogg"), 2.0).at(rate)


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_blocks_that_a_codec_fills_are_no_fault(subtype: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1.03, 8000)[0], 8000, subtype=subtype)
    assert seconds_of(path) == pytest.approx((1.03,) * 3, abs=0.065)


def test_what_lies_below_the_tolerance_is_tolerated_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1, 16_000)[0], 16_000)
    content = bytearray(path.read_bytes())
    place = content.find(b"data") + 4
    (size,) = struct.unpack("<I", content[place : place + 4])
    for missing, fine in ((100, True), (1000, False)):  # bytes, of 2 a sample
        content[place : place + 4] = struct.pack("<I", size + missing)
        path.write_bytes(content)
        assert (seconds_of(path)[0] > 0) == fine


def test_a_wav_file_that_is_longer_than_its_header_says_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1, 16_000)[0], 16_000)
    whole = path.read_bytes()
    place = whole.find(b"data") + 4
    half = struct.pack("<I", (len(whole) - place - 4) // 2)
    path.write_bytes(whole[:place] + half + whole[place + 4 :])
    _, ((_, why),) = examine(Files(str(tmp_path), {"x": "x.wav"}), {"x": ""}, decode=False)
    assert "longer than it says" in why
    chunk = b"LIST" + struct.pack("<I", 18) + b"INFOISFT" + struct.pack("<I", 6) + b"field\0"
    size = struct.pack("<I", len(whole) - 8 + len(chunk))
    for fine in (whole + chunk, whole[:4] + size + whole[8:] + chunk, whole + b"\x13\x37" * 9000):
        path.write_bytes(fine)
        assert seconds_of(path) == (1.0, 1.0, 1.0)


def test_a_flac_that_does_not_say_its_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, noise(1, 16_000)[0], 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits of its stream info
    content[22:26] = b"\0" * 4
    path.write_bytes(content)
    assert seconds_of(path) == (1.0, 1.0, 1.0)


def test_a_mix_that_cancels_and_another_full_scale_are_told(tmp_path: Path) -> None:
    mono = noise(1, 16_000)[0].astype(np.float32)
    channels = {
        "fine": np.stack([mono, 0.2 * mono], 1),
        "one channel is silent": np.stack([mono, 0 * mono], 1),
        "loud": np.stack([3 * mono, mono], 1),
        "antiphase": np.stack([mono, -mono], 1),
        "antiphase, rounded": np.stack([mono, -mono * 0.9999], 1),
        "integers": np.stack([32768 * mono, 32768 * mono], 1),
    }
    why = {}
    for name, samples in channels.items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
        files = Files(str(tmp_path), {"x": path.name})
        why[name] = examine(files, {"x": ""}, decode=True)[1]
        heard = FileSound(str(path), 1.0)
        if why[name]:
            with pytest.raises(BrokenSound, match=r"antiphase|peak"):
                heard.at(16_000)
        else:
            assert len(heard.at(16_000)) == 16_000
    assert not any(why[name] for name in ("fine", "one channel is silent", "loud"))
    for name in ("antiphase", "antiphase, rounded"):
        assert "2 channels are mixed to mono by their mean" in why[name][0][1]
    assert f"peak of {32768 * np.abs(mono).max():g}" in why["integers"][0][1]


def test_where_channels_are_heard_antiphase_is_no_fault() -> None:
    mono = noise(1, 16_000)[0].astype(np.float32)
    pair = np.stack([mono, -mono])
    assert "cancels itself" in fault(pair, 16_000, 1.0)
    assert fault(pair, 16_000, 1.0, mixed=False) == ""
    assert "silent" in fault(0 * pair, 16_000, 1.0, mixed=False)
