"""What every registered system passes: registry, space, shapes and counts; a tiny training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import search_spaces
from orchestrator.report.published import published
from systems import config as configs
from systems import data, registry, testing
from systems.figures import figure_of
from systems.registry import Entry

ENTRIES = registry.entries()


def ids(entry: Entry) -> str:
    return entry.address


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_its_entry(entry: Entry) -> None:
    testing.check_entry(entry)
    assert entry.dataset in data.readers()


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_shapes_and_parameter_count_on_the_meta_device(entry: Entry) -> None:
    testing.check_network(entry)


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_the_search_space_holds_the_published_point(entry: Entry) -> None:
    space = search_spaces.load(entry.address, entry.config)
    values = space.published(entry.config)
    assert configs.replace(entry.config, values) == entry.config
    assert all(entry.config is not None and p.holds(values[p.key]) for p in space.parameters
               if p.key in values)  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=ids)
def test_every_published_figure_is_mapped_or_listed(entry: Entry) -> None:
    for row in published(entry.paper):
        if row["system"] != entry.name:
            continue
        if row["metric"] == "parameter_count":
            assert entry.parameters == row["value"]
        else:
            mapped = figure_of(entry.figures, row) is not None
            assert mapped != (row["variant"] in entry.unmapped), row


def trained_entries() -> list[Any]:
    """Each paper's main system; the others among the longer tests."""
    return [
        pytest.param(e, id=e.address, marks=() if e.is_main else pytest.mark.all) for e in ENTRIES
    ]


@pytest.mark.parametrize("entry", trained_entries())
def test_a_tiny_training(entry: Entry, tmp_path: Path) -> None:
    case = testing.Case.of(entry, tmp_path / "store")
    testing.check_training(case, tmp_path)


@pytest.mark.parametrize("entry", trained_entries())
def test_a_killed_training_goes_on_to_the_last_digit(entry: Entry, tmp_path: Path) -> None:
    case = testing.Case.of(entry, tmp_path / "store")
    testing.check_resumed(case, tmp_path)


@pytest.mark.parametrize("name", ["tagger", "classes", "pupil", "searcher"])
def test_another_packages_paper_passes_the_same_cases(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tags without frames, one class a clip, and a system that learns from another."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
    entry = registry.get(f"fakepaper/{name}")
    testing.check_entry(entry)
    testing.check_network(entry)
    case = testing.Case.of(entry, tmp_path / "store")
    testing.check_training(case, tmp_path)
    testing.check_resumed(case, tmp_path / "resumed")


@pytest.mark.parametrize("paper", sorted(registry.papers()))
def test_every_paper_can_be_cited(paper: str) -> None:
    entry = registry.bibtex(paper)
    assert re.match(r"@\w+\{\w+,", entry)
    for field in ("author", "title", "year"):
        assert re.search(rf"^\s*{field}\s*=\s*\{{.+", entry, re.MULTILINE)
    assert entry.count("{") == entry.count("}")
