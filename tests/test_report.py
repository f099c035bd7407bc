"""The report, made from a constructed results.json."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.planning.resolve import make_plan
from orchestrator.report import html, plots, tables, words
from orchestrator.report.importance import importances, searched
from orchestrator.report.results import collect
from orchestrator.report.search_plots import SearchPlots
from orchestrator.report.stage_plots import StagePlots
from orchestrator.runs.files import append_step, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.search.study import Search

HERE = Path(__file__).parent
SECTIONS = ("notes", "leaderboard", "parameters", "members", "stack", "test", "paper", "classes",
            "curves", "examples", "cost")  # fmt: skip
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
    early["importance"], early["importance_why"] = importances(early)
    for row in early["paper"]:
        row.update(ours=None, why="the test part has not been scored")
    return early


NO_STAGE = StagePlots(None, None, None, None, None)
NO_PLOTS = plots.Plots(SearchPlots(None, (), None, ()), NO_STAGE, None, None, ())


def said(results: dict[str, Any]) -> str:
    """The words of a report without plots, which take their time."""
    return Page(html.page(results, NO_PLOTS, [])).text


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
            assert words.setting(value) in page.text
    for row in example["test"]["rows"]:
        for score in row["metrics"].values():
            assert words.interval(score) in page.text
    for row in example["paper"]:
        assert words.number(row["value"], words.decimals(row["unit"])) in page.text
        assert row["why"] is None or row["why"] in page.text
    run = example["run"]
    for text in (run["git_commit"], run["fingerprint"], run["run_id"], run["splits"]["digest"]):
        assert text in page.text


def test_outcome_names_the_best_trial_its_test_score_and_the_learner(page: Page) -> None:
    outcome = page.text[page.text.index("Trial 3 has the best") :][:700]
    assert "of 4 completed trials" in outcome
    assert "clip macro F1 0.641 [0.599, 0.679]" in outcome
    assert (
        "Stage two beats the best single trial out of fold: logistic regression per class by +0.021"
        in outcome
    )
    assert "Not the paper's conditions: the data set" in page.text[: page.text.index("Notes")]


def test_notes_say_what_limits_the_figures(page: Page) -> None:
    for text in (
        "The data set is not the paper's",
        "selection-biased",
        "have been opened once",
        "Rows marked transductive",
        "vat.weight = 1 in the paper, 0.5 here",
        "A difference here is no evidence",
    ):
        assert text in page.text


def test_transductive_figures_are_marked_wherever_they_stand(page: Page) -> None:
    # The test part; F1 and error rate beside the paper's, over all classes and by class.
    assert page.text.count("SALR_devtransductive") == 5


def test_nothing_is_fetched(folder: Path, page: Page) -> None:
    for address in page.addresses:
        local = not address.startswith(("#", "data:"))
        assert not local or (folder / address).is_file(), address[:80]
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", (folder / "index.html").read_text())
    assert not re.search(r"https?:|//\w|@import|url\(|<script", text)


def test_images_have_words_and_are_files(folder: Path, page: Page) -> None:
    assert len(page.alts) == 8
    assert all(len(alt) > 40 for alt in page.alts)
    assert "True events: Dog 0.62 to 1.31 s" in page.alts[6]
    for name in ("learning_curves.png", "class_scores.png", "examples/01_test_0042.png",
                 "importance.png", "slices_1.png", "slices_2.png",
                 "parallel_coordinates.png"):  # fmt: skip
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_older_report_is_replaced_as_a_whole(folder: Path) -> None:
    assert not (folder / "left_over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def test_failing_report_leaves_the_older_one(example: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("an older report")
    broken = {**copy.deepcopy(example), "trials": []}
    broken["test"]["examples"][0]["log_mel"]["shape"] = [1, 1]
    with pytest.raises(ValueError, match="reshape"):
        html.write(broken, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (tmp_path / "report" / "index.html").read_text() == "an older report"


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


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", "../a\"b&c'd $x_{y$"])
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
    for text in (
        "This run is not finished (4 of 8 planned trials started; not ended: trial 1, 2;",
        "goes on with it",
        "There are no importances: it takes 4 completed trials; there are 1.",
        "The test part has not been scored.",
        "No members have been chosen yet",
        "No meta-learner has been fitted yet.",
        "have not been opened by this run",
        "the test part has not been scored",
    ):
        assert text in page.text
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
    results["test"]["examples"] = []
    results["trials"] = [
        {**copy.deepcopy(trial), "number": 8 * i + trial["number"]}
        for i in range(3)
        for trial in results["trials"]
    ]
    page = rendered(results, tmp_path)
    board = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert board["value"].dropna().is_monotonic_increasing
    assert "does not beat the best member; it is worse" in page.text
    assert "No fusion beats the best single trial" in page.text


def test_figures_that_are_not_finite_are_dashes(example: dict[str, Any], tmp_path: Path) -> None:
    results = copy.deepcopy(example)
    results["trials"][4]["curve"][-1]["loss"] = float("nan")
    results["trials"][4]["value"] = float("nan")
    results["test"]["examples"] = []
    assert "nan" not in rendered(results, tmp_path).text.replace("the loss is nan", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.0123 s"), (59.0, "59 s"), (61.5, "1 min 1 s"), (7322.0, "2 h 2 min")],
)
def test_durations(value: float, text: str) -> None:
    assert words.duration(value) == text


def test_signs_and_dashes() -> None:
    assert words.number(-0.5, 1) == "\N{MINUS SIGN}0.5"
    assert words.signed(0.25, 2) == "+0.25"
    assert words.number(None) == words.interval(None) == "\N{EN DASH}"
    assert words.setting(0.00018772) == "0.0001877"
    assert words.setting(664) == "664"


def test_spectrogram_is_read_row_by_row(example: dict[str, Any]) -> None:
    first = copy.deepcopy(example["test"]["examples"][0])
    first["log_mel"] = {"data": base64.b64encode(bytes(range(6))).decode(), "shape": [2, 3]}
    assert plots.log_mel(first).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_importances_come_from_completed_trials(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    found, why = importances(results)
    assert why is None
    assert found is not None
    assert sum(row["importance"] for row in found) == pytest.approx(1)
    shares = [row["importance"] for row in found]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([row["importance"] for row in example["importance"]], abs=1e-3)
    results["trials"][7]["value"] = 0.99  # it was stopped
    assert importances(results)[0] == found
    results["trials"][3]["value"] = 0.1
    assert importances(results)[0] != found


def test_the_parameter_that_matters_comes_first(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    for i, trial in enumerate(results["trials"]):
        rate = 10 ** (-4 + i / 4)
        trial.update(state="complete", value=1 - 50 * rate)
        trial["params"].update({"training.learning_rate": rate, "vat.weight": 0.1})
    found, _ = importances(results)
    assert found is not None
    assert found[0]["key"] == "training.learning_rate"
    assert found[-1]["importance"] == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r["trials"][3].update(state="stopped"), "it takes 4 completed trials; there"),
        (lambda r: [t.update(value=0.5) for t in r["trials"]], "all completed trials have the"),
        (lambda r: [t.update(params={}) for t in r["trials"]], "no parameter has a value in every"),
        (lambda r: r["run"].update(space={}), "nothing was searched"),
    ],
)  # fmt: skip
def test_why_there_are_no_importances(
    change: Callable[[dict[str, Any]], Any], why: str, example: dict[str, Any]
) -> None:
    results = copy.deepcopy(example)
    change(results)
    results["importance"], results["importance_why"] = importances(results)
    assert results["importance"] is None
    assert results["importance_why"].startswith(why)
    assert f"There are no importances: {why}" in said(results)


def test_study_is_rebuilt_from_the_ranges_in_words(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    results["run"]["space"] |= {
        "sizes": "one-of:[1, 2],[3]", "flag": "one-of:True,None", "rate": "log:0.333333:1",
        "odd": "int:1:7:2", "seconds": "int:1:1e+06",
    }  # fmt: skip
    for trial in results["trials"]:
        trial["params"] |= {"flag": None, "rate": 1 / 3, "odd": 5, "sizes": [3], "seconds": 9}
        trial["params"]["rate"] -= 1e-6  # the text has six digits
    found = searched(results)
    assert {"flag", "rate", "odd"} <= set(found.keys)
    assert set(found.left_out) == {"vat.xi", "sizes", "seconds"}
    done = [t for t in found.study.trials if t.value is not None]
    assert [t.number for t in done] == [0, 2, 3, 5]
    assert done[0].params["flag"] == "None"
    assert found.study.best_trial.number == 3


def test_figures_of_the_search(example: dict[str, Any], page: Page) -> None:
    importance, first, second, parallel = page.alts[:4]
    top = example["importance"][0]
    assert f"{top['key']} {top['importance']:.2f}" in importance
    assert "4 completed trials" in first
    assert "training.learning_rate 0.0001877" in second
    assert "The best, trial 3: clip macro F1 0.724" in parallel
    assert "Not in them, because not every completed trial has a value: vat.xi" in page.text


def test_sound_is_copied_and_linked_where_it_is(example: dict[str, Any], tmp_path: Path) -> None:
    results = {**copy.deepcopy(example), "trials": []}
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "01.flac").write_bytes(b"sound")
    (tmp_path / "secret.flac").write_bytes(b"secret")
    results["test"]["examples"][1]["sound"] = "examples/../secret.flac"
    page = rendered(results, tmp_path)
    assert page.sounds == ["examples/01.flac"]
    assert (tmp_path / "report" / "examples" / "01.flac").read_bytes() == b"sound"
    assert not list((tmp_path / "report").glob("**/secret*"))


def test_class_scores_stand_beside_the_papers(example: dict[str, Any]) -> None:
    rows = {(r["metric"], r["class"], r["variant"]): r for r in tables.class_comparison(example)}
    dog = rows["event_f1", "Dog", "no refinement"]
    assert dog == {
        "metric": "event_f1", "unit": "%", "class": "Dog", "variant": "no refinement",
        "paper": 7.4, "ours": pytest.approx(18.13), "difference": pytest.approx(10.73),
    }  # fmt: skip
    cat = rows["event_er", "Cat", "no refinement"]
    assert cat["ours"] == 1.4966
    ours_alone = rows["event_f1", "Dog", "SALR_train"]
    assert ours_alone["paper"] is ours_alone["difference"] is None
    assert ours_alone["ours"] == pytest.approx(25.23)
    assert len(rows) == 2 * 10 * 3  # metrics that the paper has by class
    assert "Dog7.418.1+10.7" in said(example).replace(" ", "")


def trained(example: dict[str, Any]) -> dict[str, Any]:
    """The example as if three trainings of one configuration had been made, and no search."""
    results = copy.deepcopy(example)
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


def test_training_without_a_search_gives_mean_and_deviation(example: dict[str, Any]) -> None:
    results = trained(example)
    seeds = {(r["variant"], r["metric"]): r for r in tables.over_seeds(results)}
    assert seeds["SALR_train", "event_f1"] == {
        "variant": "SALR_train", "metric": "event_f1", "trainings": 3, "mean": pytest.approx(0.3),
        "sd": pytest.approx(0.1), "low": 0.2, "high": pytest.approx(0.4),
    }  # fmt: skip
    assert {variant for variant, _ in seeds} == {"no refinement", "SALR_train", "SALR_dev"}
    dog = next(r for r in tables.class_comparison(results) if r["class"] == "Dog")
    assert dog["ours"] == pytest.approx(30.0), "the mean over seeds"
    assert not tables.over_seeds(example)


def test_page_of_a_training_has_no_search_in_it(example: dict[str, Any]) -> None:
    page = Page(html.page(trained(example), NO_PLOTS, []))
    assert not {"parameters", "members", "stack"} & set(page.ids)
    for text in (
        "3 trainings of one configuration, each with a seed of its own",
        "mean ± standard deviation over 3 seeds (no refinement)",
        "event-based F1 0.300 ± 0.100",
        "3 trainings without a search",
        "protocol “paper”",
    ):
        assert text in page.text
    for text in (
        "published point",
        "meta-learner",
        "Rank",
        "best trial",
        "Search space",
        "the search",
    ):
        assert text not in page.text, text
    links = [address for address in page.addresses if address.startswith("#")]
    assert {link[1:] for link in links} <= set(page.ids)


def test_notes_of_the_data_and_of_the_plan(example: dict[str, Any]) -> None:
    text = said(example)
    assert example["run"]["notes"][0] in text
    assert "1 broken clip of the data left out" in text
    assert all(word in text for word in example["run"]["skipped"][0])
    assert "protocol “paper”" not in text
    assert "time budget" not in text


def test_a_copy_with_other_clips_is_not_the_papers_data(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    run = results["run"]
    run["dataset"] = run["published_dataset"]
    run["parts"] = {
        "weak": {"clips": 60, "labels": "tags"}, "test": {"clips": 288, "labels": "events"},
    }  # fmt: skip
    run["published_clips"] = {"weak": 1578, "test": 288}
    run["scaled"], run["set"] = {}, {}
    text = said(results)
    assert "but not its clips: weak 60 (paper: 1,578)." in text
    assert "Not the paper's conditions: the clips of the data set" in text
    run["parts"]["weak"]["clips"] = 1578
    text = said(results)
    assert "The data set is the paper's" in text
    assert "Data set and budget are the paper's." in text


def test_a_stack_tells_what_each_run_changed(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    one = {"name": "a", "system": "gcrnn_vat/gcrnn_vat", "budget": "quick", "moved": {},
           "scaled": {"network.width": [64, 16]}, "set": {}}  # fmt: skip
    two = {**one, "name": "b", "system": "other/other", "scaled": {}, "set": {"x": [1, 2]}}
    results["run"]["member_runs"] = [one, two]
    text = said(results)
    assert "a (gcrnn_vat/gcrnn_vat) changed 1 value by its budget (quick)" in text
    assert "b (other/other) changed 1 value by hand" in text
    assert "The table is of gcrnn_vat alone" in text
    assert "What the budget changed" not in text


def test_what_fusing_adds_stands_beside_the_gain(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    part = {"value": -0.012, "low": -0.03, "high": 0.004, "p_not_better": 0.9}
    for learner in results["stack"]:
        learner["by_fusing"] = part
    text = said(results)
    assert words.signed_interval(part) in text
    assert "over the same on the best member alone" in text


def test_more_comparisons_than_the_draws_can_bear_are_told(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    learner = results["stack"][0]
    learner["compared"] = {"p": 0.001, "p_holm": 0.06, "z_p": None, "claims": False, "among": 60}
    assert "no p can stand the correction" in said(results)
    learner["compared"]["among"] = 40
    assert "no p can stand the correction" not in said(results)


def test_time_budget_that_ended_the_search(example: dict[str, Any]) -> None:
    results = copy.deepcopy(example)
    results["run"].update(time_budget=7200.0, trials=20)
    results["trials"][7]["cause"] = "time budget"
    results["cost"].update(stopped=1, out_of_time=1)
    text = said(results)
    assert "time budget of 2 h 0 min, and the search ended by it: 8 of 20 planned trials" in text
    assert "1 of them stopped before their end" in text
    assert "1 more by the end of the time budget" in text
    assert "not finished" not in text
    results["run"]["trials"] = 8
    assert "the search ended by it: 8 of 8 planned trials" in said(results)
    uncut = copy.deepcopy(example)
    uncut["run"]["time_budget"] = 7200.0
    assert "the search has not been cut by it" in said(uncut)


def test_cost_by_phase(example: dict[str, Any]) -> None:
    text = said(example)
    assert "search 3 min 2 s, further folds of the members 0 s, refits 1 min 44 s" in text
    assert "2 of 8 trials: 24 epochs not run" in text


def test_report_of_older_results(example: dict[str, Any]) -> None:
    """Fields that came later may be missing."""
    old = copy.deepcopy(example)
    for key in ("purpose", "protocol", "time_budget", "mixed_precision", "skipped", "notes"):
        del old["run"][key]
    del old["importance"], old["importance_why"], old["run"]["resources"]["workers"]
    old["cost"] = {key: old["cost"][key] for key in ("seconds", "gpu_seconds", "stopped")}
    for shown in old["test"]["examples"]:
        for key in ("sound", "clip_f1", "event_f1", "true_tags", "predicted_tags"):
            del shown[key]
    assert "There are no importances." in said(old)
    plots._example(old["test"]["examples"][0], old, Path("/dev/null"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(Options(max_epochs=6, trials=3, gpus_per_trial=0.0, name="costs"))[0]


def test_collect_sums_the_phases_and_is_strict_json(plan: Plan, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "costs")
    write_json(run.plan, plan.to_json())
    study = Search(run.path / "study.log", plan.search_space(), plan.sampler, plan.halving,
                   plan.first_trial)  # fmt: skip
    for number in range(3):
        assert study.ask()[0] == number
    for number, steps in enumerate((2, 2, 3)):
        for step in range(1, steps + 1):
            value = {"loss": float("nan"), plan.metric: 0.1, "seconds": 10.0}
            run.trial(number).append_metrics(0, step, value)
    run.trial(0).append_metrics(1, 1, {"loss": 1.0, plan.metric: 0.1, "seconds": 5.0})
    append_step(run.trial(0).refit_metrics, 0, 1, {"loss": 1.0, "seconds": 2.0})
    write_json(run.stack("logreg") / "scores.json", {"seconds": 1.5})
    study.stop(0)
    study.stop(1, "time budget")
    study.diverge(2, "the loss is nan")
    results = collect(run)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    stored = json.loads(run.results.read_text(), parse_constant=refuse)
    assert stored == json.loads(json.dumps(results, allow_nan=False))
    assert stored["trials"][0]["curve"][0]["loss"] is None
    assert [t["state"] for t in stored["trials"]] == ["stopped", "stopped", "diverged"]
    assert stored["trials"][1]["cause"] == "time budget"
    assert stored["cost"] == {
        "seconds": 78.5, "search": 70.0, "folds": 5.0, "refit": 2.0, "stack": 1.5,
        "gpu_seconds": 0.0, "stopped": 1, "out_of_time": 1, "saved_epochs": 4,
        "saved_seconds": pytest.approx(4 * 25 / 2),
    }  # fmt: skip
    assert stored["importance"] is None
    assert stored["run"]["purpose"] == "search"


def test_collect_reads_plans_without_the_later_fields(plan: Plan, tmp_path: Path) -> None:
    run, whole = RunDir(tmp_path / "old"), plan.to_json()
    for key in ("purpose", "protocol", "time_budget", "mixed_precision", "skipped", "notes"):
        del whole[key]
    write_json(run.plan, whole)
    about = collect(run)["run"]
    assert (about["purpose"], about["protocol"], about["time_budget"]) == ("search", "honest", None)
    assert (about["skipped"], about["notes"], about["mixed_precision"]) == ([], [], False)


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
