"""A figure in two themes: as a PNG file, and as an image inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DPI = 160


@dataclass(frozen=True)
class Theme:
    """Colours of a plot: of the page, and of the series in order."""

    paper: str
    ink: str
    muted: str
    grid: str
    accent: str
    series: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1c2430", "#5c6675", "#e3e7ec", "#b4530a",
    ("#1f6fb2", "#2f8f5b", "#8a4fb0", "#b8860b", "#c2476b", "#3d8f95", "#6b7a2c", "#7a5a45",
     "#4c5fd5", "#9a3e3e"),
)  # fmt: skip
DARK = Theme(
    "#171c23", "#e6eaf0", "#9aa5b4", "#2c3440", "#f0a35e",
    ("#6db3ee", "#6cc795", "#c79be6", "#e0bd5a", "#ee8fa9", "#7fd0d5", "#b8c46a", "#c9a78f",
     "#99a5ff", "#e08585"),
)  # fmt: skip
Size = tuple[float, float]  # inches
Draw = Callable[[Figure, Theme], None]
Make = Callable[[Theme], Figure]


@dataclass(frozen=True)
class Image:
    """A plot inside the page: its file, a data URI a theme, and what it shows in words."""

    file: str
    alt: str
    light: str
    dark: str
    width: int
    height: int


def whole_numbers() -> MaxNLocator:
    """Ticks at whole numbers alone, also where all values are one: there is a single one then."""
    return MaxNLocator(integer=True, min_n_ticks=1)


def render(draw_on: Draw, size: Size, alt: str, path: Path) -> Image:
    """Draw on an empty figure in both themes; the light one is also the file."""
    return render_made(partial(_drawn, draw_on, size), size, alt, path)


def render_made(make: Make, size: Size, alt: str, path: Path) -> Image:
    """As :func:`render`, of figures that ``make`` makes itself."""
    pictures = [_png(make, theme) for theme in (LIGHT, DARK)]
    path.write_bytes(pictures[0])
    light, dark = ("data:image/png;base64," + base64.b64encode(p).decode() for p in pictures)
    return Image(path.name, alt, light, dark, round(size[0] * 100), round(size[1] * 100))


def _drawn(draw_on: Draw, size: Size, theme: Theme) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw_on(figure, theme)
    return figure


def _png(make: Make, theme: Theme) -> bytes:
    look: Any = {
        "text.parse_math": False,  # class names may hold a dollar sign
        "font.size": 9.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.facecolor": theme.paper,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "grid.color": theme.grid,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
    }
    with matplotlib.rc_context(look):
        buffer = io.BytesIO()
        figure = make(theme)
        figure.savefig(
            buffer, format="png", dpi=DPI, facecolor=theme.paper, metadata={"Software": None}
        )
    return buffer.getvalue()
