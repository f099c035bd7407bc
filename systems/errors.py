"""Errors that a user can act on: one clear message, no traceback."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for or in the data; its text names the culprit and what to do."""


class CannotFit(UserError):
    """Rows that a meta-learner cannot be fitted on: it is left out, with this reason."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of ``options``, or an empty string."""
    match = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """The error for a name that is in no list: offers the nearest one and the whole list."""
    known = sorted(options)
    return UserError(
        f"unknown {kind} '{name}'{nearest(name, known)}. Known: {', '.join(known) or 'none'}."
    )


def shown(path: object) -> str:
    """The name of a file as text: bytes that are no UTF-8 are written ``\\xe4``."""
    return os.fsencode(str(path)).decode("utf-8", "backslashreplace")


class Diverged(Exception):
    """A training whose loss is no longer finite; its text says where."""


class Impossible(Diverged, ValueError):
    """A configuration within its bounds that no network can be made of; its text says why.

    It ends a trial the way a loss that is not finite does: no fault of the machine's or the data's.
    """
