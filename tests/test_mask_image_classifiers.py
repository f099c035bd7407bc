"""Pictures of spectrograms, class activation maps, and which frequencies a run's report names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from inprocess import run_in_process
from reported import NO_PLOTS, Page, example
from torch import Tensor, nn

from orchestrator.console.progress import Progress
from orchestrator.pipeline.begin import go_on
from orchestrator.plan.options import Changes, Options
from orchestrator.report import html
from orchestrator.report.relevance_plots import draw_relevance
from orchestrator.report.tables import tables
from orchestrator.runs.files import read_json, write_json
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.prepare import Waveforms
from systems.errors import UserError
from systems.excerpts import Excerpts
from systems.frequency_relevance import frequency_relevance
from systems.frontend.image import SpectrogramImage, with_differences
from systems.frontend.log_mel import LogMel
from systems.nets.backbone import Backbone, ImageNetwork
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.training.losses import CrossEntropy
from systems.training.settings import Training

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
RATE = 16_000


def sound(seconds: float = 0.5) -> np.ndarray:
    generator = np.random.default_rng(0)
    fade = np.linspace(1e-4, 1, round(seconds * RATE)) ** 2
    return (generator.standard_normal(len(fade)) * fade).astype(np.float32)


def tone(hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(RATE // 2) / RATE).astype(np.float32)


def picture(settings: SpectrogramImage, waveform: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        made: Tensor = settings.build()(torch.from_numpy(waveform)[None])
    assert tuple(made.shape[1:]) == settings.shape(len(waveform))
    return made[0].numpy()


def between_0_and_1(made: np.ndarray) -> np.ndarray:
    """A picture without ImageNet's statistics."""
    mean, deviation = (np.array(v)[:, None, None] for v in (MEAN, DEVIATION))
    return np.asarray(made * deviation + mean)


def expected(waveform: np.ndarray, window: int, rows: int) -> np.ndarray:
    """A channel as librosa has it: 80 dB below the clip's maximum, then from 0 to 1."""
    spectrum = librosa.stft(
        waveform, n_fft=1024, hop_length=64, win_length=window, pad_mode="constant"
    )
    decibels = librosa.power_to_db(np.abs(spectrum[:rows]) ** 2, ref=np.max, amin=1e-30, top_db=80)
    return np.asarray((decibels - decibels.min()) / (decibels.max() - decibels.min()))


@pytest.mark.parametrize("fmax", [8000.0, 4000.0])
def test_channels_are_librosas_of_three_windows(fmax: float) -> None:
    made = between_0_and_1(picture(SpectrogramImage(fmax=fmax), sound()))
    rows = 513 if fmax == 8000 else 257
    for channel, window in zip(made, (256, 512, 1024), strict=True):
        np.testing.assert_allclose(channel, expected(sound(), window, rows), atol=2e-4)


def test_differences_and_copies_of_one_spectrogram() -> None:
    copies = between_0_and_1(picture(SpectrogramImage(content="copies"), sound()))
    first = expected(sound(), 256, 513)
    for channel in copies:
        np.testing.assert_allclose(channel, first, atol=2e-4)
    deltas = between_0_and_1(picture(SpectrogramImage(content="deltas"), sound()))
    by_hand = with_differences(torch.from_numpy(first)[None, None])[0].numpy()
    slope = librosa.feature.delta(first, width=9, mode="nearest")
    np.testing.assert_allclose(by_hand[1], slope, atol=1e-4)
    for channel, raw in zip(deltas, by_hand, strict=True):
        spread = (raw - raw.min()) / (raw.max() - raw.min())
        np.testing.assert_allclose(channel, spread, atol=2e-3)


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 6000.0])
def test_a_tone_lies_in_its_row_on_both_scales(hertz: float) -> None:
    for settings in (SpectrogramImage(), SpectrogramImage(scale="log")):
        loud = picture(settings, tone(hertz))[2, :, 40:80].mean(1).argmax()
        edges = settings.band_edges()
        slack = 16 + 0.01 * hertz
        assert edges[loud] - slack < hertz < edges[loud + 1] + slack
    steps = np.diff(np.log(SpectrogramImage(scale="log").hertz()))
    np.testing.assert_allclose(steps, steps[0])


def test_silence_is_black_and_impossible_values_are_refused() -> None:
    made = between_0_and_1(picture(SpectrogramImage(), np.zeros(8000, np.float32)))
    np.testing.assert_allclose(made, 0, atol=1e-6)
    entry = registry.get("mask_image_classifiers")
    for wrong in ({"front_end.fmax": 9000.0}, {"front_end.hop": 0}, {"body_rate": 0.0}):
        with pytest.raises(UserError, match=r"rate|hop"):
            configs.replace(entry.config, wrong)


def test_bands_of_mel_meet_between_their_middles() -> None:
    edges = LogMel(rate=RATE, bands=40).band_edges()
    middles = librosa.mel_frequencies(42, fmin=0, fmax=8000)[1:-1]
    assert len(edges) == 41
    assert all(edges[:-1] < middles)
    assert all(middles < edges[1:])


def network(hidden: tuple[int, ...]) -> ImageNetwork:
    torch.manual_seed(0)
    return ImageNetwork(Backbone("test_resnet", size=64), hidden, 3).eval()


def test_maps_of_one_dense_layer_are_cam() -> None:
    net, x = network(()), torch.randn(2, 3, 40, 50)
    with torch.no_grad():
        maps = net.backbone.trunk.forward_features(
            nn.functional.interpolate(x, (64, 64), mode="bilinear")
        )
        layer = net.head[0]
        by_hand = torch.einsum("kc,bchw->bkhw", layer.weight, maps)
        torch.testing.assert_close(net.class_maps(x), by_hand, atol=1e-5, rtol=1e-4)
        logits = net(x).clip
    torch.testing.assert_close(by_hand.mean((2, 3)) + layer.bias, logits, atol=1e-5, rtol=1e-4)


def test_maps_of_a_deeper_head_are_grad_cam() -> None:
    net, x = network((7,)), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = net.backbone.maps(x)
        first, last = net.head[0], net.head[3]
        on = (first(maps.mean((2, 3)))[0] > 0).float()
        weights = (last.weight * on) @ first.weight
        by_hand = torch.einsum("kc,bchw->bkhw", weights, maps)
    torch.testing.assert_close(net.class_maps(x), by_hand, atol=1e-5, rtol=1e-4)


def test_a_transformer_has_no_maps_to_tell_of() -> None:
    net = ImageNetwork(Backbone("test_vit", size=160), (), 2).eval()
    with pytest.raises(UserError, match="no feature maps"):
        net.class_maps(torch.randn(1, 3, 40, 50))


class Listener(nn.Module):
    """A network whose second class is what the picture shows, in eight rows."""

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.class_maps(x).mean((2, 3)))

    def class_maps(self, x: Tensor) -> Tensor:
        shown = nn.functional.adaptive_avg_pool2d(x[:, 2:], (8, 4))
        return torch.cat([torch.zeros_like(shown), shown], 1)


def test_the_band_that_a_class_is_decided_by_is_found() -> None:
    system = NetworkSystem(
        front_end=SpectrogramImage(), excerpts=Excerpts(seconds=0.5), scale="none",
        network=lambda shape, classes: Listener(), activation="softmax", frames=False,
        activation_maps=True, loss=[CrossEntropy()], training=Training(),
    )  # fmt: skip
    fitted = system.untrained(("a", "b"), RATE // 2, 0.0)
    sounds = {"audio": Waveforms(RATE, {"low": tone(1500), "high": tone(6500)}, None)}
    edges, values = frequency_relevance(fitted, ("low", "high"), sounds, Context(threads=1))
    np.testing.assert_allclose(edges, np.linspace(0, 8000, 9), atol=20)
    assert values.shape == (2, 2, 8)
    np.testing.assert_allclose(values.sum(1), 0, atol=1e-6)  # one class's gain is the other's loss
    assert values[:, 1].argmax(1).tolist() == [1, 6]


def relevance() -> dict[str, Any]:
    bands = [{"from": 0.0, "to": 4000.0, "value": 0.25, "low": 0.1, "high": 0.4},
             {"from": 4000.0, "to": 8000.0, "value": -1.5, "low": -2.0, "high": -1.0}]  # fmt: skip
    alone = [{**band, "low": None, "high": None} for band in bands]  # of a single group
    return {"trial": 3, "why": None, "classes": {"clear": {"clips": 9, "bands": bands},
                                    "mask": {"clips": 1, "bands": alone}}}  # fmt: skip


def test_a_report_shows_what_bands_add(tmp_path: Path) -> None:
    results = {**example(), "relevance": relevance()}
    image = draw_relevance(results, tmp_path / "frequency_relevance.png")
    assert image is not None
    assert "clear most by 0 to 4000 Hz" in image.alt
    page = Page(html.page(results, replace(NO_PLOTS, relevance=image), []))
    assert "relevance" in page.ids
    assert "+0.250 [+0.100, +0.400]" in page.text
    columns, rows = tables(results)["frequency_relevance"]
    assert [row["value"] for row in rows] == [0.25, -1.5] * 2
    assert all(set(row) == set(columns) for row in rows)
    assert draw_relevance(example(), tmp_path / "none.png") is None
    untold = {**example(), "relevance": {"trial": 3, "classes": {}, "why": "no maps."}}
    assert draw_relevance(untold, tmp_path / "none.png") is None
    assert "cannot be told: no maps." in Page(html.page(untold, NO_PLOTS, [])).text
    assert tables(example())["frequency_relevance"] == (columns, [])


@pytest.mark.all
def test_a_run_says_which_frequencies_its_best_trial_decides_by(tmp_path: Path) -> None:
    """Synthetic masks take what lies above 2 kHz; another best trial is looked at anew."""
    entry = registry.get("mask_image_classifiers")
    options = Options(
        system=entry.address, storage=str(tmp_path), name="m", trials=1, stack="mean",
        set={**entry.tiny, "training.epochs": 2},
    )  # fmt: skip
    run = run_in_process(options)
    said = read_json(run.relevance)
    assert said == read_json(run.results)["relevance"]
    assert list(said["classes"]) == ["clear", "mask"]
    assert sum(of["clips"] for of in said["classes"].values()) == 120
    bands = said["classes"]["mask"]["bands"]
    assert bands[0]["from"] == 0
    assert bands[-1]["to"] == 8000
    assert all(band["low"] <= band["value"] <= band["high"] for band in bands)
    write_json(run.relevance, {**said, "trial": 7})
    assert go_on(RunDir(run.path), Changes(), Progress())
    assert read_json(run.relevance) == said
