"""Tiny sets in the layouts of the public ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from systems import data
from systems.data import dcase2018_task3
from systems.data.dataset import LabelKind
from systems.errors import UserError

RATE = 8_000  # Hz; readers take any
SCENES = ("bus", "tram")
FSD_TRAIN = "FSDKaggle2018.meta/train_post_competition.csv"
RWCP_WORDS = "RWCPSSD_Onomatopoeia/RWCP_SSD_Onomatopoeia_en/nospeech/drysrc"
FSD_SCORED = "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv"


def sound(path: Path, channels: int = 1, seconds: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(path.name.encode()))
    noise = generator.standard_normal((round(RATE * seconds), channels))
    soundfile.write(path, 0.1 * noise, RATE, subtype="PCM_16")


def table(path: Path, rows: Sequence[Sequence[str]], separator: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")


def fsdkaggle2018(root: Path) -> None:
    """12 training clips (4 verified; two of one sound on Freesound) and 4 test clips."""
    train = [["fname", "label", "manually_verified", "freesound_id", "license"]]
    test = [["fname", "label", "usage", "freesound_id", "license"]]
    for i in range(16):
        name, label = f"{i:08x}.wav", ("Bark", "Hi-hat")[i % 2]
        part = "train" if i < 12 else "test"
        sound(root / f"FSDKaggle2018.audio_{part}" / name)
        origin = ["0" if i == 2 else str(i), "Attribution"]
        if part == "train":
            train.append([name, label, str(int(i % 3 == 0)), *origin])
        else:
            test.append([name, label, "Public" if i == 12 else "Private", *origin])
    table(root / FSD_TRAIN, train, ",")
    table(root / FSD_SCORED, test, ",")


def scenes(root: Path, devices: str, channels: int) -> None:
    """Two scenes of six places, the last one tested; two moments a place, on every device."""
    meta = [["filename", "scene_label", "identifier", "source_label"]]
    folds: dict[str, list[list[str]]] = {"train": [], "evaluate": []}
    for i in range(24):
        scene, place = SCENES[i // 12], f"paris-{i // 2}"
        for device in devices:
            name = f"audio/{scene}-{place}-{i}-{device}.wav"
            sound(root / name, channels)
            meta.append([name, scene, place, device])
            folds["train" if i % 12 < 10 else "evaluate"].append([name, scene])
    table(root / "meta.csv", meta, "\t")
    for fold, rows in folds.items():
        table(root / f"evaluation_setup/fold1_{fold}.txt", rows, "\t")


def mask(root: Path, tables: Sequence[str] = ("train", "devel", "test")) -> None:
    """8 training, 4 development and 4 test clips; test labels are withheld."""
    rows: dict[str, list[list[str]]] = {name: [["file_name", "label"]] for name in tables}
    for part, count in {"train": 8, "devel": 4, "test": 4}.items():
        for i in range(count):
            name = f"{part}_{i:05d}.wav"
            sound(root / "wav" / name)
            label = "?" if part == "test" else ("clear", "mask")[i % 2]
            rows[part if part in rows else tables[0]].append([name, label])
    for name in tables:
        table(root / f"lab/{name}.csv", rows[name], ",")


def breathing(root: Path) -> None:
    """4 training, 2 development and 3 test recordings of 10 to 14 steps; the last are withheld."""
    rows = [["filename", "timeFrame", "upper_belt"]]
    for part, count in {"train": 4, "devel": 2, "test": 3}.items():
        for i in range(count):
            name, steps = f"{part}_{i:02d}.wav", 10 + i
            sound(root / "wav" / name, seconds=0.04 * steps)
            for step in range(steps):
                value = "?" if part == "test" else f"{np.sin(i + step):.5f}"
                rows.append([name, f"{0.04 * step:.2f}", value])
    table(root / "lab/labels.csv", rows, ",")


def vocal_imitation(root: Path) -> None:
    """Three classes of a reference and two others; each reference is imitated by three people."""
    kinds = [["filename", "classname", "is_reference", "multi_labeled"]]
    imitations = [["", "imitation_filename", "reference_filename", "included", "draft",
                   "participant_id"]]  # fmt: skip
    for k, name in enumerate(("001Animal_Cat", "002Animal_Dog", "003Music_Gong")):
        reference = f"{name}_reference.wav"
        sound(root / "original_recordings/reference" / reference)
        kinds.append([reference, name, "True", "False"])
        for other in ("1__user__a.wav", "2__user__b.wav"):
            sound(root / "original_recordings/non_reference" / name / other)
            kinds.append([other, name, "False", "False"])
        for person in range(3):
            said = f"{name}-{k}{person}.wav"
            sound(root / "vocal_imitations/included" / said)
            imitations.append([str(len(imitations)), said, reference, "True", "False",
                               f"{person}.0"])  # fmt: skip
        draft = [str(len(imitations)), f"{name}-draft.wav", reference, "False", "True", "9.0"]
        imitations.append(draft)
    table(root / "original_recordings_classes.txt", kinds, "\t")
    table(root / "vocal_imitations.txt", imitations, "\t")


def urbansound8k(root: Path, seconds: float = 0.1) -> None:
    """Two classes in ten folds: of each a recording, cut into two clips."""
    rows = [["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]]
    for fold in range(1, 11):
        for k, name in ((3, "dog_bark"), (8, "siren")):
            for cut in range(2):
                file, origin = f"{100 * fold + k}-{k}-0-{cut}.wav", str(100 * fold + k)
                sound(root / f"audio/fold{fold}" / file, seconds=seconds)
                rows.append([file, origin, "0.0", "0.1", "1", str(fold), str(k), name])
    table(root / "metadata/UrbanSound8K.csv", rows, ",")


def grafic_scenes(root: Path) -> Path:
    """Four scenes of 0.5 s; 12 subjects, the last of whom answers the other way round."""
    tracks = ("traffic", "birds", "horns_sirens", "voices", "footsteps")
    kinds = {"P2": "noisy street", "P3": "park", "P5": "quiet street", "P9": "park"}
    rng = np.random.default_rng(0)
    questions = ["OL", "I", "L", "C", *(f"{what}_{s}" for s in "TBHVF" for what in "TL")]
    ratings = [["subject", "session", "order", "scene", *questions]]
    for place, scene in enumerate(kinds):
        folder = root / "scenes" / scene
        folder.mkdir(parents=True)
        made = 0.02 * rng.standard_normal((len(tracks), 24_000)) * (0.5 + rng.random((5, 1)))
        shares = np.array([4, place + 1, 0, 4 - place, 2]) / 4  # how long each source sounds
        made *= np.arange(24_000) / 24_000 < shares[:, None]
        for track, samples in zip((*tracks, "mix"), (*made, made.sum(axis=0)), strict=True):
            soundfile.write(folder / f"{track}.flac", samples, 48_000, subtype="PCM_16")
        events = [["source", "kind", "onset", "duration", "ebr_db"],
                  ["traffic", "background", "0.0", "0.5", "0.0"],
                  ["birds", "event", "0.1", "0.2", "3.0"],
                  ["birds", "event", "0.2", "0.2", "-3.0"]]  # fmt: skip
        table(root / f"annotations/{scene}.csv", events, ",")
        true = 2.0 + 6.0 * rng.random(len(questions))
        true[4::2] = 1.0 + 8.0 * shares
        for subject in range(12):
            said = 10.0 - true if subject == 11 else true + 0.05 * rng.standard_normal(len(true))
            row = [f"S{subject + 1:02d}", "1", str(place), scene, *(f"{v:.2f}" for v in said)]
            ratings.append(row)
    table(root / "ratings.csv", ratings, ",")
    table(root / "scenes.csv", [["scene", "type"], *map(list, kinds.items())], ",")
    table(root / "calibration.csv", [["rms_1_is_db_spl"], ["100.0"]], ",")
    return root


BIRDS = {"ff1010bird": ("10", "11", "12"), "warblrb10k": ("aa-1", "aa-2"),
         "BirdVox-DCASE-20k": ("ff-3", "ff-4")}  # fmt: skip


def birds(root: Path, published: bool = False, tested: bool = True) -> Path:
    """Three sets, in each of which every other clip has a bird; ``published``: tables under their
    published names; ``tested``: two evaluation sets of two clips."""
    for name, items in BIRDS.items():
        rows = [["itemid", "datasetid", "hasbird"]]
        rows += [[item, name, str(n % 2)] for n, item in enumerate(items)]
        own = dcase2018_task3.TABLES[name] if published else f"labels/{name}.csv"
        table(root / own, rows, ",")
        for item in items:
            sound(root / "audio" / name / f"{item}.wav")
    for name in ("Chernobyl", "PolandNFC") if tested else ():
        for n in range(2):
            sound(root / "audio" / name / f"{name[0]}{n}.wav")
    return root


def rwcp(root: Path) -> None:
    """Two classes of three sounds without headers; five listeners wrote of each but the last of a
    class, which ``split.csv`` calls ``test``."""
    split = [["file", "part"]]
    for name, word in (("a1/wood2", "k a q"), ("b1/particl2", "z a: N")):
        for number in ("003", "010", "021"):
            raw = root / f"RWCP-SSD_Vol1/nospeech/drysrc/{name}/48khz/{number}.raw"
            raw.parent.mkdir(parents=True, exist_ok=True)
            generator = np.random.default_rng(zlib.crc32(f"{name}{number}".encode()))
            noise = 3000 * generator.standard_normal(4800 + 480 * int(number))
            noise.astype("<i2").tofile(raw)
            part = "test" if number == "021" else "train"
            split.append([f"nospeech/drysrc/{name}/48khz/{number}.raw", part])
            words = root / RWCP_WORDS / name / f"{number}.ono"
            words.parent.mkdir(parents=True, exist_ok=True)
            rows = [f"{k:04d},{k:04d}_{int(number)},{word},4" for k in range(5)]
            words.write_text("".join(f"{row}\n" for row in rows))
    table(root / "split.csv", split, ",")


def sofa(path: Path, azimuth: Any, elevation: Any, taps: np.ndarray, **changed: Any) -> None:
    about = {"convention": "SimpleFreeFieldHRIR", "rate": 48_000.0, "delay": np.zeros((1, 2))}
    about |= changed
    with h5py.File(path, "w") as file:
        file.attrs["SOFAConventions"] = np.bytes_(about["convention"])
        file["Data.IR"], file["Data.SamplingRate"] = taps, np.array([about["rate"]])
        file["Data.Delay"] = about["delay"]
        file["SourcePosition"] = np.stack([azimuth, elevation, np.ones(len(taps))], axis=1)
        file["SourcePosition"].attrs["Type"] = np.bytes_("spherical")


POLAR = (-135, -45, 0, 45, 90, 135)


def binaural_sofa(root: Path) -> Path:
    """Six templates, two dry sounds, two of speech."""
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    azimuth = [0 if abs(p) <= 90 else 180 for p in POLAR]
    elevation = [p if abs(p) <= 90 else np.sign(p) * 180 - p for p in POLAR]
    for name in ("a", "b"):
        sofa(root / f"{name}.sofa", azimuth, elevation, rng.standard_normal((6, 2, 32)))
    sofa(root / "c.sofa", [7], [0], rng.standard_normal((1, 2, 32)))
    rows = ["condition,sofa_file,index,azimuth,elevation,lateral,polar"]
    for condition, file in (("template", "a"), ("matched", "a"), ("mismatched", "b")):
        for k, polar in enumerate(POLAR):
            rows.append(f"{condition},{file}.sofa,{k},{azimuth[k]},{elevation[k]},0.0,{polar}")
    rows.append("off_centre,c.sofa,0,7,0,7,0")
    (root / "conditions.csv").write_text("\n".join(rows) + "\n")
    for name, rate in (("environmental/bells", 48_000), ("environmental/saw", 44_100),
                       ("speech/one", 48_000), ("speech/two", 48_000)):  # fmt: skip
        path = root / "sources" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(rate // 10), rate)
    return root


@dataclass(frozen=True)
class Case:
    """A set: how it is made, its clips and what holds them, and what one of its labels says.

    ``test_tables`` hold labels of the test part; ``trained``: files of training clips.
    """

    name: str
    make: Callable[[Path], None]
    clips: dict[str, int]
    task: str
    columns: tuple[str, ...]
    audio: str
    train_table: str
    test_tables: tuple[str, ...]
    label: str
    kind: LabelKind = "class"
    test_kind: LabelKind = "class"
    trained: str = "*.wav"


FOLDS = tuple(f"evaluation_setup/fold1_{part}.txt" for part in ("train", "evaluate"))
CASES = (
    Case(
        "fsdkaggle2018", fsdkaggle2018, {"train": 12, "test": 4}, "single_label_tagging",
        ("manually_verified",), "FSDKaggle2018.audio_train", FSD_TRAIN, (FSD_SCORED,), "Bark",
    ),
    Case(
        "tut2018", lambda root: scenes(root, "a", 2), {"train": 20, "test": 4},
        "scene_classification", ("device", "identifier", "city"), "audio", "meta.csv",
        ("meta.csv", FOLDS[1]), "bus",
    ),
    Case(
        "tut2018_mobile", lambda root: scenes(root, "abc", 1), {"train": 60, "test": 12},
        "scene_classification", ("device", "identifier", "city"), "audio", "meta.csv",
        ("meta.csv", FOLDS[1]), "bus",
    ),
    Case(
        "compare2020_mask", mask, {"train": 8, "devel": 4, "test": 4}, "speech_classification",
        (), "wav", "lab/train.csv", ("lab/test.csv",), "mask",
        test_kind="withheld", trained="train_*.wav",
    ),
    Case(
        "compare2020_breathing", breathing, {"train": 4, "devel": 2, "test": 3},
        "series_regression", ("steps",), "wav", "lab/labels.csv", ("lab/labels.csv",),
        "upper_belt", kind="series", test_kind="withheld", trained="train_*.wav",
    ),
)  # fmt: skip


def refusal(case: Case, root: Path, skip_broken: bool = False) -> str:
    with pytest.raises(UserError) as error:
        data.load(case.name, str(root), skip_broken)
    return str(error.value)


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
