"""Names of classes in any script: legible in plots, whatever fonts are installed."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from orchestrator.report import lettering
from orchestrator.report.figures import render
from orchestrator.report.lettering import legible

OTHER = "/other.ttf"
DEJAVU = font_manager.findfont("DejaVu Sans")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Fonts beside matplotlib's own: a name and the letters that it has."""
    fonts = {OTHER: ""}
    own = lettering._letters
    entries = [SimpleNamespace(name=n, fname=p) for n, p in (("Own", DEJAVU), ("Other", OTHER))]
    manager = SimpleNamespace(findfont=lambda prop: DEJAVU, ttflist=entries)
    monkeypatch.setattr(lettering, "fontManager", manager)
    monkeypatch.setattr(
        lettering, "_letters", lambda path: frozenset(fonts[path]) if path in fonts else own(path)
    )
    monkeypatch.setattr(lettering, "_font_with", lettering._font_with.__wrapped__)
    return fonts


def test_a_font_that_has_the_letters_is_taken(installed: dict[str, str]) -> None:
    installed[OTHER] = "日本"
    text, fonts = legible("dog 日本語", FontProperties("DejaVu Sans"))
    assert text == r"dog 日本\u8a9e"  # the last letter is in no font: its code
    assert fonts.get_family() == ["DejaVu Sans", "Other"]


def test_letters_that_no_font_has_are_their_codes(installed: dict[str, str]) -> None:
    own = FontProperties("DejaVu Sans")
    assert legible("Vögel, Кот", own) == ("Vögel, Кот", own)  # which matplotlib's own has
    assert legible("日本", own)[0] == r"\u65e5\u672c"


def test_plots_warn_of_nothing(tmp_path: Path) -> None:
    names = ["日本語", "Vögel", "\U0001f415", "x" * 300]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.barh(range(4), range(4))
        axes.set_yticks(range(4), names)
        axes.set_title(names[0])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = render(draw, (8, 3), "names", tmp_path / "names.png")
    assert (tmp_path / image.file).stat().st_size > 1000


@pytest.mark.parametrize("width", [3.4 + 0.055 * n for n in range(12)])
def test_a_figure_of_any_size_is_drawn(width: float, tmp_path: Path) -> None:
    """Some inches are no whole number of pixels."""
    made = render(lambda figure: None, (width, width / 3), "nothing", tmp_path / "a.png")
    assert made.uri.startswith("data:image/png")
