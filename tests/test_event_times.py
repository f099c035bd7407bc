"""Where events begin and end: nowhere but where the sound does, whatever the window and the hop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from systems.data.dataset import Event
from systems.frontend.log_mel import LogMel
from systems.metrics.curves import Frames, event_curve
from systems.metrics.segments import segment_scores
from systems.papers.gcrnn_vat import Config, gcrnn_vat
from systems.postprocessing.decoding import Decoding, align_frames, decode, frame_edges

RATE = 16_000
FRONT_ENDS = {
    "published": Config().front_end,
    "long windows": LogMel(window=2048, hop=320, center=False),
    "short windows": LogMel(window=512, hop=160, center=False),
    "windows below the hop": LogMel(window=512, hop=1280, center=False),
    "centred": LogMel(window=2048, hop=320),
    "centred, whole hops": LogMel(window=1024, hop=640, whole_hops=True),
    "another rate": LogMel(rate=8000, window=1024, hop=200, center=False),
    "filled windows": LogMel(window=400, hop=160, fft=1024, center=False),
}


def noise_from(onset: float, offset: float, seconds: float, rate: int) -> torch.Tensor:
    """Noise of unit variance where an event is, else silence: [1, S]."""
    draw = np.random.default_rng(round(1000 * onset))
    sound = draw.standard_normal(round(seconds * rate)).astype(np.float32)
    time = np.arange(len(sound)) / rate
    sound[(time < onset) | (time >= offset)] = 0
    return torch.from_numpy(sound)[None]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_an_event_is_placed_where_it_sounds(name: str) -> None:
    """A frame that is active where half of what it can hear is: its errors have no direction."""
    front_end = FRONT_ENDS[name]
    built, errors = front_end.build(), []
    seconds, hop = 3.0, front_end.hop_seconds
    draw = np.random.default_rng(0)
    for onset in draw.uniform(0.5, 1.0, 12):
        offset = onset + draw.uniform(0.9, 1.2)
        energy = built.energies(noise_from(onset, offset, seconds, front_end.rate))[0].sum(0)
        active = (energy > energy.max() * 0.2).numpy().astype(float)[:, None]
        (event,) = decode(active, Decoding.plain(1), ("a",), hop, seconds, front_end.frame_start)
        errors.append((event.onset - onset, event.offset - offset))
    begins, ends = np.array(errors).T
    # Windows that hear a little of an event make it longer at both ends: its middle stays.
    assert abs(((begins + ends) / 2).mean()) < 0.1 * hop + 0.003
    assert np.abs(begins + ends).max() < 2 * hop


@pytest.mark.parametrize(("window", "hop"), [(1024, 664), (2048, 320), (512, 160)])
def test_a_click_is_inside_the_frame_that_hears_it_in_its_middle(window: int, hop: int) -> None:
    front_end = LogMel(window=window, hop=hop, center=False)
    for at in (5000, 12_345, 20_000):
        sound = torch.zeros(1, 2 * RATE)
        sound[0, at] = 1
        energy = front_end.build().energies(sound)[0].sum(0)
        loudest = int(energy.argmax())
        edges = frame_edges(len(energy), hop / RATE, 2.0, front_end.frame_start)
        assert edges[loudest] <= at / RATE + 1e-3
        assert at / RATE <= edges[loudest + 1] + 1e-3


def test_a_clip_is_full_from_its_beginning_to_its_end() -> None:
    for front_end in FRONT_ENDS.values():
        hop, start = front_end.hop_seconds, front_end.frame_start
        for seconds in (1.0, 2.01, 3.337):
            frames = front_end.frames(round(seconds * front_end.rate))
            found = decode(np.ones((frames, 1)), Decoding.plain(1), "a", hop, seconds, start)
            assert found == (Event(0.0, seconds, "a"),)


def test_a_system_places_its_events_so() -> None:
    system = gcrnn_vat(Config())
    fitted = system.untrained(("a",), system.length, 0.0)
    scores = np.zeros((240, 1), np.float32)
    scores[100:110] = 1
    ((event,), _) = fitted.timed(scores, 10.0)[1], None
    middle = (100 * 664 + 512) / RATE  # of what frame 100 saw
    assert event.onset == pytest.approx(middle - 0.0415 / 2)
    assert event.offset == pytest.approx(middle + 9.5 * 0.0415)


def test_members_whose_frames_begin_elsewhere_agree_on_a_time() -> None:
    """A frame takes the score that each member gives at its middle."""
    time = np.arange(0, 4, 0.001)
    fronts = [LogMel(window=2048, hop=640, center=False), LogMel(window=1024, hop=320)]
    hops, starts = [f.hop_seconds for f in fronts], [f.frame_start for f in fronts]
    scores = []
    for front, hop, start in zip(fronts, hops, starts, strict=True):
        middles = start + (np.arange(front.frames(4 * RATE)) + 0.5) * hop
        scores.append(middles[:, None])  # a member that says what time it is
    aligned = align_frames(scores, hops, starts)
    said = starts[1] + (np.arange(len(aligned)) + 0.5) * hops[1]
    assert len(aligned) * hops[1] > time[-1] - 0.05
    inside = (said > 0.1) & (said < 3.9)
    assert np.abs(aligned[inside, 1, 0] - said[inside]).max() < 1e-9
    assert np.abs(aligned[inside, 0, 0] - said[inside]).max() <= hops[0] / 2 + 1e-9


@pytest.mark.parametrize("start", [-0.02, 0.0, 0.03])
def test_curves_and_segments_have_the_same_times(start: float) -> None:
    draw = np.random.default_rng(1)
    for seconds in (2.5, 3.0):
        scores = draw.random(round(seconds / 0.05)).round(1)
        events = [(0.3, 0.9), (1.4, 2.2)]
        curve = event_curve(Frames.of([scores], 0.05, [seconds], [events], start))
        found = decode((scores[:, None] > 0.55), Decoding.plain(1), "a", 0.05, seconds, start)
        assert curve.at(0.55)[0] + curve.at(0.55)[1] == len(found)
        segments = segment_scores(scores[:, None], 0.05, seconds, start)[:, 0] > 0.55
        told = {s for e in found for s in range(int(e.onset), int(np.ceil(e.offset)))}
        assert {*np.flatnonzero(segments).tolist()} == told
