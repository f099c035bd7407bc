"""Two towers, one for queries and one for what is searched, and a head over pairs of both."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from systems.outputs import Outputs


class Tower(nn.Module):
    """Features [B, C, F, T] -> an embedding [B, E]: all that a trunk gives, as one row."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(embedding=torch.flatten(self.trunk(x), 1))


class PairHead(nn.Module):
    """Two embeddings, side by side, through two dense layers: [N, E1], [N, E2] -> logits [N]."""

    def __init__(self, size: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(size, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, query: Tensor, item: Tensor) -> Tensor:
        # In single precision: items are told apart by small differences of their scores.
        with torch.autocast("cuda", enabled=False):
            logits: Tensor = self.layers(torch.cat([query, item], dim=1).float())
        return logits[:, 0]


class TwoTowers(nn.Module):
    """How well items answer queries.

    ``query`` and ``gallery`` give embeddings; ``head`` takes both of a pair. The towers do not see
    each other, so each sound goes through its own once, whatever it is paired with.
    """

    def __init__(self, query: nn.Module, gallery: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.query, self.gallery, self.head = query, gallery, head

    def forward(self, features: Mapping[str, Tensor]) -> Outputs:
        """Each query [B, C, F, T] with its own items [B, M, C, F, T] -> logits [B, M].

        The first items of all queries are a pass of their own, and so on: a batch norm's statistics
        are of one pass (qbv_siamese_triplet, "Architecture").
        """
        query = self.query(features["query"]).embedding
        items = features["gallery"].unbind(1)
        scores = [self.head(query, self.gallery(one).embedding) for one in items]
        return Outputs(clip=torch.stack(scores, dim=1))

    def pairs(self, queries: Tensor, items: Tensor) -> Tensor:
        """The logits [N, K] of all pairs of N queries' embeddings and K items'."""
        n, k = len(queries), len(items)
        logits: Tensor = self.head(queries.repeat_interleave(k, 0), items.repeat(n, 1))
        return logits.view(n, k)
