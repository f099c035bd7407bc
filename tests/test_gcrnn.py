"""The gated CRNN: size, shapes, its attention output, and clips of unequal length in one batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from systems import config as configs
from systems import registry
from systems.nets.attention import AttentionOver, AttentionPooling
from systems.nets.crnn import Crnn
from systems.papers.gcrnn_vat import GcrnnConfig, gcrnn

OVER: tuple[AttentionOver, ...] = ("classes", "time", "sigmoid")


def _small(over: AttentionOver = "classes", **settings: int) -> Crnn:
    """A small network in evaluation mode with batch-norm statistics that are not trivial."""
    torch.manual_seed(0)
    config = GcrnnConfig(width=6, recurrent_units=5, attention_over=over, **settings)
    network = gcrnn(config, (1, 20, 15), classes=4)
    network(torch.randn(8, 1, 20, 15))
    return network.eval()


@pytest.mark.parametrize(("convolutions", "parameters"), [(1, 202_260), (2, 424_596)])
def test_published_size(convolutions: int, parameters: int) -> None:
    network = gcrnn(GcrnnConfig(convolutions=convolutions), (1, 64, 240), classes=10)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("blocks", [2, 3, 4])
@pytest.mark.parametrize("bands", [40, 64, 96, 128])
def test_shapes(bands: int, blocks: int, over: AttentionOver) -> None:
    with torch.device("meta"):
        config = GcrnnConfig(blocks=blocks, attention_over=over)
        said = gcrnn(config, (1, bands, 50), classes=10)(torch.zeros(2, 1, bands, 50))
    assert said.clip.shape == (2, 10)
    assert said.frames.shape == (2, 50, 10)


@pytest.mark.parametrize("over", OVER)
def test_clip_output_is_the_attention_weighted_mean(over: AttentionOver) -> None:
    torch.manual_seed(0)
    clip, frame, attention = AttentionPooling(5, 4, over)(torch.randn(3, 15, 5))
    by_hand = torch.zeros(3, 4)
    for i in range(3):
        for c in range(4):
            weights = attention[i, :, c]
            by_hand[i, c] = sum(frame[i, t, c] * weights[t] for t in range(15)) / weights.sum()
    torch.testing.assert_close(clip, by_hand)
    assert frame.min() > 0
    assert frame.max() < 1
    sums = {"classes": attention.sum(2), "time": attention.sum(1)}
    if over in sums:
        torch.testing.assert_close(sums[over], torch.ones_like(sums[over]))


@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("over", OVER)
def test_padded_clips_give_what_they_give_alone(over: AttentionOver, convolutions: int) -> None:
    network = _small(over, convolutions=convolutions)
    lengths = torch.tensor([9, 3, 20, 14])
    padded = torch.zeros(4, 1, 20, 20)
    for row, length in zip(padded, lengths, strict=True):
        row[..., :length] = torch.randn(1, 20, int(length))
    attentions: list[Tensor] = []
    network.pooling.register_forward_hook(lambda module, x, out: attentions.append(out[2]))
    with torch.inference_mode():
        said = network(padded, lengths)
        attention = attentions[0]
        for i, length in enumerate(lengths.tolist()):
            alone = network(padded[i : i + 1, :, :, :length])
            torch.testing.assert_close(said.clip[i], alone.clip[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(said.frames[i, :length], alone.frames[0], atol=1e-5, rtol=0)
            torch.testing.assert_close(attention[i, :length], attentions[-1][0], atol=1e-5, rtol=0)
            assert not attention[i, length:].any()


@pytest.mark.parametrize("quick", [False, True])
def test_with_and_without_vat_take_the_same_steps(quick: bool) -> None:
    """Table 1 sets them side by side: the loss term is all that differs."""
    found = []
    for name in ("gcrnn_vat", "gcrnn_vat/gcrnn"):
        entry = registry.get(name)
        training = configs.replace(entry.config, entry.quick if quick else {}).training
        found.append((training.steps(1578), training.labelled, training.epochs))
        assert bool(training.unlabelled) == (name == "gcrnn_vat")
    assert found[0] == found[1]
    assert quick or found[0][0] == 106


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        GcrnnConfig(width=0)
    with pytest.raises(ValueError, match="dropout"):
        GcrnnConfig(dropout=1.0)
