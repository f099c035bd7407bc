"""Answers of a listening test: whose count, and what they are on average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

FAR = 3.0  # standard deviations from the mean answer, beyond which an answer is an outlier
CARELESS = 0.1  # share of outliers above which a subject's answers do not count


class Answers(NamedTuple):
    """Who (R) said what of which scene (R): values [R, Q] of the questions."""

    subjects: tuple[str, ...]
    scenes: tuple[str, ...]
    questions: tuple[str, ...]
    values: np.ndarray


def outliers(answers: Answers) -> np.ndarray:
    """Which answers [R, Q] are farther than 3 standard deviations (of a sample) from the mean of
    their question and scene."""
    found = np.zeros(answers.values.shape, bool)
    scenes = np.array(answers.scenes)
    for scene in dict.fromkeys(answers.scenes):
        rows = scenes == scene
        of_scene = answers.values[rows]
        if len(of_scene) > 1:
            off = np.abs(of_scene - of_scene.mean(axis=0))
            found[rows] = off > FAR * of_scene.std(axis=0, ddof=1)
    return found


def careless(answers: Answers) -> tuple[str, ...]:
    """The subjects more than 10 % of whose answers are outliers."""
    far, who = outliers(answers), np.array(answers.subjects)
    return tuple(s for s in dict.fromkeys(answers.subjects) if far[who == s].mean() > CARELESS)


def means(answers: Answers, without: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Scene -> question -> the mean answer of all subjects but some."""
    counts = np.array([subject not in without for subject in answers.subjects])
    scenes = np.array(answers.scenes)
    return {
        scene: dict(
            zip(
                answers.questions,
                answers.values[counts & (scenes == scene)].mean(axis=0).tolist(),
                strict=True,
            )
        )
        for scene in dict.fromkeys(answers.scenes)
    }


def explained(rows: Sequence[Mapping[str, float]], questions: Sequence[str]) -> np.ndarray:
    """The share of the variance of each principal component [Q] of standardised means."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    values = np.array([[row[question] for question in questions] for row in rows])
    shares: np.ndarray = PCA().fit(StandardScaler().fit_transform(values)).explained_variance_ratio_
    return shares
