"""Sound that a change has made, stored beside the waveform store: replaced, or of derived clips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import fakedata
import numpy as np
import pytest

from systems.context import Context
from systems.data.changed import Beside, PitchShift, applied, changed, name_beside
from systems.data.dataset import Dataset
from systems.data.prepare import Kept
from systems.data.splits import make_splits, training_data
from systems.data.store import open_store
from systems.sounds import open_sound
from systems.system import Input
from systems.training.copies import ChangedCopy

RATE = 16_000


@dataclass(frozen=True)
class Louder:
    """Twice as loud, and a tenth longer at its end by zeros."""

    by: float = 2.0

    def __call__(self, waveform: np.ndarray, rate: int, clip_id: str) -> np.ndarray:
        return np.pad(self.by * waveform, (0, len(waveform) // 10)).astype(np.float32)


def first_half(waveform: np.ndarray, rate: int) -> Kept:
    return Kept(((0, len(waveform) // 2),))


@pytest.fixture
def tones() -> Dataset:
    return fakedata.make("tones", {"train": (12, "class")}, ())


def test_a_pitch_shift_is_librosas_and_a_tone_moves_by_semitones() -> None:
    librosa = pytest.importorskip("librosa")
    t = np.arange(RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    shift = PitchShift(5)
    steps = {clip: shift.steps(clip) for clip in map(str, range(300))}
    assert set(steps.values()) == {*range(-5, 0), *range(1, 6)}
    assert steps == {clip: PitchShift(5).steps(clip) for clip in steps}
    for clip in ("0", "1", "7"):
        made = shift(tone, RATE, clip)
        expected = librosa.effects.pitch_shift(tone, sr=RATE, n_steps=steps[clip])
        np.testing.assert_allclose(made, expected, atol=1e-6)
        loudest = np.abs(np.fft.rfft(made[4000:12_000] * np.hanning(8000))).argmax() * 2
        assert abs(12 * np.log2(loudest / 440) - steps[clip]) < 0.1
    assert len(shift(tone[:300], RATE, "0")) == 300  # shorter than a frame of the vocoder
    with pytest.raises(ValueError, match="semitones"):
        PitchShift(0)


def test_a_change_takes_the_place_of_the_sound(tones: Dataset, tmp_path: Path) -> None:
    ids = tuple(clip.clip_id for clip in tones.clips)
    plain = open_store(tones, ids, RATE, tmp_path, map)
    asked = Input(("labelled",), RATE, first_half, change=Louder())
    sound = open_sound(tones, ids, asked, tmp_path, map)
    for clip_id in ids:
        expected = applied(Louder(), np.array(plain[clip_id]), RATE, clip_id)
        assert np.array_equal(sound[clip_id], expected)
        assert sound.duration(clip_id) == pytest.approx(1.1)
        (part,) = sound.parts(clip_id)
        assert np.array_equal(part, expected[: len(expected) // 2])
        assert sound.digest(clip_id) == plain.digest(clip_id)
    again = changed(plain, Louder(), ids, lambda f, items: pytest.fail("all are there"))
    assert np.array_equal(again[ids[0]], sound[ids[0]])
    other = changed(plain, Louder(3.0), ids, map)
    assert not np.array_equal(other[ids[0]], sound[ids[0]])
    assert Input(("labelled",), RATE).key != asked.key != replace(asked, change=None).key


def test_a_killed_build_goes_on(tones: Dataset, tmp_path: Path) -> None:
    ids = tuple(clip.clip_id for clip in tones.clips)
    store = open_store(tones, ids, RATE, tmp_path, map)

    def killed(function: object, items: object) -> object:
        for place, item in enumerate(items):  # type: ignore[call-overload]
            if place == 3:
                raise KeyboardInterrupt
            yield function(item)  # type: ignore[operator]

    with pytest.raises(KeyboardInterrupt):
        changed(store, Louder(), ids, killed)  # type: ignore[arg-type]
    asked: list[str] = []

    def noted(function: object, items: object) -> object:
        asked.extend(items)  # type: ignore[call-overload]
        return map(function, items)  # type: ignore[call-overload]

    whole = changed(store, Louder(), ids, noted)  # type: ignore[arg-type]
    assert asked == list(ids[3:])
    for clip_id in ids:
        assert np.array_equal(whole[clip_id], applied(Louder(), store[clip_id], RATE, clip_id))


def test_stereo_is_changed_channel_by_channel() -> None:
    both = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    made = applied(Louder(), both, RATE, "a")
    assert np.array_equal(made, np.stack([Louder()(one, RATE, "a") for one in both]))


def test_derived_clips_lie_beside_and_train_alone(tones: Dataset, tmp_path: Path) -> None:
    ids = tuple(clip.clip_id for clip in tones.clips)
    asked = Input(("labelled",), RATE, first_half, beside=(Louder(),))
    sound = open_sound(tones, ids, asked, tmp_path, map)
    assert isinstance(sound, Beside)
    data = training_data(tones, make_splits(tones, 0), 0)
    more, sounds = ChangedCopy(Louder())(data, {"audio": sound}, Context())
    count = len(data.labelled)
    assert more.labelled.clip_ids[:count] == data.labelled.clip_ids
    assert more.validation is data.validation
    for row, clip_id in enumerate(data.labelled.clip_ids):
        derived = more.labelled.clip_ids[count + row]
        assert derived == name_beside(clip_id, Louder())
        assert np.array_equal(
            more.labelled.targets[count + row],  # type: ignore[index]
            data.labelled.targets[row],
        )  # type: ignore[index]
        whole = applied(Louder(), np.array(sounds["audio"][clip_id]), RATE, clip_id)
        (part,) = sounds["audio"].parts(derived)
        assert np.array_equal(part, whole[: len(whole) // 2])
        assert np.array_equal(sounds["audio"].piece(derived, 0, 5, 9), part[5:14])
        assert len(sounds["audio"].parts(clip_id)[0]) == len(sounds["audio"][clip_id]) // 2
    with pytest.raises(ValueError, match="derived"):
        replace(asked, features=object())


def test_nodes_find_changed_sound_where_they_fetched_it(tones: Dataset, tmp_path: Path) -> None:
    from orchestrator.training.elsewhere import _folders, _moved

    ids = tuple(clip.clip_id for clip in tones.clips)
    asked = Input(("labelled",), RATE, first_half, change=Louder(), beside=(Louder(3.0),),
                  column="device")  # fmt: skip
    sound = open_sound(tones, ids, asked, tmp_path / "here", map)
    expected = {i: sound.parts(i)[0] + 0 for i in (ids[0], name_beside(ids[0], Louder(3.0)))}
    folders = _folders(sound)
    assert folders
    assert all(Path(one).is_relative_to(tmp_path / "here") for one in folders)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = _moved(sound, tmp_path / "here", tmp_path / "there")
    for clip_id, part in expected.items():
        assert np.array_equal(moved.parts(clip_id)[0], part)
    assert moved.value(ids[0]) == tones.clips[0].columns["device"]
