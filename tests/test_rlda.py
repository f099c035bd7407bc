"""Regularised LDA with a cosine back-end: by closed forms and by scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from systems.rlda import RldaCosine

R = np.random.default_rng(0)
Y = np.repeat([0, 1, 2], [30, 20, 25])
MEANS = R.normal(0, 2, (3, 6))
X = MEANS[Y] + R.normal(0, 1, (75, 6)) @ R.normal(0, 1, (6, 6))


def within(x: np.ndarray, alpha: float) -> np.ndarray:
    each = [np.cov(x[c == Y].T, bias=True) for c in range(3)]
    return alpha * np.eye(x.shape[1]) + sum(each) / 3


def test_the_projection_whitens_what_is_within_classes() -> None:
    one = RldaCosine(alpha=0.1, beta=0.01, dimensions=4).fit(X, Y)
    v = one.projection_
    assert v.shape == (6, 4)
    np.testing.assert_allclose(v.T @ within(X, 0.1) @ v, np.eye(4), atol=1e-8)
    means = np.stack([X[c == Y].mean(0) for c in range(3)])
    off = means - means.mean(0)
    between = 0.01 * np.eye(6) + off.T @ off / 3
    ratio = np.diag(v.T @ between @ v)
    assert (np.diff(ratio) <= 1e-9).all()  # the largest first
    np.testing.assert_allclose(v.T @ between @ v, np.diag(ratio), atol=1e-8)


def test_without_regularisation_its_two_directions_are_scikit_learns() -> None:
    balanced = np.repeat([0, 1, 2], 25)
    x = MEANS[balanced] + R.normal(0, 1, (75, 6))
    ours = RldaCosine(alpha=1e-12, beta=0.0, dimensions=2).fit(x, balanced).projection_
    judge = LinearDiscriminantAnalysis(solver="eigen", n_components=2).fit(x, balanced)
    for k in range(2):
        a, b = ours[:, k], judge.scalings_[:, k]
        assert abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) == pytest.approx(1, abs=1e-6)


def test_scores_are_cosines_to_the_class_means() -> None:
    one = RldaCosine(dimensions=3).fit(X, Y)
    scores = one.predict_proba(X[:5])
    centre = np.mean([X[c == Y].mean(0) for c in range(3)], axis=0)
    for row, x in zip(scores, X[:5], strict=True):
        z = (x - centre) @ one.projection_
        for c in range(3):
            w = (X[c == Y].mean(0) - centre) @ one.projection_
            assert row[c] == pytest.approx(z @ w / np.linalg.norm(z) / np.linalg.norm(w))
    assert (np.abs(scores) <= 1 + 1e-12).all()
    np.testing.assert_array_equal(one.predict(X[:5]), scores.argmax(1))


def test_more_directions_than_classes_can_be_kept() -> None:
    assert RldaCosine(dimensions=100).fit(X, Y).projection_.shape == (6, 6)
