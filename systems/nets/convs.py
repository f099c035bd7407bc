"""A stack of convolutions from a table: a network's trunk in as many lines as it has blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from systems.errors import UserError

Size = int | tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """A block: ``repeat`` convolutions, pooling, dropout.

    ``order`` is what happens at each convolution, in words: ``pad`` (zeros on every side), ``conv``
    (``padding``: "same", "valid", or so many zeros on either side), ``norm`` (batch norm of
    channels, or of rows with ``norm="frequency"``), ``act``. A ``glu`` doubles the filters, halves
    of which gate the others; its norm stands where it is told, over one half or both; ``drop``:
    dropout at each convolution, else after the pool. A pool of (F, T), of the same stride or of
    ``pool_stride``; ``ceil`` keeps what is left over. ``slope``: of a ``leaky`` ReLU below 0.
    """

    channels: int
    kernel: Size = 3
    repeat: int = 1
    order: str = "conv norm act"
    stride: Size = 1
    padding: Literal["same", "valid"] | Size = "same"
    norm: Literal["channel", "frequency"] = "channel"
    activation: Literal["relu", "elu", "glu", "leaky"] = "relu"
    slope: float = 0.01
    pool: Size = 1
    pool_stride: Size | None = None
    pooling: Literal["max", "mean"] = "max"
    ceil: bool = False
    dropout: float = 0.0


class FrequencyNorm(nn.Module):
    """Batch norm of each row of [B, C, F, T] over clips, channels and time."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(rows)

    def forward(self, x: Tensor) -> Tensor:
        # Copied into the layout of rows, the gradient too: on strided maps batch norm takes longer
        # than the copies (a tenth of a step of nnf_cnn_ensemble).
        normed: Tensor = self.norm(x.transpose(1, 2).contiguous())
        if normed.requires_grad:
            normed.register_hook(Tensor.contiguous)
        return normed.transpose(1, 2).contiguous()


class ConvStack(nn.Module):
    """Blocks of a table over maps [B, C, F, T], or over sequences [B, C, T].

    ``shape``: of the input without B, T being any where nothing depends on it; ``out``: of the
    output. ``mask`` [B, 1, 1, T] keeps padded frames at zero after every convolution, so that a
    padded clip gives what it gives alone, where time is not pooled.
    """

    def __init__(self, table: Sequence[Conv], shape: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        out = tuple(shape)
        for row in table:
            block = _Block(row, out)
            self.blocks.append(block)
            out = block.out
        self.out = out

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class _Block(nn.Module):
    def __init__(self, row: Conv, shape: Sequence[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        out = tuple(shape)
        for _ in range(row.repeat):
            unit, out = _unit(row, out)
            self.convolutions.append(unit)
        sizes = _sizes(row.pool, len(shape) - 1)
        strides = sizes if row.pool_stride is None else _sizes(row.pool_stride, len(shape) - 1)
        self.pool = _pool(row, sizes, strides)
        pooled = zip(out[1:], sizes, strides, strict=True)
        divided = [max(0, (n - k + (s - 1) * row.ceil) // s + 1) for n, k, s in pooled]
        if 0 in divided and 0 not in out:  # 0: any
            raise UserError(
                f"a map of {' x '.join(map(str, out[1:]))} is smaller than its pool of "
                f"{' x '.join(map(str, sizes))}: take more bands, or longer excerpts."
            )
        self.out = (out[0], *divided)
        self.dropout = nn.Dropout(0.0 if "drop" in row.order.split() else row.dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for convolution in self.convolutions:
            x = convolution(x)
            if mask is not None:
                x = x * mask
        return self.dropout(self.pool(x))


class Glu(nn.Module):
    """``a * sigmoid(b)`` of the halves a, b of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        linear, gate = x.chunk(2, dim=1)
        return linear * torch.sigmoid(gate)


def _unit(row: Conv, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """One convolution with what goes with it, and the shape of what it gives."""
    dimensions = len(shape) - 1
    convolution = nn.Conv1d if dimensions == 1 else nn.Conv2d
    glu = row.activation == "glu"
    channels, rest = shape[0], tuple(shape[1:])
    layers: list[nn.Module] = []
    for word in row.order.split():
        if word == "pad":
            layers.append(nn.ConstantPad1d(1, 0.0) if dimensions == 1 else nn.ZeroPad2d(1))
            rest = tuple(n + 2 for n in rest)
        elif word == "conv":
            filters = row.channels * (2 if glu else 1)
            kernel, stride = _sizes(row.kernel, dimensions), _sizes(row.stride, dimensions)
            padding: tuple[int, ...] = (0,) * dimensions
            zeros = padding  # of both ends together
            if row.padding == "same":
                padding = tuple(k // 2 if k % 2 else 0 for k in kernel)
                zeros = tuple(k - 1 for k in kernel)
                if any(k % 2 == 0 for k in kernel):  # "same" takes one more at the end
                    layers.append(_uneven(kernel))
            elif row.padding != "valid":
                padding = _sizes(row.padding, dimensions)
                zeros = tuple(2 * p for p in padding)
            rest = tuple(
                (n + z - k) // s + 1 for n, z, k, s in zip(rest, zeros, kernel, stride, strict=True)
            )
            layers.append(convolution(channels, filters, kernel, stride, padding))  # type: ignore[arg-type]
            channels = filters
        elif word == "norm":
            layers.append(_norm(row, channels, rest))
        elif word == "act":
            made = {"relu": nn.ReLU, "elu": nn.ELU, "glu": Glu}
            leaky = row.activation == "leaky"
            layers.append(nn.LeakyReLU(row.slope) if leaky else made[row.activation]())
            channels = channels // 2 if glu else channels
        elif word == "drop":
            layers.append(nn.Dropout(row.dropout))
        else:
            raise ValueError(f"a convolution has pad, conv, norm, act and drop, not '{word}'")
    return nn.Sequential(*layers), (row.channels, *rest)


def _uneven(kernel: tuple[int, ...]) -> nn.Module:
    """The zeros that kernels of even sizes need for as many outputs as inputs."""
    sizes = [((k - 1) // 2, k // 2) if k % 2 == 0 else (0, 0) for k in reversed(kernel)]
    flat = tuple(n for pair in sizes for n in pair)
    return nn.ConstantPad1d(flat, 0.0) if len(kernel) == 1 else nn.ConstantPad2d(flat, 0.0)  # type: ignore[arg-type]


def _norm(row: Conv, channels: int, rest: tuple[int, ...]) -> nn.Module:
    if row.norm == "frequency":
        return FrequencyNorm(rest[0])
    return nn.BatchNorm1d(channels) if len(rest) == 1 else nn.BatchNorm2d(channels)


def _sizes(size: Size, dimensions: int) -> tuple[int, ...]:
    return size if isinstance(size, tuple) else (size,) * dimensions


def _pool(row: Conv, sizes: tuple[int, ...], strides: tuple[int, ...]) -> nn.Module:
    if all(size == 1 for size in (*sizes, *strides)):
        return nn.Identity()
    banded = row.pooling == "max" and row.ceil and len(sizes) == 2 and sizes[1] == 1
    if banded and strides == sizes:
        return BandPool(sizes[0])
    pools = {
        ("max", 1): nn.MaxPool1d, ("max", 2): nn.MaxPool2d,
        ("mean", 1): nn.AvgPool1d, ("mean", 2): nn.AvgPool2d,
    }  # fmt: skip
    made: nn.Module = pools[row.pooling, len(sizes)](sizes, strides, ceil_mode=row.ceil)
    return made


class BandPool(nn.Module):
    """Maxima of ``size`` neighbouring bands: [B, C, F, T] -> [B, C, ceil(F / size), T].

    The ceiling keeps what a number of bands that no power of the pool divides leaves over.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            return nn.functional.max_pool2d(x, (self.size, 1), ceil_mode=True)
        # The same maxima in a tenth of the time on a CPU, which does not vectorise that one. Its
        # gradient would differ: it is shared among equal bands.
        missing = -x.shape[2] % self.size
        if missing:
            x = nn.functional.pad(x, (0, 0, 0, missing), value=-torch.inf)
        return x.unflatten(2, (-1, self.size)).amax(3)


def glorot(module: nn.Module) -> None:
    """Glorot's uniform initialisation of all weights, biases zero, as Keras has it."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
