"""Virtual adversarial training: the divergence, the direction, and what its passes leave alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence

from systems.nets.crnn import Crnn
from systems.outputs import Outputs
from systems.papers.gcrnn_vat import GcrnnConfig, gcrnn
from systems.training.losses import Step, VatTerm
from systems.training.vat import (
    Vat,
    adversarial_direction,
    bernoulli_kl,
    perturbed_passes,
    unit_norm,
    vat_loss,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only lose time to more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained() -> tuple[Crnn, Tensor]:
    """A small network after 80 steps on a separable task with 10 % wrong labels; 64 clips.

    Its posterior is confident, not saturated: the divergence is then near its quadratic form, whose
    largest direction the power iteration looks for.
    """
    torch.manual_seed(2)
    patterns = torch.randn(2, 16)

    def clips(count: int) -> tuple[Tensor, Tensor]:
        tags = (torch.rand(count, 2) < 0.5).float()
        x = torch.randn(count, 1, 16, 20) + 0.5 * (tags @ patterns)[:, None, :, None]
        return x, (tags - (torch.rand(count, 2) < 0.1).float()).abs()

    network = gcrnn(GcrnnConfig(width=8, blocks=2, recurrent_units=8), (1, 16, 20), 2)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
        x, targets = clips(24)
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy(network(x).clip.clamp(0, 1), targets).backward()
        optimiser.step()
    return network, clips(64)[0]


@pytest.fixture
def network(trained: tuple[Crnn, Tensor]) -> Crnn:
    return copy.deepcopy(trained[0]).train()


def test_bernoulli_kl_equals_torch_distributions() -> None:
    torch.manual_seed(0)
    p, q = torch.rand(2, 50, 7, dtype=torch.float64)
    expected = kl_divergence(Bernoulli(p), Bernoulli(q)).sum(-1)
    torch.testing.assert_close(bernoulli_kl(p, q), expected)
    assert torch.equal(bernoulli_kl(p, p), torch.zeros(50, dtype=torch.float64))
    assert bernoulli_kl(torch.zeros(1, 2), torch.ones(1, 2)).isfinite().all()


@pytest.mark.parametrize("size", [1e-30, 1e-18, 1.0, 1e10])
def test_unit_norm_is_per_clip(size: float) -> None:
    d = torch.randn(5, 1, 4, 6) * torch.tensor([1.0, 2, 30, 4, 5])[:, None, None, None] * size
    unit = unit_norm(d)
    torch.testing.assert_close(unit.flatten(1).norm(dim=1), torch.ones(5))
    assert torch.nn.functional.cosine_similarity(unit[2].flatten(), unit_norm(d[2:3])[0].flatten(),
                                                 dim=0) > 0.999  # fmt: skip
    assert not unit_norm(torch.zeros(2, 3)).any()


def test_direction_reaches_what_many_exact_iterations_reach(
    trained: tuple[Crnn, Tensor], network: Crnn
) -> None:
    x, epsilon = trained[1], 2.0
    exact = copy.deepcopy(network).double()

    def reached(model: nn.Module, x: Tensor, direction: Tensor) -> float:
        with torch.no_grad():
            return float(bernoulli_kl(model(x).clip, model(x + epsilon * direction).clip).mean())

    with perturbed_passes(network), perturbed_passes(exact):
        confidence = (network(x).clip - 0.5).abs().mean()
        torch.manual_seed(1)
        one, random = 0.0, 0.0
        for _ in range(3):  # mean over draws of where the iteration starts
            d, p = adversarial_direction(lambda x: network(x).clip, x, xi=0.1, power_iterations=1)
            torch.testing.assert_close(d.flatten(1).norm(dim=1), torch.ones(64))
            assert not d.requires_grad
            assert not p.requires_grad
            one += reached(network, x, d) / 3
            random += reached(network, x, unit_norm(torch.randn_like(x))) / 3
        best, _ = adversarial_direction(lambda x: exact(x).clip, x.double(), 0.1, 15)
        many = reached(exact, x.double(), best)
    assert confidence > 0.3
    assert one > 0.7 * many
    assert one > 20 * random


def test_passes_leave_norm_statistics_and_dropout_alone(
    trained: tuple[Crnn, Tensor], network: Crnn
) -> None:
    x = trained[1][:8]
    dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    frozen = nn.Dropout(0.5).eval()
    network.extra = frozen
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert not torch.equal(network(x).clip, network(x).clip)  # dropout is on outside
    network.load_state_dict(before)
    with perturbed_passes(network):
        assert network.training
        assert network.recurrent.cell.training  # cuDNN needs it for gradients
        assert not any(m.training for m in dropouts)
        first = network(x).clip
        assert torch.equal(first, network(x).clip)
        assert not torch.equal(first, copy.deepcopy(network).eval()(x).clip)
    vat_loss(network, x, Vat()).backward()
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert all(m.training for m in dropouts)
    assert not frozen.training
    network(x)
    tracked = [k for k, v in network.state_dict().items() if not torch.equal(before[k], v)]
    assert any("num_batches_tracked" in key for key in tracked)
    assert any("running_mean" in key for key in tracked)


def test_passes_multiply_in_float32() -> None:
    """Not in TF32, cuDNN's default: a step of the power iteration would be rounded away."""
    backends: Any = torch.backends
    products = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul
    before = [of.fp32_precision for of in products]
    seen = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Outputs:
            seen.append({of.fp32_precision for of in products})
            return Outputs(torch.sigmoid(x.flatten(1)), None)

    vat_loss(Watched(), torch.randn(2, 1, 2, 2), Vat(power_iterations=2))
    assert seen == [{"ieee"}] * 4  # the clip, two iterations, the step
    assert [of.fp32_precision for of in products] == before


def test_passes_end_after_an_error(network: Crnn) -> None:
    with pytest.raises(RuntimeError), perturbed_passes(network):
        raise RuntimeError
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.track_running_stats for m in norms)
    assert all(m.training for m in network.modules() if isinstance(m, nn.Dropout))


def test_loss_teaches_the_network_alone(trained: tuple[Crnn, Tensor], network: Crnn) -> None:
    x = trained[1][:8].clone()
    loss = vat_loss(network, x, Vat(epsilon=2.0))
    assert loss.item() > 0
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert x.grad is None
    assert not x.requires_grad
    assert torch.equal(x, trained[1][:8])


def test_posterior_at_the_clip_is_constant() -> None:
    """The loss's gradient is that of KL(p || q) with p held fixed."""
    weight = torch.tensor([0.3, -0.8], requires_grad=True)

    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Outputs:
            return Outputs(torch.sigmoid(x * weight))

    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    torch.manual_seed(0)
    loss = vat_loss(Linear(), x, Vat(epsilon=0.5, xi=0.1))
    torch.manual_seed(0)
    d, p = adversarial_direction(lambda x: Linear()(x).clip, x, 0.1, 1)
    expected = bernoulli_kl(p.detach(), torch.sigmoid((x + 0.5 * d) * weight)).mean()
    assert loss.item() == pytest.approx(expected.item())
    ours = torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected, weight)[0])


def test_term_takes_labelled_and_unlabelled_clips(
    trained: tuple[Crnn, Tensor], network: Crnn
) -> None:
    x = trained[1][:8]
    targets = torch.zeros(4, 2)
    step = Step(network, x[:4], targets, network(x[:4]), x[4:])
    torch.manual_seed(3)
    term = VatTerm(Vat(weight=3.0))(step)
    torch.manual_seed(3)
    assert term.item() == pytest.approx(3 * vat_loss(network, x, Vat()).item())


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"epsilon": 0.0}, {"xi": -1.0}, {"weight": 0.0}, {"power_iterations": 0}):
        with pytest.raises(ValueError, match="above 0"):
            Vat(**wrong)  # type: ignore[arg-type]
