"""Excerpts: every unit is heard, windows are joined as they are told, whatever the batch."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from systems import config as configs
from systems import fitted_network
from systems.context import Context
from systems.data.prepare import Kept, Waveforms
from systems.excerpts import Excerpts, Join, blended, covering, joined, overlapped
from systems.frontend.scale import Scale
from systems.listening import Hearing, Model
from systems.outputs import Outputs
from systems.papers.gcrnn_vat import Config, gcrnn_vat
from systems.postprocessing.refinement import Refinement
from systems.tracks import Examples, FeatureTrack, WaveformTrack

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("rest", ["align_end", "pad", "drop"])
@pytest.mark.parametrize("grid", [1, 3, 4])
def test_windows_begin_on_the_grid_and_leave_no_unit_out(rest: Any, grid: int) -> None:
    for total in range(1, 60):
        for length in range(grid, 20, 2):
            for hop in (0.1, 0.5, 0.75, 1.0):
                starts = Excerpts(rest=rest, hop=hop).starts(total, length, grid)
                assert all(start % grid == 0 for start in starts)
                assert list(starts) == sorted(set(starts))
                heard = np.zeros(total, bool)
                for start in starts:
                    heard[start : start + length] = True
                missing = total - heard.sum()
                assert not missing or (rest == "drop" and missing < hop * length + grid), starts
                assert heard[: min(total, length)].all()
                if rest == "drop":
                    assert starts == (0,) or starts[-1] + length <= total


@pytest.mark.parametrize(
    ("rest", "starts"),
    [("align_end", (0, 5, 10, 13)), ("pad", (0, 5, 10, 15)), ("drop", (0, 5, 10))],
)
def test_what_becomes_of_a_rest(rest: Any, starts: tuple[int, ...]) -> None:
    excerpts = Excerpts(hop=0.5, rest=rest)
    assert excerpts.starts(23, 10) == starts
    assert excerpts.starts(20, 10) == (0, 5, 10)
    assert excerpts.starts(10, 10) == excerpts.starts(4, 10) == (0,)


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"frames": -1}, {"hop": 0.0}, {"hop": 1.1}])
def test_wrong_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Excerpts(**wrong)


def test_overlapping_windows_are_the_mean_of_all_that_tell_of_a_step() -> None:
    starts, total = (0, 4, 8, 11), 23
    windows = [RANDOM.random((9, 2)) for _ in starts]
    expected = np.zeros((total, 2))
    for step in range(total):
        told = [w[step - s] for w, s in zip(windows, starts, strict=True) if 0 <= step - s < 9]
        expected[step] = np.mean(told, axis=0) if told else windows[-1][-1]  # after the last: it
    np.testing.assert_allclose(overlapped(windows, starts, total), expected, rtol=1e-6)
    cut = overlapped(windows, starts, 17)  # the last reaches beyond the end
    np.testing.assert_allclose(cut, expected[:17], rtol=1e-6)


def test_means_of_windows() -> None:
    scores = RANDOM.dirichlet(np.ones(4), 7)
    np.testing.assert_allclose(joined(scores, "arithmetic"), scores.mean(0))
    geometric = scipy.stats.gmean(scores, axis=0)
    np.testing.assert_allclose(joined(scores, "geometric"), geometric / geometric.sum())


def test_a_vote_of_windows() -> None:
    scores = np.array([[0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1]])
    assert joined(scores, "vote").tolist() == [0.25, 0.5, 0.25]  # the third is in doubt
    assert joined(scores[2:3], "vote").tolist() == [1, 0, 0]


# A front end and a network whose outputs can be told by hand.
RATE, HOP, LENGTH = 100, 5, 40


class Pairs(nn.Module):
    """Waveforms [B, S] -> mean and maximum of every five samples: [B, 1, 2, S // 5]."""

    def forward(self, waveforms: Tensor) -> Tensor:
        blocks = waveforms[:, : waveforms.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
        return torch.stack([blocks.mean(2), blocks.amax(2)], 1)[:, None]


class Said(nn.Module):
    """Clip [B, 2]: softmax of the mean over time; frames: each frame's; embedding: the maximum."""

    def forward(self, x: Tensor) -> Outputs:
        rows = x[:, 0].transpose(1, 2)
        return Outputs(rows.mean(1).softmax(1), rows, rows.amax(1), rows)


def cut_in_two(waveform: np.ndarray, rate: int) -> Kept:
    """All but its middle fifth, at twice the gain."""
    n = len(waveform)
    return Kept(((0, 2 * n // 5), (3 * n // 5, n)), 0.0, 2.0)


CLIPS = {str(n): RANDOM.standard_normal(n).astype(np.float32) for n in (200, 35, 95, 40, 333, 120)}
IDS = tuple(CLIPS)


def hearing(excerpts: Excerpts, prepare: Any = None, batch: int = 4) -> Hearing:
    length = excerpts.frames or LENGTH
    unit = HOP / RATE if excerpts.of_features else 1 / RATE
    return Hearing(Waveforms(RATE, CLIPS, prepare), excerpts, length, unit, batch=batch)


def said(excerpts: Excerpts, prepare: Any = None, batch: int = 4) -> list[Any]:
    heard = hearing(excerpts, prepare, batch)
    model = Model(Pairs(), Scale((1, 2, 8)), Said(), made_once=excerpts.of_features)
    track = heard.track(model, IDS, Context())
    return list(heard.listen(model, track, Context()))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric", "vote"])
@pytest.mark.parametrize("prepare", [None, cut_in_two])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_a_clip_is_the_mean_of_the_windows_of_its_parts(
    mean: Join, prepare: Any, batch: int
) -> None:
    excerpts = Excerpts(predict="windows", hop=0.5, mean=mean)
    found = said(excerpts, prepare, batch)
    assert len(found) == len(IDS)
    for waveform, heard in zip(CLIPS.values(), found, strict=True):
        parts = [waveform] if prepare is None else cut_in_two(waveform, RATE).parts(waveform)
        rows = []
        for part in parts:
            for start in excerpts.starts(len(part), LENGTH):
                window = np.zeros(LENGTH, np.float32)
                window[: len(part) - start] = part[start : start + LENGTH]
                rows.append(Said()(Pairs()(torch.from_numpy(window)[None])))
        clips = np.concatenate([row.clip.numpy() for row in rows])
        np.testing.assert_allclose(heard.clip, joined(clips, mean), rtol=1e-5)
        np.testing.assert_allclose(heard.frames, clips, rtol=1e-5)
        embeddings = torch.cat([row.embedding for row in rows])
        torch.testing.assert_close(heard.embedding, embeddings.mean(0))


def test_windows_of_features_are_those_of_the_sound_where_frames_do_not_overlap() -> None:
    of_sound = said(Excerpts(predict="windows", rest="drop"))
    of_features = said(Excerpts(frames=LENGTH // HOP, predict="windows", rest="drop"))
    for a, b in zip(of_sound, of_features, strict=True):
        torch.testing.assert_close(a.clip, b.clip)
        torch.testing.assert_close(a.frames, b.frames)


POLICIES = {
    "whole": Excerpts(),
    "whole features": Excerpts(frames=LENGTH // HOP),
    "whole features, filled with their minimum": Excerpts(frames=LENGTH // HOP, short="minimum"),
    "windows": Excerpts(predict="windows"),
    "windows of features": Excerpts(frames=LENGTH // HOP, predict="windows", rest="pad"),
    "a vote": Excerpts(predict="windows", hop=0.5, rest="drop", mean="vote"),
    "a series": Excerpts(predict="windows", hop=0.5, mean="overlap"),
}


@pytest.mark.parametrize(
    ("policy", "prepare"), [*((name, None) for name in POLICIES), ("whole", cut_in_two)]
)
def test_a_clip_is_heard_alike_alone_and_beside_longer_ones(policy: str, prepare: Any) -> None:
    """Nor is anything longer than a training excerpt held at once."""
    excerpts = POLICIES[policy]
    heard = replace(hearing(excerpts, prepare), frame=1 if excerpts.of_features else HOP)
    if excerpts.mean == "overlap":
        heard = replace(heard, grid=HOP)
    lengths = []

    class Watched(Said):
        def forward(self, x: Tensor) -> Outputs:
            lengths.append(x.shape[-1])
            return super().forward(x)

    model = Model(Pairs(), Scale((1, 2, 8)), Watched(), made_once=excerpts.of_features)

    def of(ids: Any) -> list[Any]:
        return list(heard.listen(model, heard.track(model, ids, Context()), Context()))

    for clip_id, beside in zip(IDS, of(IDS), strict=True):
        (alone,) = of((clip_id,))
        for name, value in vars(alone).items():
            there = getattr(beside, name)
            assert (value is None) == (there is None)
            if value is not None:
                torch.testing.assert_close(there, value)
    assert {*lengths} == {LENGTH // HOP}


@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_a_whole_clip_is_the_windows_that_cover_it(activation: Any) -> None:
    """Frames of it are what each frame's own sound is; a tag's score is the largest."""
    heard = replace(hearing(Excerpts()), frame=HOP)
    model = Model(Pairs(), Scale((1, 2, 8)), Said(), activation)
    found = list(heard.listen(model, heard.track(model, IDS, Context()), Context()))
    for waveform, one in zip(CLIPS.values(), found, strict=True):
        n = max(len(waveform), LENGTH)
        last = (n - LENGTH) // HOP * HOP
        starts = sorted({*range(0, last, LENGTH // 2), last})
        padded = torch.from_numpy(np.pad(waveform, (0, n - len(waveform))))
        outputs = Said()(Pairs()(torch.stack([padded[s : s + LENGTH] for s in starts])))
        scores = model.scores(outputs)
        join = scores.clip.mean(0) if activation == "softmax" else scores.clip.amax(0)
        torch.testing.assert_close(one.clip, join)
        frames = model.scores(Said()(Pairs()(padded[None]))).frames[0]
        assert len(frames) == n // HOP
        torch.testing.assert_close(one.frames, frames)


def test_windows_that_cover_a_part_lose_at_most_a_frame() -> None:
    for length, step, frame in itertools.product((10, 24), (3, 6, 9), (1, 3)):
        for total in range(1, 80):
            starts = covering(total, length, step, frame)
            assert starts[0] == 0
            assert all(start % frame == 0 for start in starts)
            assert all(0 < b - a <= step for a, b in itertools.pairwise(starts))
            if total > length:
                assert total - frame < starts[-1] + length <= total
            else:
                assert starts == (0,)


def test_blended_windows_are_weighted_by_a_triangle() -> None:
    found = blended([np.zeros((4, 1)), np.ones((4, 1))], (0, 2))
    assert found[:, 0] == pytest.approx([0, 0, 0.25, 0.75, 1, 1])


def test_series_of_windows_are_the_mean_where_they_overlap() -> None:
    excerpts = Excerpts(predict="windows", hop=0.5, mean="overlap")
    heard = replace(hearing(excerpts), grid=HOP)
    model = Model(Pairs(), Scale((1, 2, 8)), Said())
    found = list(heard.listen(model, heard.track(model, IDS, Context()), Context()))
    for waveform, one in zip(CLIPS.values(), found, strict=True):
        steps = round(len(waveform) / HOP)
        assert one.frames.shape == one.frame_embedding.shape == (steps, 2)
        whole = Pairs()(torch.from_numpy(waveform)[None])[0, 0].T  # each frame is heard alone
        torch.testing.assert_close(one.frames[: len(whole)], whole)
        assert one.clip is None


def test_a_training_hears_one_excerpt_of_each_part_or_all_windows() -> None:
    sound = Waveforms(RATE, CLIPS, cut_in_two)
    track = WaveformTrack(sound, IDS)
    one = Examples(track, Excerpts(), LENGTH, grid=10)
    assert one.clip.tolist() == np.repeat(range(6), 2).tolist()
    generator, seen = np.random.default_rng(0), set()
    for _ in range(50):
        cut, starts = one.batch(range(12), generator)
        seen |= {(row, start) for row, start in enumerate(starts.tolist())}
        for row, start in enumerate(starts):
            part = sound.parts(IDS[row // 2])[row % 2]
            assert start % 10 == 0
            assert start + LENGTH <= max(len(part), LENGTH)
            expected = np.pad(part[start : start + LENGTH], (0, max(0, LENGTH - len(part))))
            assert np.array_equal(cut[row].numpy(), expected)
    longest = len(sound.parts("333")[0])
    assert {start for row, start in seen if row == 8} == set(range(0, longest - LENGTH + 1, 10))
    assert one.batch(range(12))[1].tolist() == [0] * 12  # without a generator

    windows = Excerpts(train="windows", hop=0.5)
    every = Examples(track, windows, LENGTH)
    expected = [windows.starts(part.units, LENGTH) for part in track.parts]
    assert every.batch(range(len(every)))[1].tolist() == [s for starts in expected for s in starts]


@pytest.mark.parametrize("short", ["zeros", "minimum"])
def test_features_are_made_once_and_cut(short: Any) -> None:
    excerpts = Excerpts(frames=8, short=short, mirror=0.1, overhang=2)
    track = FeatureTrack(Waveforms(RATE, CLIPS), IDS, Pairs(), excerpts, Context())
    for row, waveform in enumerate(CLIPS.values()):
        whole = Pairs()(torch.from_numpy(np.pad(waveform, 10, mode="reflect"))[None])[0].numpy()
        units = whole.shape[-1] - 2
        assert track.parts[row].units == units
        assert np.array_equal(track.features(row), whole)
        for start in (0, 3, units - 8):
            if start < 0:
                continue
            cut = track.cut([(row, start, 8)])[0].numpy()
            there = whole[..., start : start + 10]
            fill = whole.min() if short == "minimum" else 0.0
            missing = 10 - there.shape[-1]
            expected = np.pad(there, ((0, 0), (0, 0), (0, missing)), constant_values=fill)
            assert np.array_equal(cut, expected)


def test_features_of_several_front_ends_lie_side_by_side() -> None:
    class Both(nn.Module):
        def forward(self, waveforms: Tensor) -> dict[str, Tensor]:
            pairs = Pairs()(waveforms)
            return {"pairs": pairs, "loud": 2 * pairs[:, :, 1:] + 1}

    excerpts = Excerpts(frames=8, short="minimum")
    track = FeatureTrack(Waveforms(RATE, CLIPS), IDS, Both(), excerpts, Context())
    cut = track.cut([(row, 0, 20) for row in range(6)])
    for row, waveform in enumerate(CLIPS.values()):
        made = Both()(torch.from_numpy(waveform)[None])
        for name, expected in made.items():
            there = expected[0, ..., :20]
            frames = there.shape[-1]
            assert torch.equal(cut[name][row, ..., :frames], there)
            assert (cut[name][row, ..., frames:] == expected.min()).all()


def test_a_decision_is_adapted_within_the_memory_of_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cuts of a long clip are heard few at a time, which changes nothing."""
    set_ = {"network.width": 4, "network.recurrent_units": 4, "front_end.bands": 16,
            "clip_seconds": 1.0}  # fmt: skip
    system = gcrnn_vat(configs.replace(Config(), set_))
    torch.manual_seed(0)
    fitted = system.untrained(("a",), system.length, 0.0)
    noise = RANDOM.standard_normal(9 * 16_000).astype(np.float32)
    sounds = {"audio": Waveforms(16_000, {"short": noise[:8000], "long": noise})}
    ids, longest = ("short", "long"), system.front_end.frames(len(noise))
    scores = np.concatenate(fitted.predict(ids, sounds, Context()).frame_scores)
    settings = Refinement("labelled", tuple(np.quantile(scores, np.linspace(0.1, 0.9, 9))),
                          (1, 3, 5), weak_threshold=0.0)  # fmt: skip
    expected = fitted.adapt(settings, ids, sounds, Context())
    sizes = []
    forward = fitted.model.network.forward

    def watched(x: Tensor, lengths: Any = None) -> Outputs:
        sizes.append(x.shape[0] * x.shape[-1])
        return forward(x, lengths)

    monkeypatch.setattr(fitted_network, "CUTS", 10)
    monkeypatch.setattr(fitted.model.network, "forward", watched)
    found = fitted.adapt(settings, ids, sounds, Context())
    assert found.decoding == expected.decoding
    assert found.refined.losses == pytest.approx(expected.refined.losses, abs=1e-4)
    excerpt = system.shape(system.length)[-1]
    assert longest > 9 * excerpt
    assert max(sizes) <= 30 * excerpt  # as many as a validation hears at once


@pytest.mark.parametrize("short", ["repeat", "absent"])
def test_what_a_rest_is_filled_with(short: Any) -> None:
    excerpts = Excerpts(frames=8, short=short, rest="pad", train="windows", predict="windows")
    track = FeatureTrack(Waveforms(RATE, CLIPS), IDS, Pairs(), excerpts, Context())
    for row, waveform in enumerate(CLIPS.values()):
        whole = Pairs()(torch.from_numpy(waveform)[None])[0].numpy()
        units = whole.shape[-1]
        last = excerpts.starts(units, 8)[-1]
        cut = track.cut([(row, last, 8)])[0].numpy()
        there = units - last
        assert np.array_equal(cut[..., :there], whole[..., last:])
        again = np.concatenate([whole] * 8, axis=-1)[..., : 8 - there]  # from its start
        expected = again if short == "repeat" else np.full_like(again, np.nan)
        assert np.array_equal(cut[..., there:], expected, equal_nan=True)
    with pytest.raises(ValueError, match="short"):
        Excerpts(seconds=1.0, short=short)


def test_a_frames_embedding_of_windows_is_that_of_each() -> None:
    for mean in ("arithmetic", "vote"):
        windows = Excerpts(frames=8, train="windows", predict="windows", rest="pad", mean=mean)
        heard = hearing(windows)
        model = Model(Pairs(), Scale((1, 2, 8)), Said(), made_once=True)
        track = heard.track(model, IDS, Context())
        for row, one in enumerate(said(windows)):
            starts = windows.starts(track.parts[row].units, 8)
            cut = track.cut([(row, start, 8) for start in starts])
            expected = Said()(model.scaled(cut)).embedding
            torch.testing.assert_close(one.frame_embedding, expected)
            torch.testing.assert_close(one.embedding, expected.mean(0))
