"""What a paper's published figures are of: rows of ``systems/tables/results.csv`` and what runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """Rows of a paper's tables, and the configuration that they are of.

    ``variant``: as in results.csv, without its ``; macro``. ``overrides``: configuration keys that
    differ from the system's own values. ``dataset``, ``split``, ``metric``: only rows of these;
    ``None`` stands for any, since a row names its own.
    """

    variant: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    split: str | None = None
    metric: str | None = None

    @property
    def name(self) -> str:
        """Its variant, and what else tells it from others of the same variant."""
        return ", ".join(filter(None, (self.variant, self.dataset, self.split, self.metric)))

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of results.csv is one of this figure's."""
        asked = {"dataset": self.dataset, "split": self.split, "metric": self.metric}
        return variant_of(row) == self.variant and all(
            value is None or row[key] == value for key, value in asked.items()
        )


def variant_of(row: Mapping[str, Any]) -> str:
    """A row's variant. ``; macro``, a mean over classes, is told by its empty label as well."""
    return str(row["variant"]).removesuffix("; macro")


def figure_of(figures: Iterable[Figure], row: Mapping[str, Any]) -> Figure | None:
    """The first figure that covers a row of results.csv."""
    return next((figure for figure in figures if figure.covers(row)), None)
