"""The report of a constructed results.json: the page as a reader has it, and other states of it."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from orchestrator.report import html, plots
from orchestrator.report.importance import importances
from orchestrator.report.search_plots import SearchPlots
from orchestrator.report.stage_plots import StagePlots

VOID = {"meta", "link", "img", "br", "source", "wbr"}


def example() -> dict[str, Any]:
    """A finished search on a copy of the paper's data; a new one at each call."""
    file = Path(__file__).parent / "data" / "results_example.json"
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


class Page(HTMLParser):
    """A page's ids, text, addresses, images and tables; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str] = []
        self.sounds: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.addresses += [values[k] or "" for k in ("href", "src", "srcset") if k in values]
        if tag == "img":
            self.alts.append(values["alt"] or "")
        if tag == "audio":
            self.sounds.append(values["src"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def interrupted() -> dict[str, Any]:
    """The example as it was after an hour: two trials run, nothing has been chosen or scored."""
    early = example()
    early["trials"] = [t for t in early["trials"] if t["number"] in (0, 1, 2, 6)]
    for trial in early["trials"][1:3]:
        trial.update(state="running", interval=None)
    trial.update(curve=[], value=None, best_step=None, steps=0)
    early.update(members=[], stack=[], test=None)
    early["importance"], early["importance_why"] = importances(early)
    for row in early["paper"]:
        row.update(ours=None, why="unscored", transductive=False)
    return early


NO_STAGE = StagePlots(None, None, None, None, None)
NO_PLOTS = plots.Plots(SearchPlots(None, (), None, ()), NO_STAGE, None, None, ())


def said(results: dict[str, Any]) -> str:
    """The words of a report without plots, which take their time."""
    return Page(html.page(results, NO_PLOTS, [])).text


def rendered(results: dict[str, Any], folder: Path) -> Page:
    return Page(html.write(results, folder / "report").read_text(encoding="utf-8"))


def trained() -> dict[str, Any]:
    """The example as if three trainings of one configuration had been made, and no search."""
    results = example()
    results["run"].update(purpose="train", protocol="paper", space={}, moved={}, trials=3)
    results["trials"] = [t for t in results["trials"] if t["state"] == "complete"][:3]
    rows = [r for r in results["test"]["rows"] if r["best"]]
    results["test"]["rows"] = []
    for place, trial in enumerate(results["trials"]):
        trial.update(params={}, published=True)
        for row in copy.deepcopy(rows):
            row.update(who=f"training {trial['number']}", trial=trial["number"], best=place == 0)
            row["metrics"]["event_f1"]["value"] = 0.2 + 0.1 * place
            row["classes"]["Dog"]["event_f1"] = 0.2 + 0.1 * place
            results["test"]["rows"].append(row)
    results["importance"], results["importance_why"] = importances(results)
    return {**results, "members": results["members"], "stack": []}
