"""Systems without frames, from training to files; and beside members that have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from inprocess import drive_in_process, run_in_process
from stacked import halves, timed

from orchestrator.members.seen import Members, Targets
from orchestrator.models.bundle import export
from orchestrator.models.files import as_json, label_track, table
from orchestrator.models.inference import Predictor
from orchestrator.plan.options import Options
from orchestrator.plan.plan import MemberRef
from orchestrator.plan.stage import StageSettings
from orchestrator.planning.stacks import make_stack_plan
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.families import learner, load_learner
from systems.data.dataset import Event
from systems.errors import CannotFit, UserError
from systems.excerpts import Excerpts
from systems.network_system import NetworkSystem
from systems.postprocessing.refinement import Refinement
from systems.predictions import Predictions

FAKE = Path(__file__).parent / "fakepaper"


@pytest.fixture(scope="module")
def fakepaper() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE))
        yield


@pytest.fixture(scope="module")
def runs(
    fakepaper: None, task4_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, RunDir]:
    """A run of each of two systems: one with frames, and one without."""
    root = tmp_path_factory.mktemp("runs")
    about: Any = {
        "dataset": "dcase2018_task4", "data": str(task4_folder), "storage": str(root),
        "budget": "paper",
    }  # fmt: skip
    return {
        name: run_in_process(
            Options(system=f"fakepaper/{name}", name=name, trials=trials, stack=stack, **about)
        )
        for name, trials, stack in (("tagger", 2, "logreg,exact,mean"), ("small", 1, "none"))
    }


def test_a_system_without_frames_goes_the_whole_way(runs: dict[str, RunDir]) -> None:
    run = runs["tagger"]
    rows = read_json(run.scores)["rows"]
    assert {"logreg", "exact", "mean"} <= {row["learner"] for row in rows}
    assert all("event_f1" not in row["metrics"] for row in rows if not row["trivial"])
    assert not list(run.path.glob("stack/*/refused.json"))
    best = read_json(run.members)["members"][0]["trial"]
    said = Predictions.load(next((run.trial(best).refit / "predictions").glob("test_*.npz")))
    assert said.frame_scores is None
    assert said.events is None
    assert said.clip_scores is not None


@pytest.mark.parametrize("model", ["best", "logreg"])
def test_its_bundle_gives_files_tags_and_no_events(
    model: str, runs: dict[str, RunDir], tmp_path: Path
) -> None:
    run = runs["tagger"]
    bundle = export(run, tmp_path / "bundle", model=model)
    assert read_json(bundle / "bundle.json")["frame_hop"] is None
    predictor = Predictor.load(bundle)
    generator = np.random.default_rng(0)
    for seconds in (0.5, 3.2):
        soundfile.write(
            tmp_path / f"{seconds}.wav", 0.1 * generator.normal(size=int(16_000 * seconds)), 16_000
        )
    found = predictor.predict_files([tmp_path / "0.5.wav", tmp_path / "3.2.wav"])
    assert [one.events for one in found] == [None, None]
    assert all(0 <= score <= 1 for one in found for score in one.tags.values())
    assert "event" not in table(found)
    assert [row["events"] for row in json.loads(as_json(found))] == [None, None]
    with pytest.raises(UserError, match="no label track"):
        label_track(found[0])


def test_a_files_tags_are_those_of_the_clip(runs: dict[str, RunDir], tmp_path: Path) -> None:
    run = runs["tagger"]
    best = read_json(run.members)["members"][0]["trial"]
    said = Predictions.load(next((run.trial(best).refit / "predictions").glob("test_*.npz")))
    predictor = Predictor.load(export(run, tmp_path / "bundle"))
    data = Path(read_json(run.plan_file)["data"]) / "dataset" / "audio"
    found = predictor.predict_files([data / clip_id for clip_id in said.clip_ids])
    tags = np.array([list(one.tags.values()) for one in found])
    np.testing.assert_allclose(tags, said.clip_scores, atol=1e-6)


def test_a_tagger_among_members_leaves_the_others_their_events(
    runs: dict[str, RunDir], tmp_path: Path
) -> None:
    """Its tags count in the fused tags, which decide which events of the other stay."""
    refs = [
        MemberRef(str(run.path), read_json(run.members)["members"][0]["trial"], f"fakepaper/{name}")
        for name, run in runs.items()
    ]
    planned = make_stack_plan(refs, StageSettings(), stack="logreg,power", name="both")
    run = drive_in_process(tmp_path, *planned)
    rows = {row["learner"]: row for row in read_json(run.scores)["rows"]}
    small = runs["small"]
    alone = Predictions.load(
        next((small.trial(refs[1].trial).refit / "predictions").glob("test_*.npz"))
    )
    assert alone.events is not None
    for name in ("logreg", "power"):
        assert "event_f1" in rows[name]["metrics"]
        fused = Predictions.load(run.stack(name) / "test.npz")
        assert fused.events is not None
        assert fused.clip_scores is not None
        place = {label: k for k, label in enumerate(fused.classes)}
        for own, kept, scores in zip(alone.events, fused.events, fused.clip_scores, strict=True):
            assert kept == tuple(e for e in own if scores[place[e.label]] > 0.5)


def test_a_decision_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="adapted on frames"):
        NetworkSystem(
            front_end=None, network=None, loss=[], training=None, excerpts=Excerpts(),  # type: ignore[arg-type]
            decision=Refinement(on="labelled"), frames=False,
        )  # fmt: skip


def with_a_tagger() -> tuple[tuple[Members, Targets], tuple[Members, Targets]]:
    """Two members with frames and, at the second place, one of tags alone."""
    members, targets = timed(0, members=3, level=0.4)
    assert members.frames is not None
    frames = (members.frames[0], None, members.frames[2])
    return halves((replace(members, frames=frames), targets))


def test_thresholds_on_events_are_fitted_over_the_members_that_have_frames() -> None:
    (members, targets), (new, truth) = with_a_tagger()
    of_two = learner("exact_events")
    of_two.fit(members.only([0, 2]), targets, 0)
    among = learner("exact_events")
    among.fit(members, targets, 0)
    assert among.state() == of_two.state()
    assert among.events(new) == of_two.events(new.only([0, 2]))
    assert sum(map(len, among.events(new) or ())) > 0.5 * sum(map(len, truth.events or ()))
    with pytest.raises(CannotFit, match="nothing about time"):
        learner("exact_events").fit(members.only([1]), targets, 0)


def test_each_class_keeps_the_events_of_its_member_or_of_those_that_have_any() -> None:
    (members, targets), (new, _) = with_a_tagger()
    by_events = learner("class_choice", type(learner("class_choice").settings)(by="event_f1"))
    by_events.fit(members, targets, 0)
    assert all(column[1] < 1 for column in np.array(by_events.weights()["classes"]))  # type: ignore[index]
    given = learner("class_choice", type(by_events.settings)(given=(0, 1, 2)))
    given.fit(members, targets, 0)
    at = [tuple(Event(m, m + 1.0, name) for name in members.classes) for m in range(3)]
    own = tuple(None if m == 1 else (at[m],) * len(new.clip_ids) for m in range(3))
    told = given.events(replace(new, events=own))
    assert told is not None
    for clip, scores in zip(told, given.predict(new), strict=True):
        of_the_first = (at[0][1],) if scores[1] > 0.5 else ()
        assert clip == tuple(sorted((at[0][0], *of_the_first, at[2][2])))


def test_no_frames_of_some_are_fused_by_a_learner_of_all() -> None:
    (members, targets), (new, _) = with_a_tagger()
    mean = learner("mean")
    mean.fit(members, targets, 0)
    assert mean.fused_frames(new) is None
    kept, own = mean.events(new), new.events_of(0)
    assert kept is not None
    assert all(set(some) <= set(all_) for some, all_ in zip(kept, own, strict=True))


def test_a_gate_names_a_member_that_tells_of_time() -> None:
    from orchestrator.plan.stage import Manner

    (members, targets), (new, _) = with_a_tagger()
    with pytest.raises(CannotFit, match="member1, which tells of no time"):
        learner("mean", None, Manner(events_of=1)).fit(members, targets, 0)
    gated = learner("mean", None, Manner(events_of=2))
    gated.fit(members, targets, 0)
    assert gated.events(new) is not None


def test_learners_over_some_members_are_restored(tmp_path: Path) -> None:
    (members, targets), (new, _) = with_a_tagger()
    fitted = learner("exact_events")
    fitted.fit(members, targets, 0)
    fitted.save(tmp_path)
    assert load_learner(tmp_path).events(new) == fitted.events(new)
