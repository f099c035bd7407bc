"""The kinds of labels: what a label says, what answers it, and how that is decided and scored.

One module a kind; whatever depends on the kind of label asks it here.
"""

from __future__ import annotations

from systems.data.dataset import LabelKind
from systems.errors import UserError
from systems.kinds import class_, direction, events, relevance, series, tags, values
from systems.kinds.kind import THRESHOLD, Constant, Kind, Truth, above_threshold, largest

__all__ = [
    "KINDS",
    "THRESHOLD",
    "Constant",
    "Kind",
    "Truth",
    "above_threshold",
    "contained",
    "kind",
    "largest",
]

KINDS: dict[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (tags, events, class_, values, series, relevance, direction)
}


def kind(name: str) -> Kind:
    """A kind by its name. Raises UserError for labels that nothing can be scored by."""
    if name not in KINDS:
        raise UserError(
            f"labels of kind '{name}' cannot be scored; those of kind {', '.join(KINDS)} can."
        )
    return KINDS[name]


def contained(name: LabelKind) -> tuple[LabelKind, ...]:
    """The kinds that labels of a kind say: their own, and those that follow from it."""
    return (name, *KINDS[name].contains) if name in KINDS else (name,)
