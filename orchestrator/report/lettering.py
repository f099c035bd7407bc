"""Letters of any script in plots: of fonts that have them, else by their code.

matplotlib's own font lacks most scripts, and draws boxes for what it lacks.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties, fontManager, get_font

LONGEST = 48  # letters of a word
NO_LETTERS = "Last Resort"  # fonts that draw the name of a script in a box


class Canvas(FigureCanvasAgg):
    """A canvas whose text is legible in any script."""

    _lettering: tuple[Any, RendererAgg] | None = None

    def get_renderer(self) -> RendererAgg:
        width, height = self.figure.bbox.size
        key = (width, height, self.figure.dpi)
        if self._lettering is None or self._lettering[0] != key:
            self._lettering = key, _Renderer(width, height, self.figure.dpi)
        self.renderer = self._lettering[1]
        return self.renderer


class _Renderer(RendererAgg):
    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False,
        mtext: Any = None,
    ) -> None:  # fmt: skip
        text, fonts = legible(s, prop)
        super().draw_text(gc, x, y, text, fonts, angle, ismath, mtext)

    def get_text_width_height_descent(
        self, s: str, prop: Any, ismath: Any
    ) -> tuple[float, float, float]:
        text, fonts = legible(s, prop)
        size: tuple[float, float, float] = super().get_text_width_height_descent(
            text, fonts, ismath
        )
        return size


def legible(text: str, prop: FontProperties) -> tuple[str, FontProperties]:
    """A text and the fonts that have its letters; one that no font has is its code, ``\\u65e5``.
    Words that would leave no room for a plot are cut."""
    text = re.sub(r"\S+", _cut, text)
    lacking = {c for c in text if not c.isascii()} - _letters(fontManager.findfont(prop))
    if not lacking:
        return text, prop
    fonts = prop.copy()
    names = dict.fromkeys(name for c in sorted(lacking) if (name := _font_with(c)))
    fonts.set_family([*prop.get_family(), *names])
    codes = {c: c.encode("unicode_escape").decode() for c in lacking if _font_with(c) is None}
    return "".join(codes.get(c, c) for c in text), fonts


def _cut(word: re.Match[str]) -> str:
    return word[0] if len(word[0]) <= LONGEST else word[0][: LONGEST - 1] + "…"


@cache
def _font_with(letter: str) -> str | None:
    """The name of an installed font that has a letter."""
    for entry in fontManager.ttflist:
        if not entry.name.startswith(NO_LETTERS) and letter in _letters(entry.fname):
            return str(entry.name)
    return None


@cache
def _letters(path: str) -> frozenset[str]:
    return frozenset(map(chr, get_font(path).get_charmap()))
