"""A figure as a PNG file and as an image inside the page, which turns it dark by its style."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pixels

from orchestrator.report.lettering import Canvas

DPI = 160
QUICK = 2  # zlib's level: twice as quick as the default, files a tenth larger


@dataclass(frozen=True)
class Theme:
    """Colours of a plot: of the page, and of the series in order."""

    paper: str
    ink: str
    muted: str
    grid: str
    accent: str
    series: tuple[str, ...]


THEME = Theme(
    "#ffffff", "#1c2430", "#5c6675", "#e3e7ec", "#b4530a",
    ("#1f6fb2", "#2f8f5b", "#8a4fb0", "#b8860b", "#c2476b", "#3d8f95", "#6b7a2c", "#7a5a45",
     "#4c5fd5", "#9a3e3e"),
)  # fmt: skip
Size = tuple[float, float]  # inches
LOOK: Any = {
    "text.parse_math": False,  # class names may hold a dollar sign
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": THEME.muted,
    "axes.labelcolor": THEME.muted,
    "axes.titlecolor": THEME.ink,
    "axes.facecolor": THEME.paper,
    "figure.facecolor": THEME.paper,
    "text.color": THEME.ink,
    "xtick.color": THEME.muted,
    "ytick.color": THEME.muted,
    "grid.color": THEME.grid,
    "legend.frameon": False,
    "legend.labelcolor": THEME.ink,
}


@dataclass(frozen=True)
class Image:
    """A plot inside the page: its file, a data URI, and what it shows in words."""

    file: str
    alt: str
    uri: str
    width: int
    height: int


def whole_numbers() -> MaxNLocator:
    """Ticks at whole numbers alone, also where all values are one: there is a single one then."""
    return MaxNLocator(integer=True, min_n_ticks=1)


def render(
    draw_on: Callable[[Figure], None], size: Size, alt: str, path: Path,
    layout: Literal["constrained"] | None = "constrained",
) -> Image:  # fmt: skip
    """Draw on an empty figure. ``layout``: none where ``draw_on`` places its axes itself."""

    def make() -> Figure:
        figure = Figure(figsize=size, layout=layout)
        draw_on(figure)
        return figure

    return render_made(make, size, alt, path)


def render_made(make: Callable[[], Figure], size: Size, alt: str, path: Path) -> Image:
    """As :func:`render`, of a figure that ``make`` makes itself."""
    with matplotlib.rc_context(LOOK):
        picture = _png(make())
    path.write_bytes(picture)
    uri = "data:image/png;base64," + base64.b64encode(picture).decode()
    return Image(path.name, alt, uri, round(size[0] * 100), round(size[1] * 100))


def _png(figure: Figure) -> bytes:
    """The figure's pixels. ``savefig`` would draw it twice, first to lay it out."""
    figure.set_dpi(DPI)
    canvas = Canvas(figure)
    canvas.draw()
    buffer = io.BytesIO()
    pixels = Pixels.fromarray(np.asarray(canvas.buffer_rgba()))  # its own size: sizes are rounded
    pixels.convert("RGB").save(buffer, "png", compress_level=QUICK, dpi=(DPI, DPI))
    return buffer.getvalue()
