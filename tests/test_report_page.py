"""The report's page and its files, made from a constructed results.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from reported import Page, example, rendered

from orchestrator.report import html, words

SECTIONS = ("notes", "leaderboard", "parameters", "members", "stack", "test", "paper", "classes",
            "curves", "examples", "cost")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the example, written over an older one."""
    folder = tmp_path_factory.mktemp("run") / "report"
    folder.mkdir()
    (folder / "left_over.txt").write_text("of an older report")
    results = example()
    assert html.write(results, folder) == folder / "index.html"
    assert results == example(), "write must not change its argument"
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_page_has_every_section_in_order(page: Page) -> None:
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    assert page.tags.count("table") == page.tags.count("caption")


def test_page_holds_the_numbers(page: Page) -> None:
    for trial in example()["trials"]:
        if trial["value"] is not None:
            assert f"{trial['value']:.3f}" in page.text
        if trial["interval"]:
            low, high = trial["interval"]
            assert f"[{low:.3f}, {high:.3f}]" in page.text
        if trial["cause"]:
            assert trial["cause"] in page.text
        for value in trial["params"].values():
            assert words.setting(value) in page.text
    for row in example()["test"]["rows"]:
        for score in row["metrics"].values():
            assert words.interval(score) in page.text
    for row in example()["paper"]:
        assert words.number(row["value"], words.decimals(row["unit"])) in page.text
        assert words.why_not(row) in page.text
    run = example()["run"]
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
    conditions = "Not the paper's conditions: the clips of the data set"
    assert conditions in page.text[: page.text.index("Notes")]


def test_notes_say_what_limits_the_figures(page: Page) -> None:
    for text in (
        "but not its clips",
        "selection-biased",
        "have been opened once",
        "Rows marked transductive",
        "vat.weight = 1 in the paper, 0.5 here",
        "A difference here is no evidence",
    ):
        assert text in page.text


def test_transductive_figures_are_marked_wherever_they_stand(page: Page) -> None:
    # The test part; F1 and error rate beside the paper's.
    assert page.text.count("SALR_devtransductive") == 3


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


def test_figures_of_the_search(page: Page) -> None:
    importance, first, second, parallel = page.alts[:4]
    top = example()["importance"][0]
    assert f"{top['key']} {top['importance']:.2f}" in importance
    assert "4 completed trials" in first
    assert "training.learning_rate 0.0001877" in second
    assert "The best, trial 3: clip macro F1 0.724" in parallel
    assert "Not in them, because not every completed trial has a value: vat.xi" in page.text


def test_older_report_is_replaced_as_a_whole(folder: Path) -> None:
    assert not (folder / "left_over.txt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["report"]


def test_failing_report_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("an older report")
    broken = {**example(), "trials": []}
    broken["test"]["examples"][0]["log_mel"]["shape"] = [1, 1]
    with pytest.raises(ValueError, match="reshape"):
        html.write(broken, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (tmp_path / "report" / "index.html").read_text() == "an older report"


def test_csv_tables_hold_the_numbers(folder: Path) -> None:
    board = pd.read_csv(folder / "leaderboard.csv", float_precision="round_trip")
    board = board.set_index("trial")
    values = board["value"].dropna()
    assert values.is_monotonic_decreasing
    assert len(board) == len(example()["trials"])
    for trial in example()["trials"]:
        row = board.loc[trial["number"]]
        assert row["state"] == trial["state"]
        assert row["value"] == trial["value"] or trial["value"] is None
        for key, value in trial["params"].items():
            assert row[f"params.{key}"] == value
    assert board["rank"].count() == 4
    stack = pd.read_csv(folder / "stack.csv").set_index("learner")
    test = pd.read_csv(folder / "test.csv")
    for learner in example()["stack"]:
        assert stack.loc[learner["name"], "value"] == learner["out_of_fold"]["value"]
        assert stack.loc[learner["name"], "difference_low"] == learner["versus_best"]["low"]
    for i, row in enumerate(example()["test"]["rows"]):
        assert test.loc[i, "clip_macro_f1_high"] == row["metrics"]["clip_macro_f1"]["high"]


def test_csv_of_classes_and_paper(folder: Path) -> None:
    classes = pd.read_csv(folder / "classes.csv")
    rows = example()["test"]["rows"]
    assert len(classes) == len(rows) * len(example()["run"]["classes"])
    refined = classes[classes.variant == "SALR_train"]
    assert refined.threshold.tolist() == rows[1]["refinement"]["thresholds"]
    assert refined.clip_f1.tolist() == [s["clip_f1"] for s in rows[1]["classes"].values()]
    paper = pd.read_csv(folder / "paper.csv", keep_default_na=False)
    assert len(paper) == len(example()["paper"])
    labels = paper.label.tolist()
    assert labels == sorted(labels, key=bool), "macro figures come first"
    ours = pd.to_numeric(paper.ours)
    assert ours.count() == sum(row["ours"] is not None for row in example()["paper"])
    pd.testing.assert_series_equal(
        pd.to_numeric(paper.difference), ours - paper.paper, check_names=False
    )


@pytest.mark.parametrize("nasty", ["<script>alert(1)</script>", "../a\"b&c'd $x_{y$"])
def test_names_of_the_data_are_escaped(nasty: str, tmp_path: Path) -> None:
    text = json.dumps(example()).replace('"Dog"', json.dumps(nasty))
    results = json.loads(text.replace('"network.dropout"', json.dumps(nasty)))
    results["test"]["examples"][0]["clip"] = nasty
    results["trials"][6]["cause"] = nasty
    page = rendered(results, tmp_path)
    assert "script" not in page.tags
    assert page.text.count(nasty) > 5
    assert any(nasty in alt for alt in page.alts)
    assert len(list((tmp_path / "report" / "examples").iterdir())) == 2
    assert nasty in set(pd.read_csv(tmp_path / "report" / "classes.csv")["class"])


def test_sound_is_copied_and_linked_where_it_is(tmp_path: Path) -> None:
    results = {**example(), "trials": []}
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "01.flac").write_bytes(b"sound")
    (tmp_path / "secret.flac").write_bytes(b"secret")
    results["test"]["examples"][1]["sound"] = "examples/../secret.flac"
    page = rendered(results, tmp_path)
    assert page.sounds == ["examples/01.flac"]
    assert (tmp_path / "report" / "examples" / "01.flac").read_bytes() == b"sound"
    assert not list((tmp_path / "report").glob("**/secret*"))
