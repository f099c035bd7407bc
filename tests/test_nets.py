"""Blocks of networks beside torch's own and loops by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from systems.errors import UserError
from systems.nets.attention import AttentionPooling
from systems.nets.backbone import Backbone, dense
from systems.nets.convs import BandPool, Conv, ConvStack, FrequencyNorm
from systems.nets.recurrent import Recurrent, ReluGru, last_of, present


def _used(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """In evaluation mode, with batch-norm statistics that are not trivial."""
    with torch.no_grad():
        for _ in range(3):
            network(2 * torch.randn(8, *shape) + 1)
    return network.eval()


@pytest.mark.parametrize("order", ["conv norm act", "conv act norm"])
def test_a_gated_block_is_torchs_glu(order: str) -> None:
    torch.manual_seed(0)
    row = Conv(6, activation="glu", order=order, pool=(2, 1), ceil=True)
    stack = _used(ConvStack([row], (3, 11, 20)), (3, 11, 20))
    (conv,) = (m for m in stack.modules() if isinstance(m, nn.Conv2d))
    (norm,) = (m for m in stack.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.num_features == (12 if order == "conv norm act" else 6)
    x = torch.randn(4, 3, 11, 20)
    if order == "conv norm act":
        gated = nn.functional.glu(norm(conv(x)), dim=1)
    else:
        gated = norm(nn.functional.glu(conv(x), dim=1))
    expected = nn.functional.max_pool2d(gated, (2, 1), ceil_mode=True)
    torch.testing.assert_close(stack(x), expected)
    assert expected.shape[1:] == stack.out == (6, 6, 20)  # type: ignore[comparison-overlap]


TABLES = {
    "ceil": [Conv(4, pool=(4, 1), ceil=True)] * 3,
    "floor": [Conv(4, pool=(3, 2)), Conv(5, 5, 2, pool=2, pooling="mean")],
    "padded": [Conv(4, (3, 7), 2, order="pad conv norm act", activation="elu", pool=2)],
    "rows": [Conv(4, norm="frequency", order="norm act conv", pool=(2, 2)), Conv(3, dropout=0.5)],
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_stack_knows_the_shape_of_what_it_gives(table: list[Conv]) -> None:
    stack = ConvStack(table, (2, 41, 30))
    assert stack(torch.randn(2, 2, 41, 30)).shape[1:] == stack.out


def test_a_stack_over_sequences() -> None:
    stack = ConvStack([Conv(4, 5, pool=3), Conv(6, activation="glu", pool=2)], (1, 100))
    assert stack(torch.randn(2, 1, 100)).shape[1:] == stack.out == (6, 16)


def test_an_order_of_other_words_is_refused() -> None:
    with pytest.raises(ValueError, match="relu"):
        ConvStack([Conv(4, order="conv relu")], (1, 4, 4))


def test_a_pool_that_is_larger_than_its_map_is_refused() -> None:
    with pytest.raises(UserError, match="2 x 9"):
        ConvStack([Conv(4, pool=(4, 1))] * 2, (1, 8, 9))


def test_pooled_bands_are_torchs_with_and_without_gradients() -> None:
    x = torch.randn(2, 3, 11, 7)
    expected = nn.functional.max_pool2d(x, (4, 1), ceil_mode=True)
    assert torch.equal(BandPool(4)(x), expected)
    assert torch.equal(BandPool(4)(x.requires_grad_()), expected)


def test_frequency_norm_is_of_each_row() -> None:
    x = torch.randn(4, 3, 5, 6) * torch.arange(1.0, 6.0).view(5, 1) + 2
    y = x.numpy()
    mean, var = y.mean((0, 1, 3), keepdims=True), y.var((0, 1, 3), keepdims=True)
    expected = (y - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(FrequencyNorm(5)(x).detach().numpy(), expected, atol=1e-5)


def _loop(gru: ReluGru, x: np.ndarray, way: int) -> np.ndarray:
    """One way of a GRU [T, D] -> [T, units] as it is written in the paper."""
    weights = {k: v.double().numpy() for k, v in gru.state_dict().items()}
    w, b = weights[f"inputs.{way}.weight"], weights[f"inputs.{way}.bias"]
    n = gru.units
    u_z, u_r = weights[f"gates.{way}.weight"][:n], weights[f"gates.{way}.weight"][n:]
    u_h = weights[f"candidates.{way}.weight"]
    h, out = np.zeros(n), []
    for x_t in x:
        z = 1 / (1 + np.exp(-(w[:n] @ x_t + u_z @ h + b[:n])))
        r = 1 / (1 + np.exp(-(w[n : 2 * n] @ x_t + u_r @ h + b[n : 2 * n])))
        candidate = np.maximum(0, w[2 * n :] @ x_t + u_h @ (r * h) + b[2 * n :])
        h = z * h + (1 - z) * candidate
        out.append(h)
    return np.array(out)


def test_a_relu_gru_is_the_loop_by_hand() -> None:
    torch.manual_seed(0)
    gru = ReluGru(4, 5)
    x = torch.randn(3, 9, 4)
    found = gru(x).detach().numpy()
    assert found.shape == (3, 9, gru.out)
    for clip, said in zip(x.double().numpy(), found, strict=True):
        there, back = _loop(gru, clip, 0), _loop(gru, clip[::-1], 1)[::-1]
        np.testing.assert_allclose(said, np.concatenate([there, back], 1), atol=1e-5)


def test_with_tanh_it_is_torchs_gru(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch resets after the recurrent weights: with diagonal ones that is the same."""
    torch.manual_seed(0)
    ours, judge = ReluGru(4, 5, bidirectional=False), nn.GRU(4, 5, batch_first=True)
    with torch.no_grad():
        ours.candidates[0].weight.copy_(torch.diag(torch.randn(5)))
        z, r, h = ours.inputs[0].weight.split(5)
        judge.weight_ih_l0.copy_(torch.cat([r, z, h]))
        z, r, h = ours.inputs[0].bias.split(5)
        judge.bias_ih_l0.copy_(torch.cat([r, z, h]))
        z, r = ours.gates[0].weight.split(5)
        judge.weight_hh_l0.copy_(torch.cat([r, z, ours.candidates[0].weight]))
        judge.bias_hh_l0.zero_()
    monkeypatch.setattr(torch, "relu", torch.tanh)
    x = torch.randn(3, 9, 4)
    torch.testing.assert_close(ours(x), judge(x)[0])


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_padded_sequences_are_read_as_if_alone(kind: str) -> None:
    torch.manual_seed(0)
    layers = Recurrent(kind, 4, 5, bidirectional=True, layers=2)
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 4, 6])
    padded = layers(x, lengths)
    assert padded.shape == (3, 9, layers.out)
    for row, length in enumerate(lengths.tolist()):
        alone = layers(x[row : row + 1, :length])[0]
        torch.testing.assert_close(padded[row, :length], alone)


def test_a_backbone_hears_one_channel_in_all_of_its_own() -> None:
    torch.manual_seed(0)
    trunk = Backbone("resnet18", size=32).eval()
    x = torch.randn(2, 1, 20, 25)
    with torch.inference_mode():
        alone = trunk(x)
        assert alone.shape == (2, trunk.width) == (2, 512)
        torch.testing.assert_close(trunk(x.expand(-1, 3, -1, -1)), alone)


def test_dense_layers_end_without_activation() -> None:
    layers = dense(3, 4, 2, dropout=0.5)
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Dropout", "Linear"]


def test_attention_over_exclusive_classes_is_a_mean_of_softmaxes_by_weight() -> None:
    torch.manual_seed(0)
    pool = AttentionPooling(4, 3, "classes", exclusive=True)
    x = torch.randn(2, 5, 4)
    clip, frames, weights = pool(x)
    for b in range(2):
        f = torch.stack([pool.classification(one).softmax(0) for one in x[b]])
        v = torch.stack([pool.attention(one).softmax(0) for one in x[b]])
        torch.testing.assert_close(clip[b], (v / v.sum(0) * f).sum(0))
        torch.testing.assert_close(frames[b], f)
    assert weights.shape == (2, 5, 3)
    assert (AttentionPooling(4, 3, "classes")(x)[1].sum(-1) - 1).abs().max() > 0.1


def test_absent_frames_are_told_and_the_last_that_is_there_is_taken() -> None:
    x = torch.arange(24.0).reshape(2, 4, 3)
    x[0, 2:] = torch.nan
    filled, lengths = present(x)
    assert lengths.tolist() == [2, 4]
    assert not filled[0, 2:].any()
    assert torch.equal(last_of(filled, lengths), torch.stack([x[0, 1], x[1, 3]]))
    assert present(torch.full((1, 3, 2), torch.nan))[1].tolist() == [1]
