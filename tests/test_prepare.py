"""What is left of a clip's sound: constructed clips with silences whose places are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from systems import data
from systems.data.prepare import Kept, Segments, Standardised, Trimmed, Waveforms, prepared
from systems.data.store import open_store

RATE = 44_100
NEAR = 0.03  # s: the level is measured over 1024 samples


def sound(*pieces: tuple[float, float]) -> np.ndarray:
    """Noise of (seconds, dBFS) one after another."""
    generator = np.random.default_rng(0)
    made = [
        10 ** (level / 20) * generator.standard_normal(round(seconds * RATE))
        for seconds, level in pieces
    ]
    return np.concatenate(made).astype(np.float32)


SILENCE = -90.0
SETTINGS = Segments()


def intervals(waveform: np.ndarray, settings: Segments = SETTINGS) -> list[tuple[float, float]]:
    return [(a / RATE, b / RATE) for a, b in settings(waveform, RATE).intervals]


def assert_near(
    found: Sequence[tuple[float, float]], expected: Sequence[tuple[float, float]]
) -> None:
    assert len(found) == len(expected), found
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=NEAR)


def test_silence_splits_and_some_of_it_stays() -> None:
    clip = sound((1.0, SILENCE), (1.2, -20), (1.0, SILENCE), (1.5, -30), (0.2, SILENCE))
    assert_near(intervals(clip), [(0.6, 2.6), (2.8, 4.9)])


def test_a_short_silence_splits_nothing() -> None:
    clip = sound((1.2, -20), (0.35, SILENCE), (1.5, -30), (1.0, SILENCE))
    assert_near(intervals(clip), [(0.0, 3.45)])


def test_what_is_quieter_than_the_level_is_silence() -> None:
    clip = sound((1.2, -20), (1.0, -50), (1.5, -30))
    assert_near(intervals(clip), [(0.0, 1.6), (1.8, 3.7)])
    assert_near(intervals(clip, Segments(level=-55.0)), [(0.0, 3.7)])


@pytest.mark.parametrize("pieces", [[(0.2, -20), (0.6, SILENCE)], [(5.0, SILENCE)]])
def test_short_clips_and_silent_ones_stay_whole(pieces: list[tuple[float, float]]) -> None:
    clip = sound(*pieces)
    assert Segments()(clip, RATE) == Kept(((0, len(clip)),))


def test_short_segments_go_where_the_mean_is_long() -> None:
    burst, pause = (0.02, -10), (1.5, SILENCE)
    long = sound((4.0, -20), pause, burst, pause)
    assert_near(intervals(long), [(0.0, 4.4)])
    short = sound((1.0, -20), pause, burst, pause)  # a mean of 1.1 s
    assert_near(intervals(short), [(0.0, 1.4), (2.1, 2.92)])


def test_a_clip_of_transients_keeps_quieter_tails() -> None:
    tail = ((0.01, -10.0), (0.3, -52.0), (1.5, SILENCE))
    assert_near(intervals(sound(*tail, *tail)), [(0.0, 0.71), (1.41, 2.52)])
    steady = sound(*tail, (1.0, -20.0), (1.0, SILENCE))  # something lasts: the usual level
    assert_near(intervals(steady), [(0.0, 0.41), (1.41, 3.21)])


def test_standardised_is_of_the_whole_recording() -> None:
    clip = sound((1.0, -20)) + np.float32(0.3)
    (part,) = Standardised()(clip, RATE).parts(clip)
    assert part.mean() == pytest.approx(0, abs=1e-4)
    assert part.std() == pytest.approx(1, abs=1e-4)
    (still,) = Standardised()(np.full(100, 0.5, np.float32), RATE).parts(np.full(100, 0.5))
    assert not still.any()


FINE = Segments(-40.0, -40.0, gap=0.04, margin=0.005, whole=0.1, frame=128)


@pytest.mark.parametrize("prepare", [FINE, Standardised()])
def test_the_index_beside_a_store_is_what_is_made_in_memory(
    prepare: Segments | Standardised, task4_folder: Path, tmp_path: Path
) -> None:
    dataset = data.load("dcase2018_task4", str(task4_folder))
    ids = tuple(clip.clip_id for clip in dataset.clips)
    store = open_store(dataset, ids, 16_000, tmp_path, map)
    # A cluster's results come as they are done.
    first = prepared(store, prepare, ids, lambda f, items: [f(one) for one in reversed(items)])
    again = prepared(store, prepare, ids, lambda f, items: pytest.fail("the index is there"))
    memory = Waveforms(16_000, {i: store[i] for i in ids}, prepare)
    for clip_id in ids:
        for found in (first.parts(clip_id), again.parts(clip_id)):
            for one, other in zip(found, memory.parts(clip_id), strict=True):
                assert np.array_equal(one, other)
        assert first.duration(clip_id) == memory.duration(clip_id) == store.duration(clip_id)
    if prepare is FINE:
        assert {len(first.parts(i)) for i in ids} >= {1, 2}  # some are split
    whole = prepared(store, Segments(whole=100.0), ids, map)  # has an index of its own
    assert all(np.array_equal(whole.parts(i)[0], store[i]) for i in ids)
    assert not all(np.array_equal(first.parts(i)[0], store[i]) for i in ids)
    assert prepared(store, None, ids) is store


def test_ends_are_trimmed_as_librosa_does_and_the_peak_is_one() -> None:
    librosa = pytest.importorskip("librosa")
    clip = sound((0.5, -90), (0.3, -20), (0.5, -90), (0.3, -26), (0.4, -90))
    for level in (30.0, 60.0):
        expected, _ = librosa.effects.trim(clip, top_db=level)
        (plain,) = Trimmed(level, peak=False)(clip, RATE).parts(clip)
        assert np.array_equal(plain, expected)
        (part,) = Trimmed(level)(clip, RATE).parts(clip)
        np.testing.assert_allclose(part, expected / np.abs(expected).max(), rtol=1e-6)
        assert 1.0 * RATE < len(part) < 1.4 * RATE  # the silence within stays
    still = np.zeros(4000, np.float32)
    assert not any(part.any() for part in Trimmed()(still, RATE).parts(still))
