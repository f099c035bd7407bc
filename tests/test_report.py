"""The report, made from a constructed results.json."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.report import html

HERE = Path(__file__).parent
SECTIONS = ("notes", "leaderboard", "members", "stack", "test", "paper", "classes", "curves",
            "examples", "cost")  # fmt: skip
VOID = {"meta", "link", "img", "br", "source", "wbr"}
# Objects whose keys are data: parameters, classes, parts, packages, loss terms.
FREE_KEYS = {"params", "parameters", "parts", "unlabelled", "scaled", "moved", "space", "versions",
             "classes", "tags"}  # fmt: skip


class Page(HTMLParser):
    """A page's ids, text, addresses, images and tables; unbalanced tags are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str] = []
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


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((HERE / "data" / "results_example.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def folder(example: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the example, written over an older one."""
    folder = tmp_path_factory.mktemp("run") / "report"
    folder.mkdir()
    (folder / "left_over.txt").write_text("of an older report")
    before = copy.deepcopy(example)
    assert html.write(example, folder) == folder / "index.html"
    assert example == before, "write must not change its argument"
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def interrupted(example: dict[str, Any]) -> dict[str, Any]:
    """The example as it was after an hour: two trials run, nothing has been chosen or scored."""
    early = copy.deepcopy(example)
    early["trials"] = [t for t in early["trials"] if t["number"] in (0, 1, 2, 6)]
    for trial in early["trials"][1:3]:
        trial.update(state="running", interval=None)
    trial.update(curve=[], value=None, best_step=None, steps=0)
    early.update(members=[], stack=[], test=None)
    for row in early["paper"]:
        row.update(ours=None, why="the test part has not been scored")
    return early


def rendered(results: dict[str, Any], folder: Path) -> Page:
    return Page(html.write(results, folder / "report").read_text(encoding="utf-8"))


def test_page_has_every_section_in_order(page: Page) -> None:
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    assert page.tags.count("table") == page.tags.count("caption")


def test_page_holds_the_numbers(page: Page, example: dict[str, Any]) -> None:
    for trial in example["trials"]:
        if trial["value"] is not None:
            assert f"{trial['value']:.3f}" in page.text
        if trial["interval"]:
            low, high = trial["interval"]
            assert f"[{low:.3f}, {high:.3f}]" in page.text
        if trial["cause"]:
            assert trial["cause"] in page.text
        for value in trial["params"].values():
            assert html.setting(value) in page.text
    for row in example["test"]["rows"]:
        for score in row["metrics"].values():
            assert html.interval(score) in page.text
    for row in example["paper"]:
        assert html.number(row["value"], html.decimals(row["unit"])) in page.text
        assert row["why"] is None or row["why"] in page.text
    run = example["run"]
    for text in (run["git_commit"], run["fingerprint"], run["run_id"], run["splits"]["digest"]):
        assert text in page.text


def test_outcome_names_the_best_trial_its_test_score_and_the_learner(page: Page) -> None:
    outcome = page.text[page.text.index("Trial 3 has the best") :][:700]
    assert "of 4 completed trials" in outcome
    assert "clip macro F1 0.641 [0.599, 0.679]" in outcome
    assert "logistic regression per class beats the best member by +0.021" in outcome


def test_notes_say_what_limits_the_figures(page: Page) -> None:
    for words in (
        "The data set is not the paper's",
        "selection-biased",
        "have been opened once",
        "Rows marked transductive",
        "vat.weight = 1 in the paper, 0.5 here",
        "A difference here is no evidence",
    ):
        assert words in page.text


def test_transductive_figures_are_marked_wherever_they_stand(page: Page) -> None:
    assert page.text.count("SALR_devtransductive") == 3  # test part; F1 and error rate beside paper


def test_nothing_is_fetched(folder: Path, page: Page) -> None:
    for address in page.addresses:
        local = not address.startswith(("#", "data:"))
        assert not local or (folder / address).is_file(), address[:80]
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", (folder / "index.html").read_text())
    assert not re.search(r"https?:|//\w|@import|url\(|<script", text)


def test_images_have_words_and_are_files(folder: Path, page: Page) -> None:
    assert len(page.alts) == 4
    assert all(len(alt) > 40 for alt in page.alts)
    assert "True events: Dog 0.62 to 1.31 s" in page.alts[2]
    for name in ("learning_curves.png", "class_scores.png", "examples/01_test_0042.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_older_report_is_replaced_as_a_whole(folder: Path) -> None:
    assert not (folder / "left_over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def test_failing_report_leaves_the_older_one(example: dict[str, Any], tmp_path: Path) -> None:
    html.write(interrupted(example), tmp_path / "report")
    broken = copy.deepcopy(example)
    broken["test"]["examples"][0]["log_mel"]["shape"] = [1, 1]
    with pytest.raises(ValueError, match="reshape"):
        html.write(broken, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (tmp_path / "report" / "index.html").is_file()


def test_csv_tables_hold_the_numbers(folder: Path, example: dict[str, Any]) -> None:
    board = pd.read_csv(folder / "leaderboard.csv", float_precision="round_trip")
    board = board.set_index("trial")
    values = board["value"].dropna()
    assert values.is_monotonic_decreasing
    assert len(board) == len(example["trials"])
    for trial in example["trials"]:
        row = board.loc[trial["number"]]
        assert row["state"] == trial["state"]
        assert row["value"] == trial["value"] or trial["value"] is None
        for key, value in trial["params"].items():
            assert row[f"params.{key}"] == value
    assert board["rank"].count() == 4
    stack = pd.read_csv(folder / "stack.csv").set_index("learner")
    test = pd.read_csv(folder / "test.csv")
    for learner in example["stack"]:
        assert stack.loc[learner["name"], "value"] == learner["out_of_fold"]["value"]
        assert stack.loc[learner["name"], "difference_low"] == learner["versus_best"]["low"]
    for i, row in enumerate(example["test"]["rows"]):
        assert test.loc[i, "clip_macro_f1_high"] == row["metrics"]["clip_macro_f1"]["high"]


def test_csv_of_classes_and_paper(folder: Path, example: dict[str, Any]) -> None:
    classes = pd.read_csv(folder / "classes.csv")
    rows = example["test"]["rows"]
    assert len(classes) == len(rows) * len(example["run"]["classes"])
    refined = classes[classes.variant == "SALR_train"]
    assert refined.threshold.tolist() == rows[1]["refinement"]["thresholds"]
    assert refined.clip_f1.tolist() == [s["clip_f1"] for s in rows[1]["classes"].values()]
    paper = pd.read_csv(folder / "paper.csv", keep_default_na=False)
    assert len(paper) == len(example["paper"])
    labels = paper.label.tolist()
    assert labels == sorted(labels, key=bool), "macro figures come first"
    ours = pd.to_numeric(paper.ours)
    assert ours.count() == sum(row["ours"] is not None for row in example["paper"])
    pd.testing.assert_series_equal(
        pd.to_numeric(paper.difference), ours - paper.paper, check_names=False
    )


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", "a\"b&c'd", "$x_{y$", "../up"])
def test_names_of_the_data_are_escaped(nasty: str, example: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(example).replace('"Dog"', json.dumps(nasty))
    results = json.loads(text.replace('"network.dropout"', json.dumps(nasty)))
    results["test"]["examples"][0]["clip"] = nasty
    results["trials"][6]["cause"] = nasty
    page = rendered(results, tmp_path)
    assert "script" not in page.tags
    assert page.text.count(nasty) > 5
    assert any(nasty in alt for alt in page.alts)
    assert len(list((tmp_path / "report" / "examples").iterdir())) == 2
    assert nasty in set(pd.read_csv(tmp_path / "report" / "classes.csv")["class"])


def test_interrupted_run_says_what_is_missing(example: dict[str, Any], tmp_path: Path) -> None:
    page = rendered(interrupted(example), tmp_path)
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    for words in (
        "This run is not finished (4 of 8 planned trials started; running: trial 1, 2;",
        "The test part has not been scored.",
        "No members have been chosen yet",
        "No meta-learner has been fitted yet.",
        "have not been opened by this run",
        "the test part has not been scored",
    ):
        assert words in page.text
    assert pd.read_csv(tmp_path / "report" / "test.csv").empty
    assert pd.read_csv(tmp_path / "report" / "stack.csv").empty


def test_run_that_has_barely_begun(example: dict[str, Any], tmp_path: Path) -> None:
    early = interrupted(example)
    early.update(trials=[], paper=[])
    early["run"].update(scaled={}, moved={}, space={}, git_commit=None, summary="")
    page = rendered(early, tmp_path)
    assert "No trial has completed yet" in page.text
    assert "No trial has started yet." in page.text
    assert "No trial has finished an epoch yet." in page.text
    assert not page.alts


def test_many_trials_and_a_metric_to_minimise(example: dict[str, Any], tmp_path: Path) -> None:
    results = copy.deepcopy(example)
    results["run"].update(mode="min", trials=24)
    results["trials"] = [
        {**copy.deepcopy(trial), "number": 8 * i + trial["number"]}
        for i in range(3)
        for trial in results["trials"]
    ]
    page = rendered(results, tmp_path)
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert board["value"].dropna().is_monotonic_increasing
    assert "does not beat the best member; it is worse" in page.text


def test_figures_that_are_not_finite_are_dashes(example: dict[str, Any], tmp_path: Path) -> None:
    results = copy.deepcopy(example)
    results["trials"][4]["curve"][-1]["loss"] = float("nan")
    results["trials"][4]["value"] = float("nan")
    assert "nan" not in rendered(results, tmp_path).text.replace("the loss is nan", "")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0123, "0.0123 s"), (59.0, "59 s"), (61.5, "1 min 1 s"), (7322.0, "2 h 2 min")],
)
def test_durations(value: float, words: str) -> None:
    assert html.duration(value) == words


def test_signs_and_dashes() -> None:
    assert html.number(-0.5, 1) == "\N{MINUS SIGN}0.5"
    assert html.signed(0.25, 2) == "+0.25"
    assert html.number(None) == html.interval(None) == "\N{EN DASH}"
    assert html.setting(0.00018772) == "0.0001877"
    assert html.setting(664) == "664"


def test_spectrogram_is_read_row_by_row(example: dict[str, Any]) -> None:
    first = copy.deepcopy(example["test"]["examples"][0])
    first["log_mel"] = {"data": base64.b64encode(bytes(range(6))).decode(), "shape": [2, 3]}
    assert html.log_mel(first).tolist() == [[0, 1, 2], [3, 4, 5]]


def keys_of(value: Any, free: bool = False) -> Iterator[str]:
    """All keys that have a meaning of their own: those of free objects are data."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not free:
                yield key
            yield from keys_of(inner, key in FREE_KEYS and not free)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_every_key_is_documented(example: dict[str, Any]) -> None:
    text = (HERE.parent / "docs" / "results.md").read_text(encoding="utf-8")
    named = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}
    assert set(keys_of(example)) <= named


def test_example_is_small() -> None:
    assert (HERE / "data" / "results_example.json").stat().st_size < 100_000
