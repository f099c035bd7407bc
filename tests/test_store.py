"""The waveform store: what it holds, and what can go wrong while it is built."""

from __future__ import annotations

import errno
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command import PATIENCE
from test_sound_files import noise

from systems import data
from systems.data.dataset import Dataset
from systems.data.store import load_mono, open_store, process_map
from systems.errors import UserError


def load(folder: Path) -> Dataset:
    return data.load("dcase2018_task4", str(folder))


def plain_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
    return map(function, items)


def test_the_store_holds_what_the_files_hold(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.clips)
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map)
    for clip_id in ids:
        waveform, _ = dataset.source.read(clip_id)
        np.testing.assert_array_equal(store[clip_id], waveform[0])
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again[ids[3]], store[ids[3]])
    assert store.duration(ids[0]) == 1.0


def test_a_broken_off_store_goes_on(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.clips)

    def killed(done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path, plain_map, killed)
    counts: list[int] = []
    store = open_store(
        dataset, ids, 16_000, tmp_path, plain_map, lambda done, total: counts.append(done)
    )
    assert counts[0] >= 16
    whole = open_store(dataset, ids, 16_000, tmp_path / "other", plain_map)
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], whole[clip_id])
    counts.clear()
    open_store(dataset, ids, 16_000, tmp_path, plain_map, lambda d, t: counts.append(d))
    assert counts == []  # it is there: nothing is built


def test_sound_is_mixed_down_and_resampled(tmp_path: Path) -> None:
    t = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, subtype="FLOAT")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    mono = load_mono(samples.T, rate, 16_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(mono) == 16_000
    np.testing.assert_allclose(mono[500:-500], expected[500:-500], atol=1e-3)


def test_the_store_resamples_to_the_length_of_the_clip(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = tuple(clip.clip_id for clip in dataset.part("weak"))[:3]
    for rate in (8_000, 22_050):
        store = open_store(dataset, ids, rate, tmp_path, plain_map)
        for clip_id in ids:
            assert len(store[clip_id]) == rate
            assert store.duration(clip_id) == 1.0
        samples, source_rate = dataset.source.read(ids[0])
        np.testing.assert_array_equal(store[ids[0]], load_mono(samples, source_rate, rate))
    assert len(list(tmp_path.glob("*/index.json"))) == 2  # a store a rate


def test_a_file_that_breaks_after_the_check_is_named(task4_copy: Path, tmp_path: Path) -> None:
    dataset = load(task4_copy)
    clip = dataset.part("weak")[2]
    path = task4_copy / "dataset/audio/train" / clip.clip_id
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match=f"{path.name}  cannot be read"):
        open_store(dataset, (clip.clip_id,), 16_000, tmp_path / "stores", plain_map)
    assert not list((tmp_path / "stores").glob("*/index.json"))


# Faults that only decoding shows


def test_all_unusable_clips_of_a_store_are_named_at_once(task4_copy: Path, tmp_path: Path) -> None:
    dataset = load(task4_copy)
    ids = [clip.clip_id for clip in dataset.clips]
    paths = [Path(dataset.source.where(clip_id)) for clip_id in ids]
    soundfile.write(paths[1], np.zeros(16_000), 16_000)
    paths[20].write_bytes(b"no sound at all")
    soundfile.write(paths[40], np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    noise(paths[-1], seconds=0.5)
    for _ in range(2):  # a later build believes nothing that this one left
        with pytest.raises(UserError) as error:
            open_store(dataset, ids, 16_000, tmp_path / "stores", process_map)
        text = re.sub(" +", " ", str(error.value))
        assert text.startswith("4 of 44 clips of dcase2018_task4 cannot be used:")
        assert f"{paths[1]} is silent" in text
        assert f"{paths[20]} cannot be read: Format not recognised" in text
        assert f"{paths[40]} holds samples that are not finite" in text
        assert f"{paths[-1]} decodes to 0.500 s instead of 1.000 s" in text
        assert "--skip-broken" in text
        assert not list((tmp_path / "stores").glob("*/*"))


def test_a_full_disk_names_the_folder_and_the_bytes_needed(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(UserError) as error:
            open_store(dataset, ids, 16_000, tmp_path, plain_map)
    text = str(error.value)
    assert f"{tmp_path}/dcase2018_task4-16000-" in text
    assert "No space left on device. It needs 2,816,000 bytes in all" in text  # 44 x 1 s x 16 kHz
    assert open_store(dataset, ids, 16_000, tmp_path, plain_map).duration(ids[0]) == 1.0


def test_a_disk_that_fills_up_while_decoding_loses_nothing(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]
    synced: list[int] = []

    def fills_up(file: int) -> None:
        synced.append(file)
        if len(synced) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fills_up)
        with pytest.raises(UserError, match="It needs 2,816,000 bytes"):
            open_store(dataset, ids, 16_000, tmp_path, plain_map)
    counts: list[int] = []
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map, lambda d, t: counts.append(d))
    assert counts[0] == 16
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], dataset.source.read(clip_id)[0][0])


def test_a_worker_whose_errors_lose_their_number_says_what_is_needed(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(task4_folder)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def remote_map(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterable[Any]:
        for item in items:
            try:
                yield function(item)
            except OSError as error:
                raise OSError(str(error)) from None

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"No space left on device. It needs 64,000 bytes"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path, remote_map)


def test_a_build_killed_after_a_silent_clip_is_not_believed(
    task4_copy: Path, tmp_path: Path
) -> None:
    dataset = load(task4_copy)
    ids = [clip.clip_id for clip in dataset.clips]
    soundfile.write(dataset.source.where(ids[0]), np.zeros(16_000), 16_000)

    def killed(done: int, total: int) -> None:
        if done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path / "stores", plain_map, killed)
    with pytest.raises(UserError, match="is silent"):
        open_store(dataset, ids, 16_000, tmp_path / "stores", plain_map)


def test_a_log_entry_that_was_cut_is_not_believed(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    ids = [clip.clip_id for clip in dataset.clips]

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(dataset, ids, 16_000, tmp_path, plain_map, killed)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "done.txt").write_text("<1")  # of chunk 12, say
    store = open_store(dataset, ids, 16_000, tmp_path, plain_map)
    for clip_id in ids:
        np.testing.assert_array_equal(store[clip_id], dataset.source.read(clip_id)[0][0])


def test_a_folder_that_cannot_be_made_is_named(task4_folder: Path, tmp_path: Path) -> None:
    dataset = load(task4_folder)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"waveform store .*file/store/.* cannot be written"):
        open_store(dataset, [dataset.clips[0].clip_id], 16_000, tmp_path / "file/store", plain_map)


BUILDER = """
import sys, time
from pathlib import Path
from systems import data
from systems.data.store import open_store

folder, root, me, other = sys.argv[1:]
dataset = data.load("dcase2018_task4", folder)
decoded = []

def slow_map(function, items):
    while not (Path(root) / other).exists():
        time.sleep(0.01)
    time.sleep(0.3)  # until the other one waits for the lock
    for item in items:
        decoded.append(item)
        yield function(item)

ids = [clip.clip_id for clip in dataset.clips]
(Path(root) / me).touch()
store = open_store(dataset, ids, 16_000, Path(root) / "stores", slow_map)
print(len(decoded), sum(float(abs(store[i]).sum()) > 0 for i in ids))
"""


def test_of_two_builds_at_once_one_decodes(task4_folder: Path, tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(task4_folder), str(tmp_path), *names],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
        )
        for names in (("a", "b"), ("b", "a"))
    ]  # fmt: skip
    said = sorted(process.communicate(timeout=PATIENCE)[0].split() for process in both)
    assert said == [["0", "44"], ["3", "44"]]
    assert [process.returncode for process in both] == [0, 0]
    assert len(list((tmp_path / "stores").glob("*/waveforms.f32"))) == 1
