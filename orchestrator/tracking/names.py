"""Names that MLflow takes for metrics, parameters and tags, mapped one to one."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

TAG = "soundsweep."
VIEW = "soundsweep"  # key of the table's columns, in the address of its page
SYNCED = TAG + "synced_steps"  # how many lines of metrics.jsonl MLflow has
LONGEST_NAME = 250  # MLflow's limit
LONGEST_VALUE = 2000  # of a parameter or tag; MLflow takes 6,000, but 1 MB in one request


def metric_name(*pieces: str) -> str:
    """Pieces joined by ``/`` as a name that MLflow takes, one to one.

    A piece may be any text: a class name, say. Of its characters letters, digits and ``_ . -`` and
    spaces stay; others become ``_xHH_`` (their code in hexadecimal), as does a ``_`` before an
    ``x``; so :func:`name_pieces` can take every name apart again. A name that would be longer than
    MLflow's 250 characters is cut and ends in a digest of the whole.
    """
    return cut("/".join(map(_escaped, pieces)))


def cut(name: str) -> str:
    """A name of characters that MLflow takes, no longer than it takes."""
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: LONGEST_NAME - 70]}_xcut_{digest}"


def table_page(experiment: str) -> str:
    """The page of an experiment's table with its metrics as columns, below the server's address."""
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def name_pieces(name: str) -> tuple[str, ...]:
    """The inverse of :func:`metric_name` where the name was not cut."""

    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else ""

    return tuple(re.sub("_x([0-9a-f]*)_", character, piece) for piece in name.split("/"))


def _escaped(piece: str) -> str:
    if not piece:
        return "_x_"
    if set(piece) == {"."}:  # MLflow refuses what reads as a relative path
        return f"_x2e_{piece[1:]}"
    return "".join(
        f"_x{ord(char):x}_" if _is_special(char, following) else char
        for char, following in itertools.zip_longest(piece, piece[1:], fillvalue="")
    )


def _is_special(char: str, following: str) -> bool:
    if char == "_":
        return following == "x"
    return not (char.isalnum() or char in ".- ")


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def texts(values: Mapping[tuple[str, ...], Any]) -> dict[str, str]:
    return {metric_name(*pieces): as_text(value) for pieces, value in values.items()}


def as_text(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    if isinstance(value, bool | list | dict) or value is None:
        text = json.dumps(value)
    return text[:LONGEST_VALUE]
