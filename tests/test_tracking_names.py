"""Names of metrics, parameters and tags are mapped one to one."""

from __future__ import annotations

import random
from types import SimpleNamespace

from orchestrator.tracking.metrics import trivial_metrics
from orchestrator.tracking.names import metric_name, name_pieces


def test_names_are_mapped_one_to_one_onto_what_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name

    chance = random.Random(0)
    alphabet = "ab_x20f./\\-: %é猫\u0301\n\U0001f600"
    texts = {"", ".", "..", "_", "_x", "_x_", "_x2f_", "__x2f_", "/", "_x5f_x", " x", "_x20_x41_"}
    texts |= {"".join(chance.choices(alphabet, k=chance.randint(0, 8))) for _ in range(600)}
    pieces = [(one,) for one in texts] + [("test", one, "f1") for one in texts]

    names = [metric_name(*piece) for piece in pieces]
    assert len(set(names)) == len(pieces)
    assert [name_pieces(name) for name in names] == pieces
    for name in names:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]
    assert metric_name("test", "clip_macro_f1") == "test/clip_macro_f1"


def test_names_that_are_too_long_stay_different() -> None:
    one, other = metric_name("a" * 300), metric_name("a" * 301)
    assert one != other
    assert max(len(one), len(other)) <= 250


def test_a_long_name_below_another_is_no_longer() -> None:
    plan = SimpleNamespace(metric="clip_macro_f1")
    tested = {metric_name("test_class", "x" * n, "f1"): 0.5 for n in (300, 301)}
    found = trivial_metrics(plan, {}, tested)  # type: ignore[arg-type]
    assert len(found) == 2
    assert max(map(len, found)) <= 250
