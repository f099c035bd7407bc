"""What is bird_domain_tuning's own: shapes of the paper, losses, front ends, joined networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from systems import config as configs
from systems import registry, testing
from systems.context import Context
from systems.errors import UserError
from systems.outputs import Outputs
from systems.papers.bird_domain_tuning import HF, HT, LAST, B, Bulbul, Config
from systems.training.losses import KernelPenalty, LogitBce, Step
from systems.training.masking import Rolls
from systems.training.mixing import Batch
from systems.training.settings import Schedule

PAPER = "bird_domain_tuning"


@pytest.mark.parametrize(
    ("front_end", "shape", "flat"),
    [(B, (80, 700), 448), (HT, (80, 1669), 1216), (HF, (160, 624), 1152)],
)
def test_front_ends_and_maps_are_the_papers(front_end: Any, shape: Any, flat: int) -> None:
    bands, frames = front_end.shape(10 * front_end.rate)[1:]
    assert (bands, frames) == shape
    made = front_end.build()(torch.zeros(1, 10 * front_end.rate))
    assert made.shape == (1, 1, *shape)
    with torch.device("meta"):
        net = Bulbul(Config(), (1, *shape), 1)
    assert torch.Size(net.convs.out).numel() == flat


def test_filter_banks_are_htks() -> None:
    """Integers, pre-emphasis, Hamming, magnitudes, triangles over mel, a floor of 1: by hand."""
    r = np.random.default_rng(0)
    sound = (0.1 * r.normal(size=6000)).astype(np.float32)
    x = sound.astype(np.float64) * 32_768
    x[1:] -= 0.97 * x[:-1].copy()
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(529) / 529)
    spectra = np.abs([
        np.fft.rfft(x[i : i + 529] * window, 1024) for i in range(0, 6000 - 529 + 1, 264)
    ])  # fmt: skip

    def mel(hz: Any) -> Any:
        return 1127 * np.log(1 + np.asarray(hz) / 700)

    edges, bins = np.linspace(mel(50), mel(12_000), 82), mel(np.arange(513) * 44_100 / 1024)
    expected = np.zeros((len(spectra), 80))
    for band in range(80):
        low, middle, high = edges[band : band + 3]
        up, down = (bins - low) / (middle - low), (high - bins) / (high - middle)
        expected[:, band] = spectra @ np.clip(np.minimum(up, down), 0, None)
    expected = np.log(np.maximum(expected, 1.0))
    made = HT.build()(torch.from_numpy(sound)[None])[0, 0].T.numpy()
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=2e-3)
    assert not HT.build()(torch.zeros(1, 6000)).any()  # silence is at the floor


def test_class_weights_multiply_the_loss_of_each_class() -> None:
    logits, targets = torch.tensor([[0.3], [-1.0], [2.0]]), torch.tensor([[1.0], [0.0], [0.0]])
    step = Step(nn.Identity(), logits, targets, Outputs(logits), None)
    p = logits.sigmoid()
    each = -(targets * p.log() + (1 - targets) * (1 - p).log())
    expected = (torch.tensor([[0.57], [0.43], [0.43]]) * each).mean()
    torch.testing.assert_close(LogitBce(0.43, 0.57)(step), expected)
    torch.testing.assert_close(LogitBce(0.5, 0.5)(step), each.mean() / 2)
    torch.testing.assert_close(LogitBce()(step), each.mean())


def test_the_last_convolutions_kernel_is_penalised() -> None:
    net = Bulbul(Config(), (1, 80, 700), 1)
    kernel = net.get_parameter(LAST)
    assert kernel.shape == (16, 16, 3, 3)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert kernel is convs[3].weight
    x = torch.zeros(1)
    penalty = KernelPenalty(LAST, 0.01)(Step(net, x, x, Outputs(), None))
    torch.testing.assert_close(penalty, 0.01 * kernel.square().sum())
    penalty.backward()
    torch.testing.assert_close(kernel.grad, 0.02 * kernel.detach())


def test_rolled_features_go_round() -> None:
    x = torch.arange(2 * 10 * 20.0).reshape(2, 1, 10, 20)
    seen = set()
    for seed in range(40):
        batch = Batch(x, torch.zeros(2, 1), None)
        made = Rolls(0.2, 0.5)(batch, np.random.default_rng(seed)).features
        assert isinstance(made, Tensor)
        for one, other in zip(made, x, strict=True):
            place = (one == other[0, 0, 0]).nonzero()[0]
            up, on = int(place[1]), int(place[2])
            up, on = up - 10 * (up > 5), on - 20 * (on > 10)
            assert abs(up) <= 2
            assert abs(on) <= 10
            assert torch.equal(one, other.roll((up, on), (1, 2)))
            seen.add((up, on))
    assert len(seen) > 20
    assert torch.equal(Rolls(0.0, 0.0).rolled(x, np.random.default_rng(0)), x)
    with pytest.raises(ValueError, match="shares"):
        Rolls(1.5)


def test_a_plateau_ends_at_its_floor() -> None:
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = Schedule("plateau", factor=0.2, patience=0, floor=1e-5)
    scheduler = schedule.build(optimiser, 10, 1, "max")
    rates = []
    for _ in range(6):
        scheduler.step(0.5)
        rates.append(optimiser.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, [1e-3, 2e-4, 4e-5, 1e-5, 1e-5, 1e-5])


def test_variants_are_what_the_card_says() -> None:
    configs_of = {e.name: e.config for e in registry.entries() if e.paper == PAPER}
    assert configs_of["bulbul_bn_hf"].front_end == HF
    assert configs_of["bulbul_bn_hf"].high == 17.0
    assert configs_of["bulbul_bn"].enhanced is None
    last = configs_of["bulbul_bn_ht_se_coral"]
    assert last.front_end == HT
    assert last.enhanced is not None
    assert last.coral.column == "datasetid"
    with pytest.raises(UserError, match="takes LogMel"):
        configs.replace(Config(), {"front_end": "HT"})


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[testing.Case, Any, Path]:
    """A tiny fusion network over three tiny networks at two rates."""
    folder = tmp_path_factory.mktemp("joined")
    case = testing.Case.of(registry.get(f"{PAPER}/score_fusion_nn"), folder / "store")
    fitted, _ = case.train(folder / "training")
    return case, fitted, folder


def test_vectors_of_networks_at_their_own_rates_lie_below_each_other(
    joined: tuple[testing.Case, Any, Path],
) -> None:
    import soxr

    case, fitted, _ = joined
    clip_id = case.data.labelled.clip_ids[0]
    waveform = np.array(case.sounds["audio"][clip_id])
    with torch.inference_mode():
        heard = fitted.model.front_end(torch.from_numpy(waveform)[None])
    assert heard.shape[::3] == (1, 1)
    expected = []
    for name in ("b", "ht", "hf"):
        teacher, _ = case.teachers[name]
        own = waveform
        if teacher.rate != 44_100:
            own = soxr.resample(waveform, 44_100, teacher.rate)
        seconds = teacher.system.excerpts.made_of
        whole = np.resize(own, round(seconds * teacher.rate))
        with torch.inference_mode():
            features = teacher.model.front_end(torch.from_numpy(whole)[None])
            expected.append(teacher.model.network.eval()(features).embedding[0])
    assert {case.teachers[name][0].rate for name in ("b", "ht")} == {22_050, 44_100}
    torch.testing.assert_close(heard[0, 0, :, 0], torch.cat(expected), atol=1e-4, rtol=1e-4)


def test_the_networks_below_stay_as_they_are(joined: tuple[testing.Case, Any, Path]) -> None:
    case, fitted, folder = joined
    for name, (teacher, _) in case.teachers.items():
        held = fitted.model.front_end.models[name].state_dict()
        saved = teacher.system.load(folder / "store" / name / "model").model.state_dict()
        assert all(torch.equal(held[key], value) for key, value in saved.items())
    state = Context(folder / "training").restore()
    assert state is not None
    assert len(state["model"]) < 30  # its own layers alone
