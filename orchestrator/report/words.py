"""Values in words: figures, intervals, durations, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

WHY_NOT = {  # code of paper[].why -> words; braces are fields of the row
    "system": "another system: {system}",
    "unmapped": "not mapped to a configuration",
    "dataset": "another data set: {dataset}",
    "split": "another part of the data: {split}",
    "unscored": "the test part has not been scored",
    "withheld": "the labels of this part are not published: {split}",
    "held_out": "of other held-out rows: {split}",
    "subset": "no scores of these clips alone",
    "label": "this data has no such class, or the class no such metric",
    "metric": "this data has no such metric",
    "training": "needs a training of its own",
    "transductive": "transductive: ask for it with --transductive",
    "members": "a stack scores its members as configured: see their own runs",
    "not_asked": "not asked for",
    "unregistered": "not a system of this paper's module",
}
LEAST_SHOWN = 0.05  # score of an example's class
VERDICTS = {  # code of stack[].verdict -> words
    "beats": "beats the best member",
    "not_better": "does not beat the best member",
    "worse": "does not beat the best member; it is worse",
    "alone": "better than the best member by {betters_one} alone, not by fusing",
    "trivial": "not surely better than the trivial row ({trivial})",
    "no_estimate": "no estimate: fitted on the {fitted_on} rows, as the paper did",
    None: "not compared yet",
}


def why_not(row: Mapping[str, Any]) -> str:
    """Why there is none of ours beside a published figure; empty where there is."""
    if row["why"] is None:
        return ""
    return str(row["reason"] or WHY_NOT[row["why"]].format(**row))


def verdict(learner: Mapping[str, Any]) -> str:
    """What a meta-learner's gain comes to."""
    return VERDICTS[learner["verdict"]].format(**learner)


def is_finite(value: Any) -> bool:
    """Whether there is a number to show."""
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """A figure with fixed decimals and a true minus sign; a dash where there is none."""
    if not is_finite(value):
        return "–"
    return f"{value:z.{digits}f}".replace("-", "−")


def correlation(of: Mapping[str, Any] | None) -> str:
    """``0.93**``: Pearson's r, ** where p is below 0.01, * below 0.05; a dash of none."""
    if of is None:
        return "–"
    p = of["p"]
    return number(of["r"], 2) + ("**" if p < 0.01 else "*" if p < 0.05 else "")


def signed(value: Any, digits: int = 3) -> str:
    """A difference, always with its sign."""
    if not is_finite(value):
        return "–"
    return f"{value:+z.{digits}f}".replace("-", "−")


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


def ranked_by(results: Mapping[str, Any]) -> str:
    """What trials are ranked by, in words: the metric, or the score of a system's own objective."""
    return (
        "score"
        if results["run"].get("objective")
        else metric_name(results, results["run"]["metric"])
    )


def metric_name(results: Mapping[str, Any], name: str) -> str:
    """A metric's name in words."""
    about = results["metrics"].get(name)
    return str(about["words"]) if about else name.replace("_", " ")


def lower_is_better(results: Mapping[str, Any], name: str) -> bool:
    """Whether a smaller figure of this metric is a better one."""
    about = results["metrics"].get(name)
    return about is not None and about["mode"] == "min"


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
    value, low, high = (signed(difference[key], digits) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if is_finite(difference["low"]) else value


def when(created: str) -> str:
    """An ISO time to the minute, with its offset from UTC."""
    return f"{created[:10]} {created[11:16]} {created[19:]}".strip()


def state(name: str) -> str:
    """A trial's state; one that is ``running`` may as well have been interrupted."""
    return "not ended" if name == "running" else name


def example_in_words(example: Mapping[str, Any]) -> str:
    """How well a clip was answered, what is true of it, and what its scores are."""
    scores = {"tags": example["clip_f1"], "events": example["event_f1"]}
    f1 = ", ".join(f"{of} {number(value, 2)}" for of, value in scores.items() if is_finite(value))
    texts = [f"F1 of this clip: {f1}."] if f1 else []
    if "rank" in example:
        texts.append(f"What it should find is at rank {example['rank']:g}.")
    if "degrees_off" in example:
        texts.append(f"The answer is {example['degrees_off']:g} degrees off.")
    if "series" in example:
        return f"Pearson's correlation within this recording: {number(example['series']['pcc'])}."
    if "true_values" in example:
        texts.append(f"True: {_values(example['true_values'])}; said: {_values(example['tags'])}.")
        return " ".join(texts)
    true, said = (setting(example[key]) or "none" for key in ("true_tags", "predicted_tags"))
    highest_first = sorted(example["tags"].items(), key=lambda tag: -tag[1])
    shown = _values({name: score for name, score in highest_first if score >= LEAST_SHOWN})
    texts.append(f"True: {true}; predicted: {said}.")
    return " ".join([*texts, f"Scores: {shown or f'all below {LEAST_SHOWN}'}."])


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(value, 2)}" for name, value in values.items())
