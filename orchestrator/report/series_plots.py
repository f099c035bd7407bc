"""Figures of series: a recording's spectrogram, and below it truth and prediction over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from orchestrator.report.figures import THEME, Image, render
from orchestrator.report.words import number

SPECTROGRAM, CURVE = 1.4, 1.5  # heights, inches
TRUE, PREDICTED = THEME.ink, THEME.accent


def series_picture(
    example: Mapping[str, Any], spectrogram: np.ndarray, loudness: Colormap, path: Path
) -> Image:
    """An example of a series, a curve for each output."""
    outputs, seconds = list(example["series"]["true"]), example["log_mel"]["seconds"]
    alt = (
        f"Log-mel spectrogram of recording {example['clip']}, {number(seconds, 1)} s, and below it "
        f"{', '.join(outputs)} over time, true and predicted: Pearson's correlation "
        f"{number(example['series']['pcc'], 3)}."
    )
    size = (10.4, 0.9 + SPECTROGRAM + CURVE * len(outputs))
    return render(partial(_draw, example, spectrogram, loudness), size, alt, path)


def _draw(
    example: Mapping[str, Any], spectrogram: np.ndarray, loudness: Colormap, figure: Figure
) -> None:
    series, seconds = example["series"], example["log_mel"]["seconds"]
    outputs = list(series["true"])
    heights = [SPECTROGRAM, *[CURVE] * len(outputs)]
    top, *below = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    top.imshow(spectrogram, origin="lower", aspect="auto", cmap=loudness, vmin=0, vmax=255,
               extent=(0, seconds, 0, len(spectrogram)), interpolation="nearest")  # fmt: skip
    top.set_ylabel("mel band")
    for axes, name in zip(below, outputs, strict=True):
        _curves(axes, series["true"][name], series["predicted"][name], series["hop"])
        axes.set_ylabel(name)
    figure.legend(*below[0].get_legend_handles_labels(), loc="outside upper right", ncols=2,
                  fontsize=8)  # fmt: skip
    top.set_xlim(0, seconds)
    below[-1].set_xlabel("seconds")


def _curves(axes: Axes, true: Sequence[float], said: Sequence[float], hop: float) -> None:
    """Truth, and the prediction on a scale of its own: correlation knows of no scale."""
    axes.plot(hop * np.arange(len(true)), true, color=TRUE, linewidth=1.1, label="true (left)")
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    other.tick_params(axis="y", labelcolor=PREDICTED)
    other.plot(hop * np.arange(len(said)), said, color=PREDICTED, linewidth=1.1)
    axes.plot([], [], color=PREDICTED, label="predicted (right)")
    axes.grid(axis="x")
