"""What every registered system passes: registry, space, shapes and counts; training by trait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import search_spaces
from orchestrator.report.published import published
from systems import config as configs
from systems import data, registry
from systems.budget import make_budget
from systems.context import Context
from systems.data.splits import TrainingData, make_splits, training_data
from systems.data.store import WaveformStore, open_store
from systems.figures import figure_of
from systems.registry import Entry

ENTRIES = registry.entries()
COUNTS = {  # printed in the paper, else counted by hand in its card
    "gcrnn_vat/gcrnn_vat": 202_260,
    "gcrnn_vat/gcrnn": 202_260,
}
TINY = {  # per paper: the width at which its systems are trained here
    "gcrnn_vat": {
        "network.width": 8,
        "network.recurrent_units": 8,
        "training.epochs": 4,
        "training.steps_per_epoch": 6,
        "training.learning_rate": 0.01,
    },
}


def ids(entry: Entry) -> str:
    return entry.address


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_registered_and_addressed(entry: Entry) -> None:
    assert registry.get(entry.address) is entry
    assert registry.get(entry.paper).paper == entry.paper
    assert entry.summary


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_the_search_space_holds_the_published_point(entry: Entry) -> None:
    space = search_spaces.load(entry.address, entry.config)
    values = space.published(entry.config)
    assert configs.replace(entry.config, values) == entry.config
    assert all(entry.config is not None and p.holds(values[p.key]) for p in space.parameters
               if p.key in values)  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_shapes_and_parameter_count_on_the_meta_device(entry: Entry) -> None:
    with torch.device("meta"):
        network = entry.build(entry.config).network(10)
        assert network is not None
        bands = configs.get(entry.config, "front_end.bands")
        clip, frames, *_ = network(torch.zeros(2, 1, bands, 240))
    assert clip.shape == (2, 10)
    assert frames.shape == (2, 240, 10)
    if entry.address in COUNTS:
        assert sum(p.numel() for p in network.parameters()) == COUNTS[entry.address]


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_budgets_apply(entry: Entry) -> None:
    for text in ("quick", "paper", "0.5"):
        entry.build(make_budget(entry, text, None, set()).apply(entry.config))


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_every_published_figure_is_mapped_or_listed(entry: Entry) -> None:
    for row in published(entry.paper):
        if row["system"] == entry.name:
            mapped = figure_of(entry.figures, row) is not None
            assert mapped != (row["variant"] in entry.unmapped), row
    for figure in entry.figures:
        configs.replace(entry.config, figure.overrides)
    names = [figure.name for figure in entry.figures]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def small(task4_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    dataset = data.load("dcase2018_task4", str(task4_folder))
    clip_ids = tuple(clip.clip_id for clip in dataset.clips)
    store = open_store(
        dataset, clip_ids, 16_000, tmp_path_factory.mktemp("store"), lambda f, items: map(f, items)
    )
    return training_data(dataset, make_splits(dataset, 0), 0), store


def trained_entries() -> list[Any]:
    """Each paper's main system; the others among the longer tests."""
    return [
        pytest.param(e, id=e.address, marks=() if e.is_main else pytest.mark.all) for e in ENTRIES
    ]


class Stopped(Exception):
    pass


def train(
    entry: Entry, small: tuple[TrainingData, WaveformStore], folder: Path, stop_after: int = 0
) -> tuple[Any, list[dict[str, float]]]:
    reports: dict[int, dict[str, float]] = {}

    def on_report(step: int, metrics: Mapping[str, float]) -> None:
        reports[step] = {k: v for k, v in metrics.items() if k != "seconds"}
        if step == stop_after:
            raise Stopped

    system = entry.build(configs.replace(entry.config, TINY[entry.paper]))
    context = Context(folder, seed=3, threads=1, on_report=on_report)
    fitted = system.train(*small, context)
    return (system, fitted), [reports[step] for step in sorted(reports)]


@pytest.mark.parametrize("entry", trained_entries())
def test_training_by_trait_gradient(entry: Entry, small: Any, tmp_path: Path) -> None:
    (system, fitted), reports = train(entry, small, tmp_path / "whole")
    assert reports[-1]["loss"] < reports[0]["loss"]

    fold, store = small
    context = Context(threads=1)
    predicted = fitted.predict(fold.validation.clip_ids, store, context)
    assert predicted.clip_scores.shape == (len(fold.validation), 10)
    assert ((predicted.clip_scores >= 0) & (predicted.clip_scores <= 1)).all()
    for frames, events in zip(predicted.frame_scores, predicted.events, strict=True):
        assert frames.shape[1] == 10
        assert abs(len(frames) * predicted.frame_hop - 1.0) < 2 * predicted.frame_hop
        assert ((frames >= 0) & (frames <= 1)).all()
        assert all(0 <= event.onset < event.offset <= 1.0 for event in events)

    if entry.decision is not None:
        settings = replace(configs.get(entry.config, entry.decision), on="labelled")
        fitted = fitted.adapt(settings, fold.validation.clip_ids, store, context)
        predicted = fitted.predict(fold.validation.clip_ids, store, context)
    fitted.save(tmp_path / "model")
    loaded = system.load(tmp_path / "model").predict(fold.validation.clip_ids, store, context)
    assert (loaded.clip_scores == predicted.clip_scores).all()
    assert loaded.events == predicted.events
    for ours, again in zip(predicted.frame_scores, loaded.frame_scores, strict=True):
        assert (ours == again).all()


@pytest.mark.parametrize("entry", trained_entries())
def test_a_killed_training_goes_on_to_the_last_digit(
    entry: Entry, small: Any, tmp_path: Path
) -> None:
    (_, whole), reports = train(entry, small, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(entry, small, tmp_path / "cut", stop_after=2)
    (_, resumed), later = train(entry, small, tmp_path / "cut")
    assert later == reports[1:]  # the checkpoint's own step is told again
    assert resumed.history.best_step == whole.history.best_step
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("paper", sorted(registry.papers()))
def test_every_paper_can_be_cited(paper: str) -> None:
    entry = registry.bibtex(paper)
    assert re.match(r"@\w+\{\w+,", entry)
    for field in ("author", "title", "year"):
        assert re.search(rf"^\s*{field}\s*=\s*\{{.+", entry, re.MULTILINE)
    assert entry.count("{") == entry.count("}")
