"""Configurations by dotted keys, search spaces, and budgets."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import optuna
import pydantic
import pytest

import search_spaces
from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan
from search_spaces import Parameter, SearchSpace, parse_parameter
from search_spaces.schema import Range, Section
from search_spaces.space import _parameters, check
from systems import config as configs
from systems import registry
from systems.budget import make_budget
from systems.errors import UserError

ENTRY = registry.get("gcrnn_vat")
CONFIG = ENTRY.config


def test_a_configuration_survives_json() -> None:
    changed = configs.replace(CONFIG, {"vat": None, "front_end.hop": 400})
    restored = configs.from_dict(type(CONFIG), json.loads(configs.to_json(changed)))
    assert restored == changed


def test_values_are_replaced_by_dotted_keys() -> None:
    changed = configs.replace(CONFIG, {"vat.epsilon": 3, "training.epochs": 7.0})
    assert changed.vat.epsilon == 3.0
    assert isinstance(changed.training.epochs, int)
    assert configs.get(changed, "training.epochs") == 7
    assert configs.flatten(changed)["network.width"] == 64


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("vat.epsilom", 1.0, "did you mean 'vat.epsilon'"),
        ("network.width", "wide", "takes int"),
        ("network.attention_over", "bands", "one of classes, time, sigmoid"),
        ("network.dropout", 1.5, r"network.dropout=1.5: dropout lies in \[0, 1\)"),
        ("vat.epsilon", -1.0, "above 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        configs.replace(CONFIG, {key: value})


def test_a_key_of_a_part_that_is_off_is_named() -> None:
    off = configs.replace(CONFIG, {"vat": None})
    with pytest.raises(UserError, match="'vat' is off"):
        configs.replace(off, {"vat.epsilon": 1.0})


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("vat.epsilon", "0.5", 0.5),
        ("network.width", "32", 32),
        ("network.attention_over", "time", "time"),
        ("vat", "none", None),
        ("front_end.center", "true", True),
        ("refinement.medians", "1,3,5", (1, 3, 5)),
        ("refinement.on", "none", "none"),  # a word here, not "switched off"
        ("training.learning_rate", "1e-4", 1e-4),
    ],
)
def test_set_reads_text_as_the_field_is(key: str, text: str, value: Any) -> None:
    assert configs.parse(CONFIG, key, text) == value
    assert configs.get(configs.replace(CONFIG, {key: value}), key) == value


@pytest.mark.parametrize(
    "text",
    ["x=log:0.0001:0.01", "x=float:0:1", "x=int:1:8", "x=int:1:9:2", "x=int-log:1:64",
     "x=one-of:a,b"],
)  # fmt: skip
def test_a_range_survives_its_text(text: str) -> None:
    parameter = parse_parameter(text)
    assert parse_parameter(f"x={parameter.text()}") == parameter


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "x=",
        "x=log:0:1",
        "x=float:2:1",
        "x=float:a:b",
        "x=norm:0:1",
        "x=int:1",
        "x=float:0:inf",
    ],
)
def test_a_range_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--space"):
        parse_parameter(text)


def test_every_kind_of_range_is_asked_for_and_conditions_hold() -> None:
    space = SearchSpace(
        "m",
        "max",
        (
            Parameter("a", "one_of", choices=("x", "y")),
            Parameter("n", "int", 2, 8, step=2),
            Parameter("b", "float", 1e-3, 1.0, log=True, when={"a": "y"}),
            Parameter("c", "int", 1, 64, log=True, when={"n": ">= 6"}),
        ),
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    seen = [pickle.loads(pickle.dumps(space)).suggest(study.ask()) for _ in range(50)]
    assert {values["a"] for values in seen} == {"x", "y"}
    assert {values["n"] for values in seen} == {2, 4, 6, 8}
    for values in seen:
        assert ("b" in values) == (values["a"] == "y")
        assert ("c" in values) == (values["n"] >= 6)


def test_a_space_is_checked_against_the_configuration() -> None:
    wrong = SearchSpace("m", "max", (Parameter("vat.epsilom", "float", 0, 1),))
    with pytest.raises(UserError, match=r"did you mean 'vat.epsilon'"):
        check(wrong, CONFIG, "here")
    outside = SearchSpace("m", "max", (Parameter("vat.epsilon", "float", 3, 4),))
    with pytest.raises(UserError, match="lie outside"):
        check(outside, CONFIG, "here")
    assert outside.published(CONFIG) == {"vat.epsilon": 3}


def test_a_section_like_another_leaves_out_what_it_says() -> None:
    plain = registry.get("gcrnn_vat/gcrnn")
    space = search_spaces.load(plain.address, plain.config)
    keys = {parameter.key for parameter in space.parameters}
    assert "network.dropout" in keys
    assert not any(key.startswith("vat") for key in keys)


def test_a_section_takes_metric_and_sampler_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw: dict[str, Any] = {
        "p": {
            "metric": "event_er",
            "sampler": "evolution",
            "space": {"vat.xi": {"log": [0.01, 1]}},
        },
        "p/same": {"like": "p"},
        "p/other": {"like": "p", "metric": "event_f1", "sampler": "tpe"},
    }
    sections = {name: Section.model_validate(section) for name, section in raw.items()}
    monkeypatch.setattr("search_spaces.space._sections", lambda paper: sections)
    same, other = (search_spaces.load(name, CONFIG) for name in ("p/same", "p/other"))
    assert (same.metric, same.mode) == ("event_er", "min")
    assert (other.metric, other.mode) == ("event_f1", "max")
    assert (same.sampler, other.sampler) == ("evolution", "tpe")
    with pytest.raises(UserError, match="did you mean 'p/other'"):
        search_spaces.load("p/othr", CONFIG)


def test_a_section_names_a_metric_by_data_set_or_leaves_it_to_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw: dict[str, Any] = {
        "p": {"metric": {"tut2018": "uar", "strong": "event_er", "default": "accuracy"}},
        "p/like": {"like": "p"},
        "p/some": {"metric": {"tut2018": "uar"}},
        "p/none": {},
    }
    sections = {name: Section.model_validate(section) for name, section in raw.items()}
    monkeypatch.setattr("search_spaces.space._sections", lambda paper: sections)

    def found(name: str, dataset: str, default: str = "") -> tuple[str, str]:
        space = search_spaces.load(name, CONFIG, dataset, default)
        return space.metric, space.mode

    assert found("p", "tut2018") == ("uar", "max")
    assert found("p/like", "strong") == ("event_er", "min")
    assert found("p", "other", "map_at_3") == ("accuracy", "max")
    assert found("p/some", "other", "map_at_3") == ("map_at_3", "max")
    assert found("p/none", "other", "rmse") == ("rmse", "min")
    with pytest.raises(UserError, match="no metric for the data set 'other'"):
        found("p/some", "other")


@pytest.mark.parametrize(
    "ranged",
    [
        {"float": [0, 1], "int": [0, 1]},
        {"float": [0, 1], "step": 2},
        {"log": [0, 1]},
        {"int": [0, 8], "log": True},
        {"int": [1, 8], "log": True, "step": 2},
        {"int": [1, 8], "step": 0},
        {"int": [8, 1]},
        {"flaot": [0, 1]},
        {},
    ],
    ids=str,
)
def test_ranges_that_cannot_be_suggested_are_refused(ranged: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Range.model_validate(ranged)


def test_choices_are_read_as_values() -> None:
    assert parse_parameter("x=one-of:1e-4,0.5,3,a").choices == (1e-4, 0.5, 3, "a")


@pytest.mark.parametrize(("value", "inside"), [(0, 1), (4, 5), (8, 7), (100, 7), (5, 5)])
def test_the_nearest_integer_lies_inside(value: int, inside: int) -> None:
    parameter = Parameter("n", "int", 1, 8, step=2)
    assert parameter.nearest(value) == inside
    assert parameter.holds(inside)


def test_a_quick_budget_leaves_what_was_switched_off() -> None:
    off = configs.replace(CONFIG, {"vat": None})
    assert make_budget(ENTRY, "quick", None, {"vat"}).apply(off).vat is None


def test_budgets() -> None:
    quick = make_budget(ENTRY, "quick", None, set())
    small = quick.apply(CONFIG)
    assert small.network.width == 16
    assert small.training.epochs < CONFIG.training.epochs
    assert set(quick.scaled(CONFIG)) >= {"network.width", "training.epochs"}
    assert make_budget(ENTRY, "paper", None, set()).apply(CONFIG) == CONFIG
    assert make_budget(ENTRY, "0.1", None, set()).apply(CONFIG).training.epochs == 10
    assert make_budget(ENTRY, "paper", 3, set()).apply(CONFIG).training.epochs == 3
    kept = make_budget(ENTRY, "quick", None, {"network.width"}).apply(CONFIG)
    assert kept.network.width == 64
    for text in ("fast", "0", "-1", "inf"):
        with pytest.raises(UserError, match="quick, paper or a factor"):
            make_budget(ENTRY, text, None, set())


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.network.width = 1


LAYERS = {
    "layers": Range(int=(1, 3)),
    "layer_{n}.size": Range(int=(4, 9), repeat="layers"),
    "layer_{n}.kind": Range(one_of=["a", "b"], repeat="layers", when={"layer_{n}.size": ">= 6"}),
}


def test_a_repeated_parameter_is_one_for_each_place() -> None:
    """Each is there where there are so many, and where its own condition holds."""
    space = SearchSpace("accuracy", "max", _parameters(LAYERS, "here"))
    sizes = [f"layer_{n}.size" for n in (1, 2, 3)]
    assert [p.key for p in space.parameters] == ["layers", *sizes, *_kinds(1, 2, 3)]
    values = {"layers": 2, "layer_1.size": 5, "layer_2.size": 8, "layer_3.size": 9}
    found = space.first(lambda key: values.get(key, "b"))
    assert found == {"layers": 2, "layer_1.size": 5, "layer_2.size": 8, "layer_2.kind": "b"}
    narrow = space.with_parameters([parse_parameter("layer_3.size=int:4:5")])
    assert narrow.first(lambda key: values.get(key, "b")) == found


def test_conditions_on_what_is_not_searched_are_decided() -> None:
    space = SearchSpace("accuracy", "max", _parameters(LAYERS, "here")).without(["layers"])
    two = space.settled({"layers": 2}.__getitem__)
    assert {p.key for p in two.parameters} == {"layer_1.size", "layer_2.size", *_kinds(1, 2)}
    assert two.first(lambda key: {"layer_1.size": 5}.get(key, 7 if "size" in key else "a")) == {
        "layer_1.size": 5, "layer_2.size": 7, "layer_2.kind": "a"
    }  # fmt: skip


def _kinds(*places: int) -> list[str]:
    return [f"layer_{n}.kind" for n in places]


@pytest.mark.parametrize(
    ("key", "repeat"), [("layer_{n}.size", "layer"), ("layer.size", "layers"), ("a_{n}", "kind")]
)
def test_a_repeated_parameter_names_a_count_above_it(key: str, repeat: str) -> None:
    above = {"layers": Range(int=(1, 3)), "kind": Range(one_of=[1, 2])}
    with pytest.raises(UserError, match=f"'{key}' is repeated by '{repeat}'"):
        _parameters({**above, key: Range(int=(4, 9), repeat=repeat)}, "here")


def test_a_condition_on_an_unknown_key_is_named() -> None:
    wrong = Parameter("vat.epsilon", "float", 0.1, 3, when={"network.blokcs": ">= 3"})
    with pytest.raises(UserError, match=r"did you mean 'network.blocks'"):
        check(SearchSpace("m", "max", (wrong,)), CONFIG, "here")


@pytest.mark.parametrize("text", ["k=int:1:2000000", "k=float:0.1234567:1", "k=log:1e-07:0.1"])
def test_a_range_in_words_reads_back(text: str) -> None:
    parameter = parse_parameter(text)
    assert parse_parameter(f"k={parameter.text()}") == parameter


@pytest.mark.parametrize("text", ["k=one-of:a,", "k=one-of:a,a"])
def test_an_empty_or_doubled_choice_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        parse_parameter(text)


@pytest.mark.parametrize(
    ("asked", "final"),
    [
        ({"budget": "quick"}, "fold_mean"),
        ({"budget": "quick", "final": "refit"}, "refit"),
        ({"budget": "quick", "purpose": "train"}, "refit"),
        ({"budget": "paper"}, "refit"),
        ({"budget": "0.1"}, "refit"),
    ],
)
def test_only_a_quick_search_leaves_the_test_part_to_the_folds_models(
    asked: dict[str, Any], final: str
) -> None:
    plan = make_plan(Options(gpus_per_trial=0.0, **{"purpose": "search", **asked}))[0]
    assert plan.stage.final == final
