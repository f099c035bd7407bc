"""Rows of a paper's tables beside ours: only where system, data set, split and metric are the same.

``fakepaper`` has rows here that differ in nothing but the data set, or the split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.pipeline.reproduce import reproduce
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import CONFIGURED, decision_variants, trainings
from orchestrator.planning.resolve import make_plan
from orchestrator.report import published as module
from orchestrator.report import reproduce as tables
from orchestrator.report.reproduce import to_run
from systems import registry
from systems.errors import UserError
from systems.figures import Figure, figure_of

COLUMNS = ("system", "variant", "dataset", "split", "metric", "label", "value")


def row(*values: Any) -> dict[str, Any]:
    return {**dict(zip(COLUMNS, values, strict=True)), "paper": "fakepaper", "unit": "%",
            "source": "Table 1"}  # fmt: skip


ROWS = [
    row("small", "plain", "dcase2018_task4", "test", "event_f1", "", 20.0),
    row("small", "plain", "tut2018", "test", "event_f1", "", 21.0),
    row("small", "plain", "dcase2018_task4", "eval", "event_f1", "", 22.0),
    row("small", "plain", "dcase2018_task4", "dev", "event_f1", "", 23.0),  # the reader: test
    row("small", "plain", "dcase2018_task4", "test", "tag_auc", "", 24.0),
    row("small", "plain", "dcase2018_task4", "test", "event_f1", "dog", 25.0),
    row("small", "plain", "dcase2018_task4", "test", "event_f1", "bird", 26.0),
    row("small", "quick", "dcase2018_task4", "test", "event_f1", "", 27.0),
    row("small", "oracle", "dcase2018_task4", "test", "event_f1", "", 28.0),
    row("small", "other", "dcase2018_task4", "test", "event_f1", "", 29.0),
    row("fast", "plain", "dcase2018_task4", "test", "event_f1", "", 30.0),
]  # fmt: skip
FIGURES = (Figure("plain"), Figure("quick", {"training.learning_rate": 0.01}))
UNMAPPED = {"oracle": "it needs labels that nobody has"}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, task4_folder: Path) -> Plan:
    """A training of a system of fakepaper that has no decision."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
    small = registry.get("fakepaper/small")
    changed = replace(small, decision=None, figures=FIGURES, unmapped=UNMAPPED)
    monkeypatch.setitem(registry._ENTRIES, small.address, changed)
    monkeypatch.setattr(module, "published", lambda paper: ROWS)
    return _plan(task4_folder)


def _plan(folder: Path, **settings: float) -> Plan:
    options = Options(
        purpose="train", system="fakepaper/small", data=str(folder), trials=1, set=settings,
        gpus_per_trial=0.0, name="it",
    )  # fmt: skip
    return make_plan(options)[0]


def scores(plan: Plan, *values: float) -> dict[str, Any]:
    rows = [
        {"trial": trial, "learner": None, "best": trial == 0, "transductive": False,
         "variant": next(iter(decision_variants(plan))),
         "metrics": {"event_f1": {"value": value, "low": 0.0, "high": 1.0}},
         "classes": {"Dog": {"event_f1": value / 2}, "Cat": {"event_f1": None}}}
        for trial, value in enumerate(values)
    ]  # fmt: skip
    return {"part": "test", "rows": rows}


def test_each_row_has_ours_or_why_it_has_none(plan: Plan) -> None:
    found = module.paper_rows(plan, scores(plan, 0.4))
    assert [(r["value"], r["ours"] and r["ours"]["value"], r["why"]) for r in found] == [
        (20.0, 40.0, None),
        (21.0, None, "dataset"),
        (22.0, None, "split"),
        (23.0, 40.0, None),
        (24.0, None, "metric"),
        (25.0, 20.0, None),
        (26.0, None, "label"),
        (27.0, None, "training"),
        (28.0, None, "unmapped"),
        (29.0, None, "unmapped"),
        (30.0, None, "system"),
    ]
    assert found[0]["ours"] == {"value": 40.0, "low": 0.0, "high": 100.0}
    assert found[8]["reason"] == UNMAPPED["oracle"]


def test_nothing_of_an_unscored_run_stands_beside_them(plan: Plan) -> None:
    found = module.paper_rows(plan, None)
    assert not any(row["ours"] for row in found)
    assert {row["why"] for row in found[:2]} == {"unscored", "dataset"}


def test_seeds_give_mean_and_deviation(plan: Plan) -> None:
    ours = module.paper_rows(plan, scores(plan, 0.4, 0.5, 0.6))[0]["ours"]
    assert ours == {"value": pytest.approx(50.0), "sd": pytest.approx(10.0), "seeds": 3}


def test_a_figure_is_the_training_that_has_its_configuration(
    plan: Plan, task4_folder: Path
) -> None:
    assert [one.changes for one in trainings(plan.entry(), plan.dataset)] == [
        {}, {"training.learning_rate": 0.01},
    ]  # fmt: skip
    quick = _plan(task4_folder, **{"training.learning_rate": 0.01})
    found = {r["variant"]: r for r in module.paper_rows(quick, scores(quick, 0.4))}
    assert found["quick"]["ours"]["value"] == 40.0
    assert module.paper_rows(quick, scores(quick, 0.4))[0]["why"] == "training"


def test_reproduce_runs_every_training_that_figures_name(plan: Plan) -> None:
    found = to_run("fakepaper/small", "dcase2018_task4")
    assert [(one.entry.name, one.suffix, one.changes) for one in found] == [
        ("small", "small", {}), ("small", "small-1", {"training.learning_rate": 0.01}),
    ]  # fmt: skip


def test_rows_of_one_variant_may_be_of_other_configurations(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Figure("plain", {"training.learning_rate": 0.5}, dataset="tut2018")
    entry = replace(plan.entry(), figures=(other, Figure("plain")))
    monkeypatch.setitem(registry._ENTRIES, entry.address, entry)
    assert [one.changes for one in trainings(entry, "dcase2018_task4")] == [{}]
    assert [one.changes["training.learning_rate"] for one in trainings(entry, "tut2018")
            if one.changes] == [0.5]  # fmt: skip
    found = module.paper_rows(plan, scores(plan, 0.4))
    assert found[0]["ours"]["value"] == 40.0


def test_a_system_without_decision_is_scored_as_configured(plan: Plan) -> None:
    assert decision_variants(plan) == {CONFIGURED: {}}


def test_every_row_on_file_is_read() -> None:
    rows = module.published("gcrnn_vat")
    assert len(rows) == 144
    macro = [r for r in rows if r["system"] == "gcrnn_vat" and not r["label"]]
    assert {(r["variant"], r["metric"]): r["value"] for r in macro}["SALR_dev", "event_er"] == 1.12
    assert all("macro" not in r["variant"] for r in rows)


def test_a_figure_of_some_clips_stands_beside_ours_of_these(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = (Figure("plain", where={"device": ("b", "c")}),)
    small = replace(plan.entry(), figures=figures)
    monkeypatch.setitem(registry._ENTRIES, small.address, small)
    told = scores(plan, 0.4)
    assert module.paper_rows(plan, told)[0]["why"] == "subset"
    (scored,) = told["rows"]
    scored["subsets"] = {"device=b+c": {
        "metrics": {"event_f1": {"value": 0.3, "low": 0.2, "high": 0.4}},
        "classes": {"Dog": {"event_f1": 0.25}},
    }}  # fmt: skip
    found = module.paper_rows(plan, told)
    assert found[0]["ours"]["value"] == pytest.approx(30.0)
    assert found[5]["ours"] == {"value": 25.0}


def test_a_split_may_be_some_clips_of_a_part(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("small", "plain", "fsdkaggle2018", split, "map_at_3", "", 95.0)
            for split in ("private-lb", "public-lb", "test", "cv")]  # fmt: skip
    monkeypatch.setattr(module, "published", lambda paper: rows)
    values = {"usage=Private": 0.1, "usage=Public": 0.2}

    def scored(value: float) -> dict[str, Any]:
        return {"metrics": {"map_at_3": {"value": value}}, "classes": {}}

    own = {"trial": 0, "learner": None, "best": True, "transductive": False,
           "variant": next(iter(decision_variants(plan)))}  # fmt: skip
    subsets = {name: scored(value) for name, value in values.items()}
    told = {"part": "test", "rows": [{**own, **scored(0.3), "subsets": subsets}]}
    held_out = [{**own, **scored(0.4), "variant": None}]
    there = replace(plan, dataset="fsdkaggle2018", splits={**plan.splits, "folds": [[1, 1]] * 5})
    ours = [r["ours"]["value"] for r in module.paper_rows(there, told, held_out)]
    assert ours == pytest.approx([10.0, 20.0, 30.0, 40.0])
    # The held-out rows of a single fold are no cross-validation.
    single = replace(there, splits={**plan.splits, "folds": [[1, 1]]})
    assert module.paper_rows(single, told, held_out)[3]["why"] == "held_out"
    # Labels that nobody has are no reason to show less of what the folds held out.
    parts = {**there.parts, "test": {"clips": 1, "labels": "withheld"}}
    found = module.paper_rows(replace(there, parts=parts), None, held_out)
    assert [r["why"] for r in found] == ["withheld"] * 3 + [None]


def test_what_papers_call_accuracy_is_what_the_data_sets_papers_mean(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row("small", "plain", name, "dev", "accuracy", label, 60.0)
            for name in ("tut2018", "synthetic_classes") for label in ("", "bus")]  # fmt: skip
    monkeypatch.setattr(module, "published", lambda paper: rows)
    told = scores(plan, 0.4)
    told["rows"][0]["metrics"] = {"accuracy": {"value": 0.7}, "uar": {"value": 0.6}}
    told["rows"][0]["classes"] = {"bus": {"recall": 0.5}}
    scenes = module.paper_rows(replace(plan, dataset="tut2018"), told)
    assert [r["ours"] and r["ours"]["value"] for r in scenes] == [60.0, 50.0, None, None]
    others = module.paper_rows(replace(plan, dataset="synthetic_classes"), {**told, "part": "dev"})
    assert others[2]["ours"]["value"] == 70.0


def test_a_figure_says_in_our_words_what_a_papers_metric_is(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = (
        Figure("plain", metric="sensitivity", of=("bus", "recall")),
        Figure("plain", metric="accuracy", of=("", "accuracy")),
        Figure("plain"),
    )
    changed = replace(plan.entry(), figures=figures)
    monkeypatch.setitem(registry._ENTRIES, changed.address, changed)
    rows = [row("small", "plain", "tut2018", "dev", name, "", 50.0)
            for name in ("sensitivity", "accuracy", "uar", "precision")]  # fmt: skip
    monkeypatch.setattr(module, "published", lambda paper: rows)
    told = scores(plan, 0.4)
    told["rows"][0]["metrics"] = {"accuracy": {"value": 0.7}, "uar": {"value": 0.6}}
    told["rows"][0]["classes"] = {"bus": {"recall": 0.5}}
    found = module.paper_rows(replace(plan, dataset="tut2018"), told)
    assert [r["ours"] and r["ours"]["value"] for r in found] == [50.0, 70.0, 60.0, None]
    assert found[3]["why"] == "metric"


def test_a_fusions_figures_are_of_its_fields(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("ensemble:stack2", variant, "dcase2018_task4", "test", "event_f1", "", 50.0)
            for variant in ("both", "both; vote", "first pass", "other")]  # fmt: skip
    monkeypatch.setattr(module, "published", lambda paper: rows)
    told = scores(plan, 0.4)
    told["rows"] = [{**told["rows"][0], "learner": "mean", "trial": None, "variant": None}]

    def found(fusion: str) -> list[tuple[float | None, str | None]]:
        stack = replace(plan, purpose="stack", fusion=fusion)
        return [(r["ours"] and r["ours"]["value"], r["why"])
                for r in module.paper_rows(stack, told)]  # fmt: skip

    there, not_there = (40.0, None), (None, "training")
    assert found("fakepaper/stack2") == [there, not_there, not_there, (None, "unmapped")]
    assert found("fakepaper/stack2#vote")[:3] == [not_there, there, not_there]
    names = [(one.entry.name, one.suffix, one.label) for one in to_run("fakepaper/stack2", None)]
    assert names == [
        ("stack2", "stack2", "both"), ("stack2", "stack2-1", "first pass"),
        ("stack2", "stack2-2", "vote"),
    ]  # fmt: skip


def test_every_figure_of_a_fusion_is_mapped_or_listed() -> None:
    for fusion in registry.fusions():
        for one in module.published(fusion.paper):
            if one["system"] in module.names_of(fusion):
                mapped = figure_of(fusion.figures, one) is not None
                assert mapped != (one["variant"] in fusion.unmapped), one
        for figure in fusion.figures:
            for member in fusion.at(figure.overrides).members:
                registry.find(member)


def test_every_row_is_of_a_system_or_fusion_or_quoted() -> None:
    nodes = [*registry.entries(), *registry.fusions()]
    for paper in {node.paper for node in nodes}:
        ours = {name for node in nodes if node.paper == paper for name in module.names_of(node)}
        theirs = {row["system"] for row in module.published(paper)} - ours - {"baseline_crnn"}
        assert all(name.startswith("external:") for name in theirs), theirs


@pytest.mark.parametrize(
    "node", [*registry.entries(), *registry.fusions()], ids=lambda node: node.address
)
def test_a_nodes_name_means_one_configuration(node: registry.Entry | registry.Fusion) -> None:
    """Figures may share a name where they are of the same training: their first decides."""
    for figure in filter(lambda figure: figure.label, node.figures):
        named = registry.node(f"{node.address}#{figure.label}", figure.dataset)
        trained = {k: v for k, v in figure.overrides.items() if not _decides(node, k)}
        assert trained.items() <= dict(named.overrides).items()


def _decides(node: registry.Entry | registry.Fusion, key: str) -> bool:
    return isinstance(node, registry.Entry) and key.startswith(f"{node.decision}.")


def test_reproduce_trains_members_once_and_then_fusions(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
    both = registry.find("fakepaper/both")
    figures = (Figure("power"), Figure("mean", {"learner": "mean", "settings": {}}))
    monkeypatch.setitem(registry._ENTRIES, both.address, replace(both, figures=figures))
    rows = [row("both", variant, "dcase2018_task4", split, metric, "", 50.0)
            for variant in ("power", "mean")
            for split, metric in (("test", "event_f1"), ("cv", "f1"))]  # fmt: skip
    monkeypatch.setattr(module, "published", lambda paper: rows)
    monkeypatch.setattr(tables, "published", lambda paper: rows)
    options = Options(
        dataset="dcase2018_task4", data=str(task4_folder), storage=str(tmp_path), name="r",
        budget="paper", gpus_per_trial=0.0, concurrency=1, ray_address="none", mlflow="none",
    )  # fmt: skip
    table = reproduce("fakepaper/both", options)
    assert table is not None
    assert [r["ours"] is not None for r in table.rows] == [True] * 4
    names = {path.parent.name for path in tmp_path.glob("*/plan.json")}
    assert names == {"r-both", "r-both-1", "r-fakepaper.small", "r-fakepaper.fast"}
    again = reproduce("fakepaper/both", options)
    assert again is not None
    assert again.rows == table.rows


def test_what_a_second_pass_needs_keeps_values_of_its_own(tmp_path: Path) -> None:
    """Its first pass is no second one: nothing goes in a circle, and the data is what is missed."""
    options = Options(data=str(tmp_path / "missing"), storage=str(tmp_path / "runs"),
                      ray_address="none", mlflow="none")  # fmt: skip
    with pytest.raises(UserError, match="missing"):
        reproduce("gcnn_gcrnn_stacking/vgg13", options)
