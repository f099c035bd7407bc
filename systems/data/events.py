"""Events as tables have them: rows written twice, and events of a class that overlap or touch.

A decision over frames gives a class one event at a time. Of two that overlap it finds one at most,
so they are one; a row that is written twice is one row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from systems.data.dataset import Event


def once(events: Iterable[Event]) -> tuple[Event, ...]:
    """Each event once, in order."""
    return tuple(dict.fromkeys(events))


def merged(events: Iterable[Event]) -> tuple[Event, ...]:
    """Events of a class that overlap as one, by onset; those that touch stay apart."""
    found: list[Event] = []
    last: dict[str, int] = {}  # place of the latest event of a class
    for event in sorted(events):
        place = last.get(event.label)
        if place is not None and event.onset < found[place].offset:
            offset = max(event.offset, found[place].offset)
            found[place] = found[place]._replace(offset=offset)
            continue
        last[event.label] = len(found)
        found.append(event)
    return tuple(found)


def event_notes(clips: Mapping[str, Sequence[Event]], what: str, merges: bool) -> list[str]:
    """What a reader of the plan should know of some clips' events, of which there are ``what``.

    ``merges``: whether those that overlap are merged (else they are scored as they are).
    """
    notes = []
    twice = [(i, len(events) - len(once(events))) for i, events in clips.items()]
    if rows := sum(n for _, n in twice):
        notes.append(
            f"{what}: {rows} written twice, which {_count(rows)} once "
            f"({_first(i for i, n in twice if n)})"
        )
    alone = {i: once(events) for i, events in clips.items()}
    less = [(i, len(events) - len(merged(events))) for i, events in alone.items()]
    if overlapping := sum(n for _, n in less):
        does = "are merged" if merges else "are scored as they are; no decision finds them all"
        notes.append(
            f"{what}: {overlapping} that overlap an earlier one of their class {does} "
            f"({_first(i for i, n in less if n)})"
        )
    touching = [(i, _touching(merged(events))) for i, events in alone.items()]
    if begin := sum(n for _, n in touching):
        notes.append(
            f"{what}: {begin} that begin where another of their class ends: no decision over "
            f"frames tells them apart ({_first(i for i, n in touching if n)})"
        )
    return notes


def _touching(events: Sequence[Event]) -> int:
    by_class = sorted(events, key=lambda event: (event.label, event.onset))
    pairs = itertools.pairwise(by_class)
    return sum(a.label == b.label and a.offset == b.onset for a, b in pairs)


def _count(number: int) -> str:
    return "counts" if number == 1 else "count"


def _first(clips: Iterable[str]) -> str:
    first, *more = clips
    return first + (f" and {len(more)} more" if more else "")
