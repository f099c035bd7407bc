"""What of a plan counts for what: which runs are alike, may be reused, stacked or compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from orchestrator.plan.plan import Plan

Of = Literal["data", "split", "training", "stage", "execution"]

# Every field of a plan by what it says; what is of the ``execution`` changes no figure.
FIELDS: dict[Of, tuple[str, ...]] = {
    "data": ("dataset", "fingerprint", "classes", "parts", "test_parts"),
    "split": ("splits", "split_by", "metric"),
    "training": (
        "system", "space", "config", "first_trial", "moved", "budget", "scaled", "seed", "sampler",
        "halving", "trials", "purpose", "required", "mixed_precision",
    ),
    "stage": ("stage", "protocol", "transductive", "fusion", "members"),
    "execution": (
        "name", "run_id", "created", "data", "resources", "place", "mlflow", "ray_address",
        "time_budget", "search_share", "skip_broken", "skip_shared", "skipped", "notes", "versions",
        "git_commit", "teaches",
    ),
}  # fmt: skip
TRAINED: tuple[Of, ...] = ("data", "split", "training")  # what a run's models follow from


def differing(one: Plan, other: Plan, *of: Of) -> list[str]:
    """The fields of these kinds in which two plans differ.

    What predicts the test part (``final``) is trained: it counts for the training too.
    """
    first, second = one.to_json(), other.to_json()
    names = [name for kind in of for name in FIELDS[kind]]
    found = [name for name in names if _plain(first[name]) != _plain(second[name])]
    final = "training" in of and one.stage.final != other.stage.final
    return [*found, "final"] if final else found


def rows_of(plan: Plan) -> dict[str, Any]:
    """What runs must share to be stacked, in words; of the split its digest, not the seed."""
    return {
        "data set": f"{plan.dataset} {plan.fingerprint}",
        "classes": plan.classes,
        "split": f"{plan.splits['protocol']}, {plan.splits['digest']}",
        "metric": plan.metric,
        "clips that count": _plain(plan.splits.get("judged", {})),
    }


def _plain(value: Any) -> Any:
    """A value as a way through JSON leaves it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
