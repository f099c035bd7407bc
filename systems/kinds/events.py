"""Timed events. They say which tags a clip has; both are scored."""

from __future__ import annotations

from dataclasses import replace

from systems.kinds.tags import KIND as TAGS

KIND = replace(
    TAGS,
    name="events",
    answers=("clip_scores", "events"),
    metrics=("clip_macro_f1", "event_f1", "event_er"),
    contains=("tags",),
)
