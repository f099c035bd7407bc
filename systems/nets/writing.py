"""Encoders of sequences into a latent vector, and what writes a sequence from one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class LatentEncoder(nn.Module):
    """Sequences [B, T, D] of ``lengths`` [B] -> latent vectors [B, E] in -1..1.

    A bidirectional LSTM; the last state of either way goes through a batch norm of its own, both
    through a dense layer and tanh (onomatopoeia_retrieval).
    """

    def __init__(self, inputs: int, cells: int, latent: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, cells, batch_first=True, bidirectional=True)
        self.norms = nn.ModuleList(nn.BatchNorm1d(cells) for _ in range(2))
        self.dense = nn.Linear(2 * cells, latent)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)
        both = [norm(way) for norm, way in zip(self.norms, last, strict=True)]
        latent: Tensor = self.dense(torch.cat(both, 1)).tanh()
        return latent


class Writer(nn.Module):
    """Latent vectors [B, E] -> what symbol follows each [B, L, S]: an LSTM over one-hot symbols,
    whose first states are dense layers of the vector."""

    def __init__(self, latent: int, cells: int, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.hidden, self.cell = nn.Linear(latent, cells), nn.Linear(latent, cells)
        self.lstm = nn.LSTM(symbols, cells, batch_first=True)
        self.output = nn.Linear(cells, symbols)

    def forward(self, latent: Tensor, before: Tensor) -> Tensor:
        """Logits [B, L, S] of what follows each of the symbols ``before`` [B, L]."""
        states = self.hidden(latent)[None], self.cell(latent)[None]
        logits: Tensor = self.output(self.lstm(self._one_hot(before), states)[0])
        return logits

    def write(self, latent: Tensor, begin: int, end: int, most: int) -> list[list[int]]:
        """The likeliest next symbol after each, from ``begin`` to ``end``, at ``most`` so many."""
        states = self.hidden(latent)[None], self.cell(latent)[None]
        last = torch.full((len(latent), 1), begin, device=latent.device)
        steps = []
        for _ in range(most):
            out, states = self.lstm(self._one_hot(last), states)
            last = self.output(out).argmax(2)
            steps.append(last)
        rows = torch.cat(steps, 1).tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    def _one_hot(self, symbols: Tensor) -> Tensor:
        return nn.functional.one_hot(symbols.long(), self.symbols).float()
