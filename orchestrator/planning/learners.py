"""Which meta-learners ``--stack`` names, and whether the labels can fit them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.stacking.families import learners
from systems.data.dataset import Dataset
from systems.errors import UserError, unknown
from systems.kinds import KINDS

STAGE_KINDS = ("epoch_scores", "columns")  # what stage two makes of any system


def stack_names(
    text: str, dataset: Dataset, gives: Sequence[str] = ("clip_scores", "frame_scores"),
    *, registered: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """The meta-learners that ``--stack`` names.

    ``standard`` are one of each kind, ``all`` all, of those that the labels can fit and for which
    the systems give the predictions (``gives``). Those that need a paper's settings are for
    ``registered`` fusions.

    Raises:
        UserError: an unknown one, or one that the labels cannot fit, with the reason.
    """
    part = dataset.official_validation or dataset.role("labelled")[0].part
    kind = dataset.label_kind(part)
    if text == "none":
        return ()
    known = learners()
    there = {*gives, *STAGE_KINDS}
    if kind in KINDS and KINDS[kind].dense in there:
        there.add("clip_scores")  # what learners call the dense answer, whatever its kind
    if text in ("all", "standard"):
        return tuple(
            name
            for name, learner in known.items()
            if kind in learner.labels
            and learner.general
            and set(learner.takes) <= there
            and (text == "all" or learner.standard)
        )
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise unknown("meta-learner", name, (*known, "standard", "all", "none"))
        if not known[name].general and not registered:
            raise UserError(
                f"the meta-learner {name} needs settings that a registered fusion gives: it cannot "
                "be named here."
            )
        if kind not in known[name].labels:
            raise UserError(
                _cannot_fit(name, known[name].labels, f"part '{part}' of {dataset.name}", kind)
            )
        missing = set(known[name].takes) - there
        if missing:
            raise UserError(
                f"the meta-learner {name} takes {', '.join(sorted(missing))}, which the members do "
                f"not give (they give {', '.join(gives)})."
            )
    return names


def _cannot_fit(name: str, wanted: Sequence[str], where: str, kind: str) -> str:
    why = ""
    if tuple(wanted) == ("events",):
        why = (
            ", which say nothing about time. Without timed labels a paper's own decision variants "
            "(label refinement) are the answer"
        )
    return f"the meta-learner {name} is fitted on {' or '.join(wanted)}; {where} has {kind}{why}."
