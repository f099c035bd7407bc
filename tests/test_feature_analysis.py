"""What is feature_analysis_ensemble's own: attributes, selection, scikit-learn's own results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import gammatone, lfilter
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from systems import registry, testing
from systems.context import Context
from systems.errors import UserError
from systems.frontend.descriptors import (
    Descriptors,
    centres,
    cochleagram,
    described,
    hoyer,
    names,
    of_subsets,
)
from systems.papers.feature_analysis_ensemble import SYSTEMS
from systems.selection import Nearest, TopByImportance

PAPER = "feature_analysis_ensemble"
SMALL = Descriptors(rate=8000, channels=16, window=512, hop=256, components=2, groups=2)


def attributes(sound: np.ndarray, config: Descriptors = SMALL) -> dict[str, np.ndarray]:
    return dict(described(config, sound))


def test_the_pool_has_thirteen_subsets_and_some_2800_attributes() -> None:
    found = names(Descriptors())
    assert len(found) == len(set(found)) == 2831
    sizes = Counter(name.partition(".")[0] for name in found)
    assert len(sizes) == 13
    assert sizes["F8"] == 3 * 8 * 6
    only = of_subsets(Descriptors(), ("F8.mel",))
    assert len(only) == 48
    assert all(found[k].startswith("F8.mel.") for k in only)
    # F1 is not F10 to F13.
    assert len(of_subsets(Descriptors(), ("F1",))) == sizes["F1"]


def test_channels_are_scipys_gammatone_filters() -> None:
    """The envelope of a tone and of noise, beside the rectified output of its filters."""
    rate, rng = 8000, np.random.default_rng(0)
    noise = rng.standard_normal(2 * rate)
    ours = cochleagram(noise, rate, 12)
    for row, centre in enumerate(centres(12, rate)):
        if not 200 < centre < 3000:
            continue
        b, a = gammatone(centre, "iir", fs=rate)
        theirs = np.abs(lfilter(b, a, noise))[: ours.shape[1] * 80].reshape(-1, 80).mean(axis=1)
        smooth = np.ones(10) / 10  # of the rectified wave, what is left of it after 100 ms
        one, other = (np.convolve(x, smooth, "valid") for x in (ours[row], theirs))
        assert np.corrcoef(one, other)[0, 1] > 0.9
        assert one.mean() * 2 / np.pi == pytest.approx(other.mean(), rel=0.1)


def test_sparsity_and_ears_by_hand() -> None:
    np.testing.assert_allclose(hoyer(np.array([[1.0, 1, 1, 1], [0, 5, 0, 0]])), [0, 1], atol=1e-6)
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(8000)
    # The right ear hears it three samples later and at half the level.
    found = attributes(np.stack([sound, 0.5 * np.roll(sound, 3)]))
    assert found["F1.all.level.mean"][0] == pytest.approx(6.02, abs=0.1)
    assert found["F1.all.delay.mean"][0] == pytest.approx(-3 / 8000, abs=1e-5)
    assert found["F1.all.coherence.mean"][0] > 0.9
    mono = attributes(sound)
    assert mono["F1.all.delay.mean"][0] == mono["F1.all.level.mean"][0] == 0


def test_a_tone_has_its_pitch_and_silence_and_short_clips_have_values() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert 2 ** attributes(tone)["F2.mean"][0] == pytest.approx(440, rel=0.02)
    for sound in (np.zeros(8000), np.ones(5), 1e-4 * tone[:100]):
        values = np.concatenate(list(attributes(sound).values()))
        assert values.shape == (len(names(SMALL)),)
        assert np.isfinite(values).all()


def test_selection_finds_what_tells_classes_apart() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((300, 40)), np.arange(300) % 3
    x[:, 7] += y
    x[:, 21] -= y
    chosen = TopByImportance(kept=2, rounds=30).fit(x, y)
    assert chosen.columns_.tolist() == [7, 21]
    assert chosen.transform(x).shape == (300, 2)


def test_fewer_clips_than_neighbours_are_all_neighbours() -> None:
    x, y = np.arange(5.0)[:, None], np.array([0, 0, 0, 1, 1])
    np.testing.assert_allclose(Nearest(20).fit(x, y).predict_proba(x[:1]), [[0.6, 0.4]])


def classifier(name: str) -> object:
    """scikit-learn's own, as the paper's table names it."""
    from sklearn.discriminant_analysis import (
        LinearDiscriminantAnalysis,
        QuadraticDiscriminantAnalysis,
    )
    from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import LinearSVC

    return {
        "c1_lda": LinearDiscriminantAnalysis(),
        "c2_qda": QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
        "c3_rf10_gini": RandomForestClassifier(10, random_state=3),
        "c4_rf100_gini": RandomForestClassifier(100, random_state=3),
        "c5_rf100_entropy": RandomForestClassifier(100, criterion="entropy", random_state=3),
        "c6_mlp": MLPClassifier((30, 30, 30), max_iter=500, random_state=3),
        "c7_knn20": KNeighborsClassifier(20),
        "c8_bag_linsvc": BaggingClassifier(LinearSVC(random_state=3), 5, random_state=3),
    }[name]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "c1_lda" else pytest.mark.all) for n in SYSTEMS]
)
def test_each_is_scikit_learns_own(name: str, tmp_path: Path) -> None:
    case = testing.Case.of(registry.get(f"{PAPER}/{name}"), tmp_path / "store")
    fitted, _ = case.train(tmp_path / "training")
    said = case.predict(fitted).clip_scores
    assert said is not None
    features, data = case.system().features, case.data
    assert data.validation is not None
    assert data.labelled.targets is not None
    x, new = (
        np.stack(features.of(clips.clip_ids, case.sounds, Context())).astype(float)
        for clips in (data.labelled, data.validation)
    )
    y = data.labelled.targets.argmax(axis=1)
    scaled = StandardScaler().fit(x)
    columns = TopByImportance(30, 5, seed=3).fit(scaled.transform(x), y).columns_
    own = make_pipeline(classifier(name)).fit(scaled.transform(x)[:, columns], y)
    expected = np.zeros_like(said)
    expected[:, own.classes_] = own.predict_proba(scaled.transform(new)[:, columns])
    np.testing.assert_allclose(said, expected, atol=1e-6)


def test_a_tree_that_points_elsewhere_is_not_walked(tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    from systems.estimator_system import check_trees

    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(2, random_state=0).fit(
        rng.standard_normal((30, 4)), np.arange(30) % 2
    )
    check_trees(forest, tmp_path)
    forest.estimators_[0].tree_.children_left[0] = 10_000
    with pytest.raises(UserError, match="does not fit together"):
        check_trees(forest, tmp_path)
