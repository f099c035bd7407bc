"""nnf_cnn_ensemble: chunks of a second that are averaged or vote, from training to report."""

from __future__ import annotations

import numpy as np
import pytest
from inprocess import run_in_process

from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import registry, testing
from systems.context import Context
from systems.excerpts import Voting
from systems.predictions import Predictions

SYSTEM = "nnf_cnn_ensemble/si_s_2cnn"
TINY = {**registry.get(SYSTEM).tiny, "training.epochs": 1, "decision.mean": "vote"}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictions]:
    """What one network says of clips under both decisions."""
    folder = tmp_path_factory.mktemp("nnf")
    case = testing.Case.of(registry.get(SYSTEM), folder / "store")
    fitted, _ = case.train(folder)
    ids = case.data.labelled.clip_ids
    voting = fitted.adapt(Voting("vote"), ids, case.sounds, Context())
    return {
        "average": fitted.predict(ids, case.sounds, Context()),
        "vote": voting.predict(ids, case.sounds, Context()),
    }


def test_a_clip_is_the_mean_of_its_chunks(said: dict[str, Predictions]) -> None:
    one = said["average"]
    assert one.clip_scores is not None
    assert one.frame_scores is not None
    assert {len(chunks) for chunks in one.frame_scores} == {6}  # 3 s in halves: 25 frames of 20 ms
    for score, chunks in zip(one.clip_scores, one.frame_scores, strict=True):
        np.testing.assert_allclose(score, chunks.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(chunks.sum(axis=1), 1, atol=1e-5)


def test_a_majority_of_chunks_by_hand(said: dict[str, Predictions]) -> None:
    one = said["vote"]
    assert one.clip_scores is not None
    assert one.frame_scores is not None
    undecided = 0
    for score, chunks in zip(one.clip_scores, one.frame_scores, strict=True):
        votes = []
        for chunk in chunks:
            above = [k for k, p in enumerate(chunk) if p >= 0.5]
            undecided += not above
            votes.append(above[0] if above else 0)
        most = max(set(votes), key=lambda k: (votes.count(k), -k))  # of ties the first class
        assert score.argmax() == most
        np.testing.assert_allclose(score, [votes.count(k) / 6 for k in range(6)], atol=1e-6)
    assert undecided


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    options = Options(
        purpose="train", system=SYSTEM, trials=1, set=TINY, name="it",
        storage=str(tmp_path_factory.mktemp("runs")), gpus_per_trial=0.0, protocol="paper",
    )  # fmt: skip
    return run_in_process(options)


def test_a_run_ends_with_its_report_and_names_its_vote(run: RunDir) -> None:
    row, trivial = read_json(run.scores)["rows"]
    assert trivial["trivial"]
    assert row["refinement"] == {"voting": "vote"}
    assert row["subsets"].keys() >= {"device=b+c"}
    assert (run.path / "report" / "classes.csv").exists()


def test_the_papers_weights_of_single_networks_are_no_figures(run: RunDir) -> None:
    why = {row["why"] for row in read_json(run.results)["paper"] if row["metric"] != "accuracy"}
    assert why == {"system", "unmapped"}


def test_the_twelve_networks_have_the_published_counts() -> None:
    """Sum of Table 1; each count is checked with the others' (tests/test_conformance.py)."""
    found = [e for e in registry.entries() if e.paper == "nnf_cnn_ensemble"]
    assert len(found) == 12
    assert sum(e.parameters or 0 for e in found) == 12_278_040
