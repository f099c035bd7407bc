"""What a reader of the plan should know of the classes before anything is trained."""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from systems.data.dataset import Dataset
from systems.kinds import kind


def class_notes(dataset: Dataset) -> list[str]:
    """Classes whose names differ by letters' case, spaces or such alone, and classes that every
    training clip has, which nothing tells apart."""
    return [*_alike(dataset.classes), *_always(dataset)]


def _alike(classes: tuple[str, ...]) -> list[str]:
    same: dict[str, list[str]] = {}
    for name in classes:
        plain = unicodedata.normalize("NFKC", name).casefold()
        same.setdefault(re.sub(r"[\s_-]+", "", plain) or name, []).append(name)
    return [
        f"classes of much the same name: {' and '.join(map(repr, names))}. They are told apart; "
        "if they are meant to be one, mend the table"
        for names in same.values()
        if len(names) > 1
    ]


def _always(dataset: Dataset) -> list[str]:
    clips = dataset.role("labelled")
    parts = {clip.part for clip in clips}
    if not all(kind(dataset.label_kind(part)).says_tags for part in parts):
        return []
    there = np.ones(len(dataset.classes), bool)
    for part in parts:
        ids = [clip.clip_id for clip in clips if clip.part == part]
        there &= dataset.labels[part].tag_matrix(ids, dataset.classes).all(axis=0)
    if not clips or not there.any():
        return []
    names = ", ".join(repr(name) for name, always in zip(dataset.classes, there, strict=True)
                      if always)  # fmt: skip
    text = f"every training clip has {names}: nothing is told apart by it"
    if there.all():
        text += ". Any score is then perfect and says nothing; clips without any class are '-'"
    return [text]
