"""What every reader of a public set must do; the sets are made here, tiny, in their layouts."""

from __future__ import annotations

import csv
import os
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from systems import data
from systems.data.dataset import Dataset
from systems.data.splits import make_splits
from systems.errors import UserError

RATE = 8_000  # Hz; readers take any
SCENES = ("bus", "tram")
FSD_TRAIN = "FSDKaggle2018.meta/train_post_competition.csv"
FSD_SCORED = "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv"


def sound(path: Path, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).standard_normal((RATE // 10, channels))
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


@dataclass(frozen=True)
class Case:
    """A set: how it is made, its training clips and what holds them, and a class that it has not.

    ``test_tables`` hold labels of the test part.
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
)  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def root(case: Case, tmp_path: Path) -> Path:
    case.make(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(params=[*CASES, None], ids=lambda c: c.name if c else "dcase2018_task4")
def any_set(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Dataset]:
    """Reads a set that the test may change below ``tmp_path``."""
    if request.param is None:
        folder = request.getfixturevalue("task4_copy")
        return lambda: data.load("dcase2018_task4", str(folder))
    request.param.make(tmp_path / "set")
    return lambda: data.load(request.param.name, str(tmp_path / "set"))


def refusal(case: Case, root: Path, skip_broken: bool = False) -> str:
    with pytest.raises(UserError) as error:
        data.load(case.name, str(root), skip_broken)
    return str(error.value)


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


# --- every reader ---


def test_test_labels_are_sealed_until_recorded(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    assert not set(dataset.sealed) & set(dataset.labels)
    assert dataset.test_part in dataset.sealed
    assert not {clip.part for clip in dataset.role("labelled")} & set(dataset.sealed)
    opened: list[str] = []

    def full_disk() -> None:
        raise OSError("disk full")

    for part in dataset.sealed:
        with pytest.raises(OSError, match="disk full"):
            dataset.open_sealed(part, full_disk)
        labels = dataset.open_sealed(part, lambda part=part: opened.append(part))
        assert labels.kind == dataset.label_kind(part)
        assert set(labels.values) == {clip.clip_id for clip in dataset.part(part)}
        assert labels.tag_matrix(tuple(labels.values), dataset.classes).sum() > 0
    assert opened == list(dataset.sealed)


def test_the_fingerprint_tells_changed_files(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    before = dataset.fingerprint()
    assert any_set().fingerprint() == before
    for clip in (dataset.role("labelled")[0], dataset.part(dataset.test_part)[0]):
        os.utime(dataset.source.where(clip.clip_id), ns=(1, 1))
        touched = any_set().fingerprint()
        assert touched != before
        before = touched


def test_groups_are_split_over_neither_folds_nor_parts(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    tested = {clip.group for clip in dataset.clips if clip.part in dataset.sealed}
    group_of = {clip.clip_id: clip.group for clip in dataset.role("labelled")}
    assert not tested & set(group_of.values())
    for fold in make_splits(dataset, seed=0).folds:
        assert not {group_of[i] for i in fold.train} & {group_of[i] for i in fold.validation}


def test_other_processes_read_the_same_sound(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint() == dataset.fingerprint()
    clip = dataset.clips[-1]
    samples, rate = copy.source.read(clip.clip_id)
    assert samples.dtype == np.float32
    assert samples.shape[1] == round(clip.duration * rate)
    np.testing.assert_array_equal(samples, dataset.source.read(clip.clip_id)[0])


# --- readers of one class a clip ---


def test_parts_classes_and_columns(case: Case, root: Path) -> None:
    dataset = data.load(case.name, str(root))
    assert Counter(clip.part for clip in dataset.clips) == case.clips
    assert (dataset.name, dataset.task) == (case.name, case.task)
    assert {dataset.label_kind(part) for part in case.clips} == {"class"}
    assert {clip.role for clip in dataset.clips} == {"labelled"}
    assert {tuple(clip.columns) for clip in dataset.clips} == {case.columns}
    assert set(dataset.labels["train"].values.values()) == set(dataset.classes)
    assert case.label in dataset.classes
    assert any("2 of the set's" in note for note in dataset.notes)


def test_every_fault_is_named_at_once(case: Case, root: Path) -> None:
    sounds = sorted((root / case.audio).iterdir())[:4]
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
    assert f"{case.audio}/stranger.wav: no row of {case.train_table} is of it" in text
    assert "2 rows are of" in text
    assert "fields instead of" in text
    assert f"{case.test_tables[0]} line" in text
    assert "did you mean" in text
    assert sounds[3].name not in text


def spoilt(line: str) -> str:
    """A row with a misspelt label."""
    for name in ("Bark", "Hi-hat", *SCENES):
        for separator in ",\t":
            line = line.replace(f"{separator}{name}", f"{separator}{name[:-1]}x")
    return line


def test_broken_files_are_left_out_with_their_rows(case: Case, root: Path) -> None:
    silent = sorted((root / case.audio).iterdir())[0]
    soundfile.write(silent, np.zeros(RATE // 10), RATE)
    broken = sorted((root / case.audio).iterdir())[1]
    broken.write_bytes(b"no sound at all")
    dataset = data.load(case.name, str(root), skip_broken=True)
    assert {Path(path).name for path, _ in dataset.skipped} == {silent.name, broken.name}
    train = {clip.clip_id for clip in dataset.part("train")}
    assert len(train) == case.clips["train"] - 2
    assert set(dataset.labels["train"].values) == train
    edit(root / case.train_table, lambda lines: [*lines, lines[-1]])
    assert broken.name not in refusal(case, root, skip_broken=True)


def test_missing_and_unreadable_tables_are_named(case: Case, root: Path) -> None:
    other = case.test_tables[-1]
    (root / other).unlink()
    text = (root / case.train_table).read_text()
    (root / case.train_table).write_bytes(text.replace("label", "l\u00e4bel").encode("latin-1"))
    found = refusal(case, root)
    assert f"{other}: is missing" in found
    assert f"{case.train_table}: cannot be read as a table in UTF-8" in found
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
        separator = "," if path.endswith(".csv") and "FSD" in path else "\t"
        rows = list(csv.reader((root / path).read_text().splitlines(), delimiter=separator))
        other = "\t" if separator == "," else ","
        lines = [other.join(f'"{cell}"' for cell in row) for row in rows]
        (root / path).write_bytes("\r\n".join([*lines, "", ""]).encode("utf-8-sig"))
    after = data.load(case.name, str(root))
    assert after.labels == before.labels
    assert after.clips == before.clips
    assert after.fingerprint() != before.fingerprint()  # edited tables are changed data


# --- FSDKaggle2018 ---


def test_leaderboards_come_with_the_sealed_labels_and_padding_is_left_out(tmp_path: Path) -> None:
    fsdkaggle2018(tmp_path)
    sound(tmp_path / "FSDKaggle2018.audio_test/padding.wav")
    dataset = data.load("fsdkaggle2018", str(tmp_path))
    assert any("padding" in note for note in dataset.notes)
    labels = dataset.open_sealed("test", lambda: None)
    usage = Counter(columns["usage"] for columns in labels.columns.values())
    assert usage == {"Public": 1, "Private": 3}
    assert sum(clip.columns["manually_verified"] for clip in dataset.part("train")) == 4
    edit(
        (tmp_path / FSD_SCORED).rename(tmp_path / FSD_SCORED.replace("_scoring_clips", "")),
        lambda lines: [*lines, "padding.wav,None,Ignored,7,Attribution"],
    )
    kaggle = data.load("fsdkaggle2018", str(tmp_path))
    assert kaggle.clips == dataset.clips
    assert kaggle.open_sealed("test", lambda: None) == labels


# --- TUT Urban Acoustic Scenes 2018 ---


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.name)
def test_lists_that_contradict_the_table_are_told(case: Case, root: Path) -> None:
    train, test = (root / path for path in FOLDS)
    lines = train.read_text().splitlines()
    first, last = (lines[i].split("\t")[0] for i in (0, -1))
    edit(train, lambda lines: [lines[0].replace("\tbus", "\ttram"), *lines[1:]])
    edit(test, lambda rows: [*rows, lines[0], "audio/nowhere.wav\tbus"])
    text = refusal(case, root)
    assert f"{FOLDS[0]} line 1: 'tram' is not what meta.csv line 2 says" in text
    assert f"{first} trains too ({FOLDS[0]} line 1)" in text
    assert "no row of meta.csv is of audio/nowhere.wav" in text
    table(train, [line.split("\t") for line in lines[:-1]], "\t")
    edit(test, lambda rows: rows[:-2])
    text = refusal(case, root)
    assert f"{last} is in no list" in text
    edit(test, lambda rows: [*rows, lines[-1]])
    text = refusal(case, root)  # the other clips of that place still train
    assert "'paris-10' trains too" in text


def test_papers_call_the_test_part_of_the_development_set_dev() -> None:
    for name in ("tut2018", "tut2018_mobile"):
        assert data.part_of_split(name, "dev") == "test"
        assert data.part_of_split(name, "eval") != "test"


@pytest.mark.parametrize("given", ["", "outer"])
def test_only_the_mobile_set_has_phones(given: str, tmp_path: Path) -> None:
    unpacked = tmp_path / "TUT-urban-acoustic-scenes-2018-mobile-development"
    scenes(unpacked, "abc", 1)
    folder = str(tmp_path if given else unpacked)
    devices = Counter(clip.columns["device"] for clip in data.load("tut2018_mobile", folder).clips)
    assert devices == {"a": 24, "b": 24, "c": 24}
    with pytest.raises(UserError, match="'b' is no device"):
        data.load("tut2018", str(unpacked))


# --- small sets of real sounds, where the machine has them ---

MINI = Path(os.environ.get("SOUNDSWEEP_MINI_SETS", "-"))


@pytest.mark.skipif(not MINI.is_dir(), reason="SOUNDSWEEP_MINI_SETS names no folder")
@pytest.mark.parametrize(
    ("name", "clips", "counted", "column", "rate", "channels"),
    [
        ("fsdkaggle2018", (140, 50), {1: 86, 0: 54}, "manually_verified", 44_100, 1),
        ("tut2018", (16, 8), {"a": 16}, "device", 48_000, 2),
        ("tut2018_mobile", (18, 18), {"a": 6, "b": 6, "c": 6}, "device", 44_100, 1),
    ],
)
def test_the_mini_sets(
    name: str, clips: tuple[int, int], counted: dict[object, int], column: str, rate: int,
    channels: int,
) -> None:  # fmt: skip
    dataset = data.load(name, str(MINI / f"{name}_mini"))
    assert (len(dataset.part("train")), len(dataset.part("test"))) == clips
    assert Counter(clip.columns[column] for clip in dataset.part("train")) == counted
    samples, found = dataset.source.read(dataset.clips[0].clip_id)
    assert (len(samples), found) == (channels, rate)
