"""Systems without gradients, and the bags of audio words that one of them counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from systems import registry, testing
from systems.bags import BagOfWords, descriptors
from systems.clip_features import OfWaveform
from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.prepare import Waveforms
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.estimator_system import EstimatorSystem, FittedEstimator

RATE = 100
R = np.random.default_rng(0)
IDS = tuple(map(str, range(30)))
GIVEN = np.arange(30) % 3
SOUND = {"audio": Waveforms(RATE, {i: R.normal(k, 1, 50).astype(np.float32)
                                   for i, k in zip(IDS, GIVEN, strict=True)})}  # fmt: skip


def moments(waveform: np.ndarray, rate: int) -> np.ndarray:
    return np.array([waveform.mean(), waveform.std(), len(waveform) / rate])


SYSTEM = EstimatorSystem(
    features=OfWaveform(RATE, moments), estimator=lambda seed: LogisticRegression()
)


def fitted(
    classes: tuple[str, ...] = ("a", "b", "c"), given: np.ndarray = GIVEN
) -> FittedEstimator:
    clips = ClipSet(IDS, np.eye(len(classes), dtype=np.float32)[given])
    return SYSTEM.train(TrainingData(classes, clips, None, kind="class"), SOUND, Context())


def scores(one: FittedEstimator) -> np.ndarray:
    found = one.predict(IDS, SOUND, Context()).clip_scores
    assert found is not None
    return found


def test_it_is_scikit_learns_estimator_over_the_features() -> None:
    x = np.stack([moments(SOUND["audio"][i], RATE) for i in IDS])
    judge = LogisticRegression().fit(x, GIVEN)
    np.testing.assert_allclose(scores(fitted()), judge.predict_proba(x), atol=1e-6)
    alone, frames = fitted().score([SOUND["audio"]["3"]], Context())
    np.testing.assert_allclose(alone[0], judge.predict_proba(x)[3], atol=1e-6)
    assert frames is None


def test_a_class_without_training_clips_has_the_score_zero() -> None:
    one = fitted(("never", "a", "b", "not", "c"), np.array([1, 2, 4])[GIVEN])
    found = scores(one)
    assert found.shape == (30, 5)
    assert (found[:, [0, 3]] == 0).all()
    np.testing.assert_allclose(found[:, [1, 2, 4]], scores(fitted()), atol=1e-6)


def test_what_is_saved_says_the_same(tmp_path: Path) -> None:
    one = fitted()
    one.save(tmp_path)
    np.testing.assert_array_equal(scores(SYSTEM.load(tmp_path)), scores(one))


def test_foreign_types_are_not_loaded(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    stranger = FunctionTransformer(func=moments)
    (tmp_path / "estimator.skops").write_bytes(skops.io.dumps(stranger))
    with pytest.raises(UserError, match=r"test_estimators\.moments"):
        SYSTEM.load(tmp_path)


def test_the_papers_machine_comes_back_from_its_folder(tmp_path: Path) -> None:
    """All its parts: bags, their scale, the machine and its calibration."""
    entry = registry.get("mask_breathing_resnet/mask_boaw_svm")
    case = testing.Case.of(entry, tmp_path / "store")
    one, _ = case.train(tmp_path)
    one.save(tmp_path / "model")
    testing.same(case.predict(case.system().load(tmp_path / "model")), case.predict(one))


# Bags of words


@pytest.fixture(scope="module")
def bags() -> tuple[BagOfWords, list[np.ndarray]]:
    clips = [R.normal(size=(n, 6)).astype(np.float32) for n in (40, 25, 60)]
    return BagOfWords(words=7, assigned=3).fit(clips), clips


def test_bags_by_brute_force(bags: tuple[BagOfWords, list[np.ndarray]]) -> None:
    bag, clips = bags
    frames = np.concatenate(clips)
    for clip, found in zip(clips, bag.transform(clips), strict=True):
        scaled = (clip - frames.mean(0)) / frames.std(0)
        counts = np.zeros((2, 7))
        for half in (0, 1):
            for frame in scaled[:, 3 * half : 3 * half + 3]:
                distances = [np.linalg.norm(frame - word) for word in bag.codebooks_[half]]
                for word in np.argsort(distances)[:3]:
                    counts[half, word] += 1
        assert counts.sum() == 2 * 3 * len(clip)
        np.testing.assert_allclose(found, np.log10(1 + counts.ravel()), rtol=1e-6)


def test_words_lie_where_frames_do_and_few_frames_make_few_words() -> None:
    centres = np.array([[-5.0, 0, 0, 0], [5.0, 0, 0, 0], [0, 5.0, 0, 0]])
    frames = np.repeat(centres, 30, axis=0) + R.normal(0, 0.01, (90, 4))
    bag = BagOfWords(words=3, assigned=1).fit([frames])
    found = bag.codebooks_[0] * bag.deviation_[:2] + bag.mean_[:2]
    for centre in centres[:, :2]:
        assert np.linalg.norm(found - centre, axis=1).min() < 0.1
    counts = 10 ** bag.transform([frames[:30]])[0][:3] - 1
    assert sorted(counts.round()) == [0, 0, 30]
    assert BagOfWords(words=2000).fit([frames[:5]]).transform([frames[:2]]).shape == (1, 10)


def a_sound() -> np.ndarray:
    """A second at 16 kHz: a tone, a sweep, and noise that comes and goes."""
    t, noise = np.arange(16_000) / 16_000, np.random.default_rng(7).normal(size=16_000)
    tones = 0.3 * np.sin(2 * np.pi * 220 * t) * (t < 0.4)
    tones += 0.2 * np.sin(2 * np.pi * (300 + 1500 * t) * t)
    made: np.ndarray = 0.5 * (tones + 0.05 * noise * (1 + np.sin(2 * np.pi * 3 * t)))
    return made.astype(np.float32)


def test_descriptors_are_opensmiles() -> None:
    """The file holds what opensmile 2.6.0 (ComParE_2016, low-level) says of the same sound."""
    path = Path(__file__).parent / "opensmile_compare2016.csv"
    judge = np.loadtxt(path, delimiter=",", skiprows=1)
    judge[:, 14] = 2 * np.log(judge[:, 14])  # of RMS: log energy but for a constant
    found = descriptors(a_sound(), 16_000)
    assert found.shape[1] == 32
    ours = found[: len(judge) - 1, :16]  # a frame of 32 ms begins later than one of 20
    alike = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, judge[1:].T[:, : len(ours)], strict=True)
    ]
    assert min(alike) > 0.97, np.round(alike, 3)


def test_a_sound_of_hardly_any_length_has_descriptors() -> None:
    for samples in (0, 1, 100, 700):
        assert np.isfinite(descriptors(a_sound()[:samples], 16_000)).all()
