"""Directions: the kind and its metrics, SOFA files, renderings, and binaural_localization's own."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_sets import binaural_sofa, sofa
from scipy.signal import fftconvolve

from systems import data, registry
from systems.data.binaural import RATE, pink, rendered
from systems.data.dataset import Labels
from systems.data.sofa import SofaFault, interaural_polar, read_sofa
from systems.errors import UserError
from systems.kinds import kind
from systems.kinds.direction import angles, wrapped
from systems.metrics import metric
from systems.papers.binaural_localization import CrossConvolution, SpeechPrefilter
from systems.predictions import Predictions

PAPER = "binaural_localization"
SYSTEMS = ("speech_prefilter", "peak_notch_frequency", "cross_convolution", "music_subspace")

# --- the kind ---


def test_errors_go_around_the_circle_and_mirror_images_are_reversals() -> None:
    classes = ("-170", "-90", "0", "30", "150", "170")
    true = {"a": 175.0, "b": 20.0, "c": 30.0, "d": 85.0, "e": -180.0}
    truth = kind("direction").truth(Labels("direction", true), tuple(true), classes)
    scores = np.eye(6)[[0, 3, 4, 3, 2]]  # -170, 30, 150, 30, 0
    said = Predictions.of(tuple(true), classes, ranking=scores)
    counts = metric("angular_error").counts(truth, said)
    assert counts is not None
    np.testing.assert_allclose(counts[:, 0], [15, 10, 120, 55, 180])
    turned = metric("front_back").counts(truth, said)
    assert turned is not None  # d is nearly up: front and back are not told apart there
    np.testing.assert_array_equal(turned, [[0, 1], [0, 1], [1, 1], [0, 0], [1, 1]])
    assert metric("front_back").value(turned) == 0.5
    ideal = kind("direction").ideal(truth.values)
    assert [classes[k] for k in ideal.argmax(axis=1)] == ["170", "30", "30", "30", "-170"]


def test_what_hears_nothing_answers_the_middle_of_the_training_directions() -> None:
    labels = Labels("direction", {"a": -10.0, "b": 0.0, "c": 15.0})
    truth = kind("direction").truth(labels, ("a", "b", "c"), ("-90", "0", "90"))
    _, same = kind("direction").constants(truth)
    assert same.says(("a",), 3).tolist() == [[0, 1, 0]]


# --- SOFA ---


def test_interaural_polar_angles_by_hand() -> None:
    azimuth, elevation = np.array([0, 180, 180, 90, 0, 45]), np.array([0, 0, 60, 0, -90, 0])
    lateral, polar = interaural_polar(azimuth, elevation)
    np.testing.assert_allclose(lateral, [0, 0, 0, 90, 0, 45], atol=1e-6)
    np.testing.assert_allclose(polar[[0, 1, 2, 4, 5]], [0, -180, 120, -90, 0], atol=1e-6)


def test_a_sofa_file_is_read_resampled_and_delayed(tmp_path: Path) -> None:
    taps = np.zeros((2, 2, 64))
    taps[0, :, 10], taps[1, 0, 10], taps[1, 1, 10] = 1.0, 0.5, 0.25
    sofa(tmp_path / "a.sofa", [0, 180], [10, 20], taps, delay=np.array([[0.0, 3.0]]))
    found = read_sofa(tmp_path / "a.sofa")
    assert found.rate == 48_000
    pair = found.at(1, 48_000, 100)
    assert pair.shape == (2, 100)
    assert [int(np.argmax(ear)) for ear in pair] == [10, 13]
    assert pair.max(axis=1).tolist() == [0.5, 0.25]
    half = found.at(0, 24_000, 100)
    assert int(np.argmax(half[0])) == 5
    # As loud as a filter: the response at low frequencies stays what it was.
    assert half[0].sum() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"convention": "GeneralFIR"}, "convention"), ({"rate": np.nan}, "sampling rate"),
     ({"delay": np.array([[-1.0, 0.0]])}, "below zero")],
)  # fmt: skip
def test_other_files_are_told(tmp_path: Path, changed: Any, why: str) -> None:
    sofa(tmp_path / "a.sofa", [0], [0], np.ones((1, 2, 8)), **changed)
    with pytest.raises(SofaFault, match=why):
        read_sofa(tmp_path / "a.sofa")
    (tmp_path / "b.sofa").write_text("no such thing")
    with pytest.raises(SofaFault, match="cannot be read"):
        read_sofa(tmp_path / "b.sofa")


# --- the reader ---


def test_every_direction_meets_every_sound_at_every_level(tmp_path: Path) -> None:
    dataset = data.load("binaural_sofa", str(binaural_sofa(tmp_path)))
    assert dataset.classes == ("-135", "-45", "0", "45", "90", "135")
    sizes = {part: len(dataset.part(part)) for part in dataset.parts()}
    # 13 test directions; bells, saw, one speech, two kinds of noise; 4 levels. In training 6
    # directions; the other speech and two kinds of noise.
    assert sizes == {"template": 6, "speech": 1, "train": 6 * 3 * 4, "test": 13 * 5 * 4}
    test = dataset.part("test")
    assert Counter(c.columns["condition"] for c in test) == {
        "matched": 120, "mismatched": 120, "off_centre": 20}  # fmt: skip
    assert Counter(c.columns["snr"] for c in test) == dict.fromkeys((0, 10, 20, 30), 65)
    assert Counter(c.columns["sound"] for c in test) == {
        "environmental": 104, "speech": 52, "white_noise": 52, "pink_noise": 52}  # fmt: skip
    assert "polar" not in test[0].columns
    labels = dataset.open_sealed("test", lambda: None)
    sectors = {(labels.values[c.clip_id], labels.columns[c.clip_id]["sector"]) for c in test}
    assert sectors == {(-135, "below"), (-45, "front"), (0, "front"), (45, "above"),
                       (90, "above"), (135, "rear")}  # fmt: skip
    for clip in (dataset.clips[0], dataset.clips[7], test[0], test[-1]):
        samples, rate = dataset.source.read(clip.clip_id)
        assert rate == RATE
        assert abs(samples.shape[1] / rate - clip.duration) < 1e-4
    (tmp_path / "sources/training_speech").mkdir()
    (tmp_path / "sources/speech/two.wav").rename(tmp_path / "sources/training_speech/two.wav")
    own = data.load("binaural_sofa", str(tmp_path))
    assert {part: len(own.part(part)) for part in own.parts()} == sizes


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    root = binaural_sofa(tmp_path)
    table = root / "conditions.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(",-135", ",-100")
    lines[2] = lines[2].replace("a.sofa,1", "a.sofa,9")
    lines[8] = lines[8].replace("a.sofa", "../a.sofa")
    lines[-1] = lines[-1].replace("off_centre", "off_center")
    table.write_text("\n".join(lines) + "\n")
    (root / "b.sofa").write_bytes(b"broken")
    (root / "sources/speech/one.wav").write_bytes(b"broken")
    with pytest.raises(UserError) as error:
        data.load("binaural_sofa", str(root))
    text = str(error.value)
    for why in ("line 2: a.sofa has lateral 0.00 and polar -135.00 there",
                "line 3: a.sofa has measurements 0 to 5", "../a.sofa is no file of the folder",
                "b.sofa: cannot be read as SOFA", "'off_center' is no condition",
                "sources/speech/one.wav"):  # fmt: skip
        assert why in text, why


@pytest.mark.skipif("SOUNDSWEEP_MINI_SETS" not in os.environ, reason="needs the mini data sets")
def test_the_small_set_of_real_responses() -> None:
    dataset = data.load("binaural_sofa", os.environ["SOUNDSWEEP_MINI_SETS"] + "/hrtf_mini")
    assert {part: len(dataset.part(part)) for part in dataset.parts()} == {
        "template": 56, "speech": 2, "train": 35 * 4 * 4, "test": 140 * 14 * 4}  # fmt: skip
    assert data.card("binaural_sofa").clips["test"] == 140 * 22 * 4


# --- renderings ---


def test_noise_is_as_loud_as_asked_and_pink() -> None:
    rng = np.random.default_rng(0)
    sound, pair = rng.standard_normal(20_000), rng.standard_normal((2, 64)) * [[1.0], [0.3]]
    clean = fftconvolve(sound[None], pair, axes=1)
    noisy = rendered(sound, pair, 10.0, "key").astype(float)
    assert np.array_equal(noisy, rendered(sound, pair, 10.0, "key"))
    scale = (noisy * clean).sum() / np.square(clean).sum()
    noise = noisy / scale - clean
    level = 10 * np.log10(np.square(clean).mean() / np.square(noise).mean())
    assert level == pytest.approx(10.0, abs=0.1)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.1
    power = np.square(np.abs(np.fft.rfft(pink(1, 1 << 18, rng)[0])))
    octaves = [power[2**k : 2 ** (k + 1)].sum() for k in range(10, 15)]
    assert max(octaves) / min(octaves) < 1.3  # of 1 / f each octave has the same


# --- the paper's systems ---


@pytest.mark.parametrize("name", SYSTEMS)
def test_without_noise_a_source_is_found_within_a_step_of_the_grid(name: str) -> None:
    dataset = data.load("synthetic_binaural", None)
    pairs = np.stack([dataset.source.read(c.clip_id)[0] for c in dataset.part("template")])
    entry = registry.get(f"{PAPER}/{name}")
    matcher = entry.build(entry.config).matcher
    degrees = angles(dataset.classes)
    sound = np.random.default_rng(0).standard_normal(20_000)
    kept = matcher.fit(pairs.astype(float), degrees, [sound])
    step = np.diff(np.sort(degrees)).max()
    for k in range(0, len(degrees), 5):
        heard = rendered(sound, pairs[k], None, "").astype(float)
        scores = matcher.scores(kept, heard)
        assert np.abs(wrapped(degrees[scores.argmax()] - degrees[k])) <= step


def test_cross_convolution_is_the_correlation_of_the_filtered_signals() -> None:
    rng = np.random.default_rng(0)
    pairs, heard = rng.standard_normal((5, 2, 40)), rng.standard_normal((2, 3000))
    system = CrossConvolution()
    found = system.scores(system.fit(pairs, np.zeros(5), []), heard)
    for score, (left, right) in zip(found, pairs, strict=True):
        a, b = np.convolve(heard[0], right), np.convolve(heard[1], left)
        direct = (a * b).sum() / np.sqrt(np.square(a).sum() * np.square(b).sum())
        assert score == pytest.approx((1 + direct) / 2, abs=1e-9)


def test_the_prefilter_leaves_out_what_the_speech_does_not_have() -> None:
    """Speech that was resampled from 16 kHz says nothing of what lies above 8 kHz."""
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(48_000)
    spectrum = np.fft.rfft(sound)
    spectrum[8000:] = 0
    narrow = np.fft.irfft(spectrum)
    system, pairs = SpeechPrefilter(), rng.standard_normal((4, 2, 64))
    whole = system.fit(pairs, np.zeros(4), [sound])["reach"].item()
    half = system.fit(pairs, np.zeros(4), [narrow])["reach"].item()
    assert whole == 257
    assert 84 <= half <= 105  # bins of 93.75 Hz, and what a Hann window leaks
    with pytest.raises(UserError, match="nothing above 12 kHz"):
        SpeechPrefilter(low=12.0).fit(pairs, np.zeros(4), [narrow])
