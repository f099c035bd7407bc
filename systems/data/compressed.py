"""What libsndfile cuts of files: MP3 without a true header, joined MP3, chained Ogg, and WAV files
whose header says less than follows.

libsndfile never reads beyond the length that it takes from an MP3's header, or guesses from the
first frames where there is none, and of a chained Ogg it reads the first link. The frames and pages
themselves say what is there.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any

# kbit/s by the header's bitrate index: MPEG-1 and MPEG-2/2.5, layer III
KBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)
SAMPLES = {1: 1152, 2: 576}  # of a frame
OF_INFO = {1: 9, 2: 8}  # the bitrate index of a frame that is large enough for a header


@dataclass(frozen=True)
class Contents:
    """What lies in a file: ``pieces`` are opened one after another, and are all of its sound.

    ``fault``: why it cannot be used, or an empty text.
    """

    pieces: tuple[Any, ...]
    fault: str = ""


def contents(path: str) -> Contents:
    """The pieces of an audio file; but of some MP3 and Ogg files it is the file itself.

    Raises:
        OSError: it cannot be read.
    """
    if os.path.getsize(path) == 0:
        return Contents((path,))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        if held[:4] == b"OggS":
            return _links(path, held)
        if held[:4] == b"RIFF":
            return Contents((path,), _riff_fault(held))
        if _frame(held, _start(held)) is not None:
            return _frames(path, held)
    return Contents((path,))


# --- WAV ---


def _riff_fault(held: mmap.mmap) -> str:
    """Whether sound lies behind the sound that a header tells of: what follows within the file's
    own size is then no chunk."""
    size, at = struct.unpack("<I", held[4:8])[0], 12
    end = min(8 + size, len(held))
    while at + 8 <= end:
        name, length = held[at : at + 4], struct.unpack("<I", held[at + 4 : at + 8])[0]
        behind = at + 8 + length
        if name == b"data":
            rest = held[behind:end]
            names = (rest[:4], rest[1:5])  # an odd chunk is filled by a byte, but not by all
            if len(rest) > length // 10 and rest.strip(b"\0") and not any(map(_is_name, names)):
                return (
                    f"holds {len(rest)} bytes behind the {length} of sound that its header tells "
                    "of: it is longer than it says. Write it again"
                )
            return ""
        at = behind + length % 2
    return ""


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(32 <= letter < 127 for letter in name)


# --- Ogg ---


def _links(path: str, held: mmap.mmap) -> Contents:
    """A chained file's links, each from the pages that begin its streams to the next ones."""
    begins: list[int] = []
    at, was_first = 0, False
    while 0 <= at <= len(held) - 27:
        is_first = bool(held[at + 5] & 2)  # page flag: begins a stream
        if is_first and not was_first:
            begins.append(at)
        was_first = is_first
        segments = held[at + 26]
        following = at + 27 + segments + sum(held[at + 27 : at + 27 + segments])
        at = following if held[following : following + 4] == b"OggS" else held.find(b"OggS", at + 4)
    if len(begins) == 1:
        return Contents((path,))
    ends = [*begins[1:], len(held)]
    return Contents(tuple(held[a:b] for a, b in zip(begins, ends, strict=True)))


# --- MP3 ---


def _start(held: mmap.mmap) -> int:
    """Where the frames begin: after ID3v2 tags."""
    at = 0
    while held[at : at + 3] == b"ID3" and len(held) >= at + 10:
        size = held[at + 6 : at + 10]  # seven bits a byte
        at += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    return at


def _frame(held: Any, at: int) -> tuple[int, int, int] | None:
    """The version (1 or 2), rate and size in bytes of a frame of layer III, if there is one."""
    head = held[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = (head[1] >> 3) & 3, head[2] >> 4, (head[2] >> 2) & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return None
    kind = 1 if version == 3 else 2
    hertz = RATES[rate] >> (0, 0, 1, 2)[3 - version if version else 3]
    size = SAMPLES[kind] // 8 * KBITS[kind][bits] * 1000 // hertz + ((head[2] >> 1) & 1)
    return kind, hertz, size


def _stated(frame: bytes, kind: int) -> int | None:
    """How many frames a frame says there are: it is then a header (Xing, Info, VBRI) and no sound;
    0 where it does not say."""
    mono = frame[3] >> 6 == 3
    at = 4 + {1: (32, 17), 2: (17, 9)}[kind][mono]
    if frame[at : at + 4] in (b"Xing", b"Info"):
        (flags,) = struct.unpack(">I", frame[at + 4 : at + 8])
        return int(struct.unpack(">I", frame[at + 8 : at + 12])[0]) if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return int(struct.unpack(">I", frame[50:54])[0])
    return None


def _frames(path: str, held: mmap.mmap) -> Contents:
    """The file itself where its header is right, else its frames below a header that is."""
    at = _start(held)
    first = _frame(held, at)
    assert first is not None
    sound: list[bytes] = []
    stated: list[int] = []
    while at < len(held) - 4:
        found = _frame(held, at)
        if found is None or found[:2] != first[:2] or at + found[2] > len(held):
            at = _next(held, at + 1, first)
            continue
        frame = held[at : at + found[2]]
        count = _stated(frame, found[0])
        if count is None:
            sound.append(frame)
        else:
            stated.append(count)
        at += found[2]
    if not sound:
        return Contents((path,))
    if len(stated) == 1 and abs(stated[0] - len(sound)) <= 1:
        return Contents((path,))  # it also knows what an encoder added at both ends
    if sum(stated) > len(sound) + len(stated):
        return Contents((path,), f"is truncated: {len(sound)} of {sum(stated)} frames are there")
    return Contents((_header(sound, first[0]) + b"".join(sound),))


def _next(held: mmap.mmap, at: int, like: tuple[int, int, int]) -> int:
    """The next place with two frames in a row, or one and the end: tags and rubbish lie between."""
    while 0 <= (at := held.find(b"\xff", at)) < len(held) - 4:
        found = _frame(held, at)
        if found is not None and found[:2] == like[:2]:
            after = at + found[2]
            if after == len(held) or _frame(held, after) is not None:
                return at
        at += 1
    return len(held)


def _header(sound: list[bytes], kind: int) -> bytes:
    """A frame without sound that says how many follow."""
    first = sound[0]
    head = bytes((0xFF, first[1] | 1, OF_INFO[kind] << 4 | first[2] & 0x0C, first[3]))
    found = _frame(head, 0)
    assert found is not None
    side = {1: (32, 17), 2: (17, 9)}[kind][first[3] >> 6 == 3]
    total = sum(map(len, sound)) + found[2]
    about = b"Xing" + struct.pack(">III", 3, len(sound), total)
    return (head + b"\0" * side + about).ljust(found[2], b"\0")


def opened(piece: Any) -> Any:
    """What soundfile opens of a piece; the names of files are bytes."""
    return io.BytesIO(piece) if isinstance(piece, bytes) else os.fsencode(piece)
