"""Recurrent layers over sequences [B, T, D]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """Layers of torch's GRU or LSTM: [B, T, D] -> [B, T, units], twice the units both ways.

    ``lengths`` [B] in frames keeps padded frames from being read.
    """

    def __init__(
        self, kind: str, width: int, units: int, bidirectional: bool = False, layers: int = 1
    ) -> None:
        super().__init__()
        made = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.cell = made(width, units, layers, batch_first=True, bidirectional=bidirectional)
        self.out = units * (2 if bidirectional else 1)

    def forward(self, sequence: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            out: Tensor = self.cell(sequence)[0]
            return out
        packed = nn.utils.rnn.pack_padded_sequence(
            sequence, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        padded: Tensor = nn.utils.rnn.pad_packed_sequence(
            self.cell(packed)[0], batch_first=True, total_length=sequence.shape[1]
        )[0]
        return padded


def present(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences [B, T, D] without frames that are absent (NaN, at their end), which become 0, and
    how many frames each has [B]: at least 1."""
    there = ~x.isnan().any(-1)
    return x.nan_to_num(nan=0.0), there.sum(1).clamp_min(1)


def last_of(states: Tensor, lengths: Tensor) -> Tensor:
    """The last state [B, D] of sequences [B, T, D] that have so many frames."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, lengths.to(states.device) - 1]


class ReluGru(nn.Module):
    """A GRU whose candidate is a ReLU: [B, T, D] -> [B, T, units], twice the units both ways.

    ``z = s(W_z x + U_z h + b_z)``, ``r`` alike, ``c = relu(W_h x + U_h (r * h) + b_h)``,
    ``h <- z * h + (1 - z) * c`` from ``h = 0`` (gcnn_gcrnn_stacking, Table 2: one bias a gate).
    Written here because torch's GRU knows no other candidate than tanh.
    """

    def __init__(self, width: int, units: int, bidirectional: bool = True) -> None:
        super().__init__()
        self.units = units
        directions = 2 if bidirectional else 1
        self.inputs = nn.ModuleList(nn.Linear(width, 3 * units) for _ in range(directions))
        self.gates = nn.ModuleList(
            nn.Linear(units, 2 * units, bias=False) for _ in range(directions)
        )
        self.candidates = nn.ModuleList(
            nn.Linear(units, units, bias=False) for _ in range(directions)
        )
        self.out = units * directions

    def forward(self, sequence: Tensor) -> Tensor:
        ways = [self._run(sequence, 0)]
        if len(self.inputs) == 2:
            ways.append(self._run(sequence.flip(1), 1).flip(1))
        return torch.cat(ways, dim=-1)

    def _run(self, sequence: Tensor, way: int) -> Tensor:
        x = self.inputs[way](sequence)
        h = x.new_zeros(len(x), self.units)
        states = []
        for step in range(x.shape[1]):
            x_gates, x_candidate = x[:, step].split((2 * self.units, self.units), dim=-1)
            z, r = torch.sigmoid(x_gates + self.gates[way](h)).chunk(2, dim=-1)
            candidate = torch.relu(x_candidate + self.candidates[way](r * h))
            h = z * h + (1 - z) * candidate
            states.append(h)
        return torch.stack(states, dim=1)


class SeriesHead(nn.Module):
    """Recurrent layers over a sequence and a dense layer with tanh: [B, T, D] -> [B, T, outputs].

    ``dropout``: before each of the layers.
    """

    def __init__(
        self, kind: str, width: int, units: Sequence[int], dropout: Sequence[float], outputs: int
    ) -> None:
        super().__init__()
        widths = (width, *units)
        self.layers = nn.ModuleList(Recurrent(kind, a, b) for a, b in itertools.pairwise(widths))
        self.dropouts = nn.ModuleList(nn.Dropout(rate) for rate in dropout)
        self.out = nn.Linear(widths[-1], outputs)

    def forward(self, sequence: Tensor) -> Tensor:
        for dropout, layer in zip(self.dropouts, self.layers, strict=True):
            sequence = layer(dropout(sequence))
        return torch.tanh(self.out(sequence))
