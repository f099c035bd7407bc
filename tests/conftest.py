"""Fixtures: a small DCASE 2018 task 4 folder, made on the fly, and a whole run over it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import HERE, SEARCH, in_process, on_data, soundsweep

from orchestrator.runs.rundir import RunDir
from systems.data.dcase2018_task4 import CLASSES

RATE = 16_000  # Hz
SECONDS = 1.0
Timed = tuple[float, float, str]  # onset, offset, label


# The long files first, so that both test processes end at about the same time: one makes the shared
# runs, while the other has a long file that needs none of them.
LONG = tuple(
    f"test_{name}.py"
    for name in ("run", "stacking_learners", "stacks", "fusions", "faults", "commands",
                 "trainables", "inference", "logged_models", "example_scripts", "tracking")
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that all test processes share: the first that needs it makes it, others wait."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with open(shared / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def task4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds ``dataset/``: read it, do not change it (see ``task4_copy``).

    24 weak clips, 8 unlabelled in domain, 2 out of domain, 8 test clips, 2 evaluation clips (the
    second without events), each 1.0 s of 16 kHz mono.
    """
    return made_once(tmp_path_factory, "task4", _task4)


def _task4(root: Path) -> None:
    weak = [(weak_tags(i), whole_clip(weak_tags(i))) for i in range(24)]
    names = [_write(root, "train/weak", i, events) for i, (_, events) in enumerate(weak)]
    rows = [[name, ",".join(tags)] for name, (tags, _) in zip(names, weak, strict=True)]
    _table(root, "train/weak", ["filename", "event_labels"], rows)
    for part, clips in (("unlabel_in_domain", 8), ("unlabel_out_of_domain", 2)):
        audio = [_write(root, f"train/{part}", i, whole_clip([CLASSES[i]])) for i in range(clips)]
        _table(root, f"train/{part}", ["filename"], [[name] for name in audio])
    _timed_part(root, "test", [timed_events(i) for i in range(8)])
    _timed_part(root, "eval", [timed_events(3), []])


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, task4_folder: Path) -> RunDir:
    """An uninterrupted run over ``task4_folder``, named ``it``, without Ray and MLflow.

    Each test process has a copy of its own, with the storage root around it.
    """

    def sweep(cwd: Path) -> None:
        asked = on_data(task4_folder, "--name", "it", *SEARCH, *HERE)
        in_process("run", *asked, cwd=cwd, check=True)

    return _own(tmp_path_factory, made_once(tmp_path_factory, "whole", sweep))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, task4_folder: Path) -> RunDir:
    """The same by the real command, on Ray and with MLflow; what it printed lies beside it."""

    def sweep(cwd: Path) -> None:
        done = soundsweep("run", *on_data(task4_folder, "--name", "it", *SEARCH), cwd=cwd)
        (cwd / "runs" / "printed.txt").write_text(done.stdout)

    return _own(tmp_path_factory, made_once(tmp_path_factory, "real", sweep))


def _own(factory: pytest.TempPathFactory, shared: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(shared, factory.mktemp("own") / "cwd")) / "runs" / "it")


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory, task4_folder: Path) -> RunDir:
    """A run whose test part was scored (``scored.py``): read it, do not change it."""
    from scored import score

    root = made_once(tmp_path_factory, "scored", lambda folder: score(folder, task4_folder))
    return RunDir(root / "tiny")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, scored_run: RunDir) -> dict[str, Path]:
    """A bundle of each kind of model of ``scored_run``."""
    from scored import MODELS, bundle_of, export_all

    made = made_once(tmp_path_factory, "bundles", lambda folder: export_all(scored_run, folder))
    return {model: bundle_of(made, model) for model in MODELS}


@pytest.fixture
def task4_copy(task4_folder: Path, tmp_path: Path) -> Path:
    """A copy of ``task4_folder`` that a test may break."""
    return Path(shutil.copytree(task4_folder, tmp_path / "task4"))


def weak_tags(i: int) -> list[str]:
    """The tags of weak clip ``i``: every class in at least three clips."""
    return [CLASSES[i % 10]] + ([CLASSES[(i + 4) % 10]] if i < 12 else [])


def timed_events(i: int) -> list[Timed]:
    """The events of test clip ``i``: one or two."""
    first: Timed = (0.1, 0.45, CLASSES[i])
    return [first, (0.5, 0.9, CLASSES[(i + 3) % 10])] if i % 2 else [first]


def whole_clip(tags: Sequence[str]) -> list[Timed]:
    return [(0.0, SECONDS, tag) for tag in tags]


def texture(k: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """The sound of class ``k``: a tone of its own pitch, pulsed or mixed with noise."""
    t = np.arange(samples) / RATE
    tone = np.sin(2 * np.pi * 220 * 1.42**k * t)
    if k % 3 == 0:
        return tone
    if k % 3 == 1:
        return tone * (np.sin(2 * np.pi * (4 + k) * t) > 0)
    return 0.5 * tone + 0.3 * generator.standard_normal(samples)


def _timed_part(root: Path, part: str, clips: Sequence[Sequence[Timed]]) -> None:
    rows: list[list[str]] = []
    for i, events in enumerate(clips):
        name = _write(root, part, i, events)
        timed = [[f"{on:.3f}", f"{off:.3f}", label] for on, off, label in events]
        rows += [[name, *fields] for fields in timed or [["", "", ""]]]
    _table(root, f"{part}/{part}", ["filename", "onset", "offset", "event_label"], rows)


def _write(root: Path, folder: str, i: int, events: Sequence[Timed]) -> str:
    """One WAV file of events over faint noise; returns its name."""
    generator = np.random.default_rng([len(folder), *folder.encode(), i])
    sound = 0.003 * generator.standard_normal(round(SECONDS * RATE))
    for onset, offset, label in events:
        start, stop = round(onset * RATE), round(offset * RATE)
        sound[start:stop] += 0.25 * texture(CLASSES.index(label), stop - start, generator)
    letters = np.frombuffer(b"abcdefghijkLMNOPQRSTUVWXYZ0123456789-_", np.uint8)
    video = bytes(generator.choice(letters, 11)).decode()
    name = f"Y{video}_0.000_1.000.wav"
    path = root / "dataset" / "audio" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(sound, -1, 1), RATE, subtype="PCM_16")
    return name


def _table(root: Path, name: str, header: list[str], rows: list[list[str]]) -> None:
    path = root / "dataset" / "metadata" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")
