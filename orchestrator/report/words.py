"""Values in words: figures, intervals, durations, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from orchestrator.report.tables import is_finite

METRIC_NAMES = {
    "clip_macro_f1": "clip macro F1",
    "clip_f1": "clip F1",
    "event_f1": "event-based F1",
    "event_er": "event-based error rate",
}
LOWER_IS_BETTER = ("_er", "loss", "error_rate")


def number(value: Any, digits: int = 3) -> str:
    """A figure with fixed decimals and a true minus sign; a dash where there is none."""
    if not is_finite(value):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """A difference, always with its sign."""
    if not is_finite(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(score: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``0.71 [0.65, 0.77]``, ``0.71 ± 0.02`` over seeds, or the value alone."""
    if not score:
        return "–"
    text = number(score["value"], digits)
    if is_finite(score.get("sd")):
        return f"{text} ± {number(score['sd'], digits)}"
    return f"{text} {bounds(score, digits)}".rstrip()


def bounds(score: Mapping[str, Any], digits: int = 3) -> str:
    """``[0.65, 0.77]``, or nothing."""
    if not is_finite(score.get("low")):
        return ""
    return f"[{number(score['low'], digits)}, {number(score['high'], digits)}]"


def setting(value: Any) -> str:
    """A configuration's value, short."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if len(value) > 6:  # a grid
            return f"{len(value)} values, {setting(value[0])} to {setting(value[-1])}"
        return ", ".join(map(setting, value))
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in the units that a person would use."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours = seconds / 60, seconds / 3600
    if hours < 1:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min"


def probability(value: float) -> str:
    """A p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def metric_name(name: str) -> str:
    """A metric's name in words."""
    return METRIC_NAMES.get(name, name.replace("_", " "))


def lower_is_better(name: str) -> bool:
    """Whether a smaller figure of this metric is a better one."""
    return name.endswith(LOWER_IS_BETTER)


def dotted(key: str) -> Markup:
    """A configuration key that may break after its dots."""
    return Markup(".<wbr>").join(escape(part) for part in str(key).split("."))


def decimals(unit: str) -> int:
    """Decimals of a published figure's unit: percent to a tenth, ratios to a hundredth."""
    return 1 if unit == "%" else 2


def count(n: int, noun: str) -> str:
    """``1 clip``, ``3 clips``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def signed_interval(difference: Mapping[str, Any], digits: int = 3) -> str:
    """A difference with its interval."""
    low, high = (signed(difference[key], digits) for key in ("low", "high"))
    return f"{signed(difference['value'], digits)} [{low}, {high}]"


def when(created: str) -> str:
    """An ISO time to the minute, with its offset from UTC."""
    return f"{created[:10]} {created[11:16]} {created[19:]}".strip()


def state(name: str) -> str:
    """A trial's state; one that is ``running`` may as well have been interrupted."""
    return "not ended" if name == "running" else name
