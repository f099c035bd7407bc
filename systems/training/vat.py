"""Virtual adversarial training (Miyato et al. 2018) for multi-label clip posteriors.

The perturbation of the features that changes the clip posterior most is found by power iteration;
the loss asks the network to give the same posterior there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Vat:
    """Settings of virtual adversarial training.

    ``epsilon``: L2 norm of the perturbation of one clip, on standardised features. ``xi``: length
    of the step along which the power iteration looks; much below 0.1 most of it is rounded away in
    float32. ``power_iterations``: usually one. ``weight``: lambda, the loss term's factor.
    """

    epsilon: float = 2.0
    xi: float = 0.1
    power_iterations: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        if min(self.epsilon, self.xi, self.weight) <= 0 or self.power_iterations < 1:
            raise ValueError("epsilon, xi and weight must be above 0, power_iterations at least 1")


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL divergence of independent Bernoullis p, q [B, K], summed over the classes: [B].

    ``sum_c p ln(p/q) + (1-p) ln((1-p)/(1-q))`` with probabilities clamped to [1e-6, 1-1e-6].
    """
    p, q = (x.clamp(1e-6, 1 - 1e-6) for x in (p, q))
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1)


def unit_norm(d: Tensor) -> Tensor:
    """Each clip's perturbation [B, ...] scaled to L2 norm 1 (a zero one stays zero)."""
    # In float64: the squares of a saturated clip's gradient underflow in float32.
    norm = d.flatten(1).double().norm(dim=1).clamp_min(torch.finfo(d.dtype).tiny).to(d.dtype)
    return d / norm.view(-1, *[1] * (d.dim() - 1))


def adversarial_direction(
    posterior: Callable[[Tensor], Tensor], x: Tensor, xi: float, power_iterations: int
) -> tuple[Tensor, Tensor]:
    """The unit direction in which the posterior changes most, by power iteration.

    Args:
        posterior: features [B, ...] -> clip probabilities [B, K].
        x: features [B, ...].
        xi: step length.
        power_iterations: number of iterations.

    Returns:
        The direction (shape of x, norm 1 a clip) and the posterior p [B, K] at x, both constants.
    """
    with torch.no_grad():
        p = posterior(x)
    d = unit_norm(torch.randn_like(x))
    for _ in range(power_iterations):
        r = (xi * d).requires_grad_()
        divergence = bernoulli_kl(p, posterior(x + r)).sum()
        d = unit_norm(torch.autograd.grad(divergence, r)[0])
    return d, p


def vat_loss(network: nn.Module, x: Tensor, settings: Vat) -> Tensor:
    """``mean over clips of KL(p(y|x) || p(y|x + r_vadv))``; a scalar, without the weight.

    ``network`` maps x to outputs with the clip posterior [B, K]. Its passes here run
    without dropout and leave the running batch-norm statistics as they are.
    """

    def posterior(features: Tensor) -> Tensor:
        clip: Tensor = network(features).clip
        return clip

    with perturbed_passes(network):
        d, p = adversarial_direction(posterior, x, settings.xi, settings.power_iterations)
        return bernoulli_kl(p, posterior(x + settings.epsilon * d)).mean()


@contextmanager
def perturbed_passes(network: nn.Module) -> Iterator[None]:
    """Dropout off; batch norm on the batch's own statistics without keeping them; no TF32.

    The network stays in training mode, since cuDNN's recurrent layers need it for gradients. The
    passes differ by steps of ``xi``, of which the ten bits of a TF32 product keep little.
    """
    dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout) and m.training]
    norms = [
        m for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]  # fmt: skip
    for dropout in dropouts:
        dropout.eval()
    backends: Any = torch.backends
    products = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul
    precisions = [of.fp32_precision for of in products]
    for norm in norms:
        norm.track_running_stats = False
    for of in products:
        of.fp32_precision = "ieee"
    try:
        yield
    finally:
        for dropout in dropouts:
            dropout.train()
        for norm in norms:
            norm.track_running_stats = True
        for of, precision in zip(products, precisions, strict=True):
            of.fp32_precision = precision
