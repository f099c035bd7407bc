"""What a paper's published figures are of: rows of ``systems/tables/results.csv`` and what runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Where = Mapping[str, tuple[str, ...]]  # column -> its values: a subset of the test part


@dataclass(frozen=True)
class Figure:
    """Rows of a paper's tables, and the configuration that they are of.

    ``variant``: as in results.csv, without its ``; macro``. ``overrides``: configuration keys that
    differ from the system's own values; of a fusion, those of its fields that differ
    (``settings.KEY`` one of its settings). ``dataset``, ``split``, ``metric``: only rows of these;
    ``None`` stands for any, since a row names its own. ``where``: the clips of the test part that
    the rows are of. ``of``: the class that the rows are of (empty: all) and what its value is
    called here, where the paper's name says neither (sensitivity is the recall of one class).
    ``output``: of a system of values, the output whose correlation with what the row's label names
    the rows are. ``node``: what ``PAPER/SYSTEM#NODE`` calls the configuration, where the variant is
    unhandy.
    """

    variant: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    split: str | None = None
    metric: str | None = None
    where: Where = field(default_factory=dict)
    of: tuple[str, str] | None = None
    node: str = ""
    output: str = ""

    @property
    def name(self) -> str:
        """Its variant, and what else tells it from others of the same variant."""
        about = (self.variant, self.dataset, self.split, self.metric, subset_name(self.where))
        return ", ".join(filter(None, about))

    @property
    def label(self) -> str:
        """What a node of its configuration is called after ``PAPER/SYSTEM#``."""
        return self.node or self.variant

    def covers(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of results.csv is one of this figure's."""
        asked = {"dataset": self.dataset, "split": self.split, "metric": self.metric}
        return variant_of(row) == self.variant and all(
            value is None or row[key] == value for key, value in asked.items()
        )

    def fits(self, dataset: str | None) -> bool:
        """Whether it may be of a data set."""
        return dataset is None or self.dataset in (None, dataset)


def subset_name(where: Where) -> str:
    """What a subset of the test part is called: ``device=b+c``; empty of the whole part."""
    return ",".join(f"{column}={'+'.join(values)}" for column, values in sorted(where.items()))


def variant_of(row: Mapping[str, Any]) -> str:
    """A row's variant. ``; macro``, a mean over classes, is told by its empty label as well."""
    return str(row["variant"]).removesuffix("; macro")


def figure_of(figures: Iterable[Figure], row: Mapping[str, Any]) -> Figure | None:
    """The first figure that covers a row of results.csv."""
    return next((figure for figure in figures if figure.covers(row)), None)


def figure_called(figures: Iterable[Figure], label: str, dataset: str | None) -> Figure | None:
    """The figure that a node names by its ``node`` or variant, first of all one of the data set."""
    named = [figure for figure in figures if label in (figure.node, figure.variant)]
    return next((figure for figure in named if figure.fits(dataset)), next(iter(named), None))
