"""Decoding frame scores to events, and the refinement of its settings without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest
import scipy.signal

from systems.data.dataset import Event
from systems.postprocessing.decoding import Decoding, active_frames, decode, runs
from systems.postprocessing.refinement import Refinement, Weak, cut, refine

Samples = Sequence[tuple[int, np.ndarray]]


def _mask(text: str) -> np.ndarray:
    return np.array([letter == "1" for letter in text])


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("11111", [(1, [0, 1, 2, 3, 4])]),
        ("00000", [(0, [0, 1, 2, 3, 4])]),
        ("0111001111", [(1, [1, 2, 3]), (1, [6, 7, 8, 9]), (0, [0, 4, 5])]),
        ("1000000", [(1, [0, 0, 0]), (0, [1, 2, 3, 4, 5, 6])]),
        ("1111011", [(1, [0, 1, 2, 3]), (1, [5, 6, 5]), (0, [4, 4, 4])]),
    ],
)
def test_cut(mask: str, expected: list[tuple[int, list[int]]]) -> None:
    assert [(label, frames.tolist()) for label, frames in cut(_mask(mask))] == expected


def _share_of(*truths: np.ndarray) -> Weak:
    """A listener that hears class 0 as strongly as the share of true frames in a sample."""

    def weak(samples: Samples) -> np.ndarray:
        return np.array([[truths[clip][frames].mean()] for clip, frames in samples])

    return weak


def _scores(truth: np.ndarray, inside: float, outside: float) -> np.ndarray:
    return np.where(truth, inside, outside)[:, None]


def test_finds_the_threshold_that_separates() -> None:
    truth = np.zeros(40, bool)
    truth[10:25] = True
    scores = _scores(truth, 0.8, 0.6)  # at 0.5 the whole clip is marked
    settings = Refinement("target", thresholds=(0.3, 0.5, 0.7, 0.9), medians=(1, 3))
    refined = refine(np.array([[0.9]]), [scores], _share_of(truth), settings)
    assert refined.decoding == Decoding((0.7,), (1,))  # ties go to the smaller median
    assert refined.losses[0] == pytest.approx(-np.log(1 - 1e-6))  # both sides are heard rightly
    assert refined.without_clips == refined.whole_clip_wins == ()


def test_finds_the_median_that_closes_gaps() -> None:
    truth = np.zeros(60, bool)
    truth[20:45] = True
    scores = _scores(truth, 0.8, 0.2)
    scores[30:32] = 0.2  # a gap of two frames that width 5 closes
    scores[[3, 50]] = 0.8  # and two false frames that it removes
    settings = Refinement("target", thresholds=(0.5,), medians=(5, 1, 9))
    refined = refine(np.array([[0.9]]), [scores], _share_of(truth), settings)
    assert refined.decoding == Decoding((0.5,), (5,))


def test_loss_is_the_mean_of_both_sides() -> None:
    truth = _mask("1111100000")
    scores = _scores(_mask("1110001110"), 0.9, 0.1)
    refined = refine(
        np.array([[0.9]]), [scores], _share_of(truth), Refinement("target", (0.5,), (1,))
    )
    marked = -(np.log(1 - 1e-6) + np.log(1e-6)) / 2  # runs 0-2 (all true), 6-8 (all false)
    rest = -np.log(1 - 2 / 4)  # frames 3, 4 are true, 5, 9 are not
    assert refined.losses[0] == pytest.approx((marked + rest) / 2)


def test_samples_may_count_alike_whatever_their_label() -> None:
    """The paper leaves the averaging open; here it decides which threshold is chosen."""
    truth, loud, soft = map(_mask, ("111011111010", "010010010000", "010011111100"))
    scores = _scores(loud, 0.9, 0.1)
    scores[soft & ~loud] = 0.4
    averages: tuple[Literal["labels", "samples"], ...] = ("labels", "samples")
    chosen = [
        refine(
            np.array([[0.9]]), [scores], _share_of(truth),
            Refinement("target", (0.3, 0.5), (1,), average=average),
        )
        for average in averages
    ]  # fmt: skip
    assert [refined.decoding.thresholds for refined in chosen] == [(0.3,), (0.5,)]
    # At 0.5 three runs of a frame, each true; of the nine other frames six are.
    heard, rest = -np.log(1 - 1e-6), -np.log(1 - 6 / 9)
    assert chosen[1].losses[0] == pytest.approx((3 * heard + rest) / 4)
    assert (heard + rest) / 2 > chosen[0].losses[0]  # what the labels' means make of it


def test_ties_go_to_the_smaller_median_then_the_first_threshold() -> None:
    scores = np.full((30, 1), 0.55)
    settings = Refinement("target", thresholds=(0.2, 0.4), medians=(9, 3, 25))
    refined = refine(np.array([[0.9]]), [scores], _share_of(np.ones(30, bool)), settings)
    assert refined.decoding == Decoding((0.2,), (3,))


def test_one_class_of_several() -> None:
    """Classes are independent: untagged ones keep 0.5 and 1, whole-clip masks are reported."""
    truth = np.zeros(30, bool)
    truth[5:15] = True
    part = np.where(truth, 0.9, 0.1)
    frame_scores = [np.stack([part, np.full(30, 0.99), part], axis=1)] * 2
    clip_scores = np.array([[0.5, 0.9, 0.9], [0.2, 0.8, 0.4]])  # 0.5 is not above the threshold

    def weak(samples: Samples) -> np.ndarray:
        heard = [truth[frames].mean() for _, frames in samples]
        return np.stack([heard, np.ones(len(samples)), heard], axis=1)

    refined = refine(clip_scores, frame_scores, weak, Refinement("target", (0.3, 0.7), (3,)))
    assert refined.decoding == Decoding((0.5, 0.3, 0.3), (1, 3, 3))
    assert refined.without_clips == (0,)
    assert refined.whole_clip_wins == (1,)
    assert refined.losses[0] is None


def test_clips_per_class_and_equal_masks_are_heard_once() -> None:
    heard: list[tuple[int, ...]] = []

    def weak(samples: Samples) -> np.ndarray:
        heard.extend((clip, *frames.tolist()) for clip, frames in samples)
        return np.full((len(samples), 1), 0.5)

    truth = np.zeros(20, bool)
    truth[4:14] = True
    scores = [_scores(truth, 0.9, 0.1)] * 4
    tagged = np.array([[0.9], [0.1], [0.9], [0.9]])
    settings = Refinement("target", thresholds=(0.2, 0.4, 0.6, 0.95), medians=(1, 3))
    refine(tagged, scores, weak, Refinement(**{**vars(settings), "clips_per_class": 2}))
    # Two clips; per clip the run, the rest, and the whole clip that threshold 0.95 leaves.
    assert len(heard) == len(set(heard)) == 2 * 3
    assert {clip for clip, *_ in heard} == {0, 2}
    heard.clear()
    refine(tagged, scores, weak, settings)
    assert {clip for clip, *_ in heard} == {0, 2, 3}


def test_even_medians_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        Refinement(medians=(1, 4))


@pytest.mark.parametrize("median", [1, 3, 9, 25])
def test_active_frames_are_scipy_s(median: int) -> None:
    scores = np.random.default_rng(median).random(80)
    active = active_frames(scores, 0.4, median)
    half = median // 2
    edges = np.pad((scores > 0.4).astype(float), half, mode="edge")
    expected = scipy.signal.medfilt(edges, median)[half : len(edges) - half] > 0
    assert np.array_equal(active, expected)
    assert active.dtype == bool


def test_a_score_at_the_threshold_is_not_active() -> None:
    assert active_frames(np.array([0.5, 0.51]), 0.5, 1).tolist() == [False, True]


def test_runs() -> None:
    assert runs(_mask("0110001")) == [(1, 3), (6, 7)]
    assert runs(_mask("1111")) == [(0, 4)]
    assert runs(_mask("000")) == []


def test_decode() -> None:
    scores = np.array([[0.9, 0.1], [0.9, 0.4], [0.2, 0.4], [0.2, 0.1], [0.9, 0.4], [0.9, 0.4]])
    decoding = Decoding((0.5, 0.3), (1, 1))
    events = decode(scores, decoding, ("cat", "dog"), hop=0.1, duration=0.55)
    expected = [(0, 0.2, "cat"), (0.1, 0.3, "dog"), (0.4, 0.55, "cat"), (0.4, 0.55, "dog")]
    for event, (onset, offset, label) in zip(events, expected, strict=True):
        assert event == Event(pytest.approx(onset), pytest.approx(offset), label)
    assert decode(scores[:, :1], Decoding.plain(1), ("cat",), hop=0.1, duration=0.4) == (
        Event(0.0, 0.2, "cat"),
    )  # what starts at the end of the clip is none of its events
