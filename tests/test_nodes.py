"""Nodes: a system at the configuration of a figure, as a member and as what another learns from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.models.bundle import export
from orchestrator.models.inference import Predictor
from orchestrator.pipeline.graph import folder_name
from orchestrator.pipeline.jobs import Jobs
from orchestrator.pipeline.launch import launch
from orchestrator.pipeline.teachers import prepare
from orchestrator.plan.options import Options
from orchestrator.planning.fusions import Graph, check_graph
from orchestrator.planning.resolve import make_plan, reload
from orchestrator.runs.files import read_json, read_lines
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems import registry
from systems.errors import UserError
from systems.figures import Figure
from systems.predictions import Predictions

FAKE = Path(__file__).parent / "fakepaper"


@pytest.fixture(autouse=True)
def fakepaper(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FAKE))
    registry.find("fakepaper")
    import fakepaper

    return fakepaper


def asked(folder: Path, root: Path, system: str, **more: Any) -> Options:
    return Options(
        system=system, dataset="dcase2018_task4", data=str(folder), storage=str(root), name="r",
        budget="paper", gpus_per_trial=0.0, concurrency=1, ray_address="none", mlflow="none",
        stack="none", **more,
    )  # fmt: skip


@dataclass(frozen=True)
class Config:
    width: int = 1
    depth: int = 1
    pass_: int = 2


def test_the_graph_of_needs_is_resolved_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def system(name: str, requires: Any = None, figures: tuple[Figure, ...] = ()) -> None:
        entry = registry.Entry(
            name, "p", lambda config: None, Config(), "t", "d", ("tags",), figures=figures,
            requires=requires or {},
        )  # fmt: skip
        monkeypatch.setitem(registry._ENTRIES, f"p/{name}", entry)

    def fusion(name: str, *members: str) -> None:
        one = registry.Fusion(name, "p", members, "mean")
        monkeypatch.setitem(registry._ENTRIES, f"p/{name}", one)

    def names(name: str, **given: Any) -> list[str]:
        return [node.name for node in registry.resolve(name, given=given)]

    def taught(config: Config) -> dict[str, registry.Requirement]:
        return {} if config.pass_ == 1 else {"teacher": registry.Requirement("p/teacher")}

    wide = Figure("a very long, unhandy variant", {"width": 2}, node="wide")
    system("a", figures=(wide, Figure("plain")))
    system("b")
    fusion("both", "p/a#wide", "p/a", "p/a#plain", "p/b")
    system("pupil", {"x": registry.Requirement("p/both"), "y": registry.Requirement("p/a")})
    fusion("last", "p/pupil", "p/b")
    assert names("p/last") == ["p/a#wide", "p/a", "p/b", "p/both", "p/pupil", "p/last"]
    assert names("p/a#a very long, unhandy variant") == ["p/a#wide"]
    # The second pass learns from the first: a chain of nodes, no circle.
    first = (Figure("pass 1", {"pass_": 1}), Figure("pass 1; deep", {"pass_": 1, "depth": 2}))
    system("net", taught, first)
    fusion("teacher", "p/net#pass 1", "p/net#pass 1; deep")
    assert names("p/net") == ["p/net#pass 1", "p/net#pass 1; deep", "p/teacher", "p/net"]
    assert names("p/net", pass_=1) == ["p/net"]
    # What is given changes the nodes that do not fix it.
    given = {node.name: node.config for node in registry.resolve("p/both", given={"width": "5"})}
    assert [given[name].width for name in ("p/a#wide", "p/a", "p/b")] == [2, 5, 5]
    system("x", {"y": registry.Requirement("p/y")})
    system("y", {"x": registry.Requirement("p/x")})
    with pytest.raises(UserError, match="need each other: p/x -> p/y -> p/x"):
        registry.resolve("p/x")
    with pytest.raises(UserError, match=r"unknown variant of p/a 'wied' .did you mean 'wide'"):
        registry.find("p/a#wied")


def test_a_fusion_is_a_node_by_its_fields() -> None:
    vote = registry.find("fakepaper/stack2#vote")
    assert isinstance(vote, registry.Fusion)
    assert vote.pool == "frame_vote"
    assert registry.node("fakepaper/stack2#both").key == registry.node("fakepaper/stack2").key
    assert registry.node("fakepaper/stack2#vote").key != registry.node("fakepaper/stack2").key
    with pytest.raises(UserError, match="unknown field of the fusion fakepaper/stack2 'pol'"):
        vote.at({"pol": "clips"})


def test_a_folders_name_is_safe_and_a_nodes_own() -> None:
    node = registry.node("fakepaper/net#first pass; fast")
    other = replace(node, name="fakepaper/net#first pass: fast")
    names = {folder_name(node), folder_name(other)}
    assert len(names) == 2
    assert all(set(name) <= {*"abcdefghijklmnopqrstuvwxyz0123456789._-"} for name in names)
    assert folder_name(registry.node("fakepaper/net#fast")) == "fakepaper.net.fast"


def test_what_is_set_goes_to_the_members_that_have_it(task4_folder: Path, tmp_path: Path) -> None:
    def graph(system: str, **given: Any) -> Graph:
        return Graph(asked(task4_folder, tmp_path, system, set=given))

    rate = "training.learning_rate"
    fusion = graph("fakepaper/teacher", **{rate: "0.5"})
    check_graph(fusion)
    first, fast, _ = fusion.nodes
    assert configs.get(make_plan(fusion.of(first))[0].base_config(), rate) == 0.5
    assert configs.get(make_plan(fusion.of(fast))[0].base_config(), rate) == 0.01
    # A member's space is left as it is but for what the node fixes.
    assert [p.key for p in make_plan(fusion.of(fast))[0].space] == []
    plan, _, _ = make_plan(asked(task4_folder, tmp_path, "fakepaper/net#pass 1"))
    assert [p.key for p in plan.space] == [rate]
    with pytest.raises(UserError, match=r"did you mean 'training.learning_rate'"):
        check_graph(graph("fakepaper/teacher", **{"training.lerning_rate": 0.5}))
    with pytest.raises(UserError, match=r"pass 1, .* fixes it"):
        check_graph(graph("fakepaper/teacher", pass_=2))
    with pytest.raises(UserError, match=f"--set {rate}: fakepaper/net#fast fixes it"):
        make_plan(asked(task4_folder, tmp_path, "fakepaper/net#fast", set={rate: "0.5"}))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, task4_folder: Path) -> Path:
    """The storage root after ``--system fakepaper/stack2``: two passes, uninterrupted."""
    root = tmp_path_factory.mktemp("chain") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE))
        assert not launch(asked(task4_folder, root, "fakepaper/stack2")).interrupted
    return root


TEACH = ("r.fakepaper.net.pass_1-", "r.fakepaper.net.first_pass_fast-", "r.fakepaper.teacher")


def test_a_second_pass_learns_from_models_that_did_not_train_on_the_clip(chain: Path) -> None:
    names = sorted(path.parent.name for path in chain.glob("*/plan.json"))
    scored = {"r", "r.fakepaper.net", "r.fakepaper.net.fast"}
    assert scored < set(names)
    teaching = [name for name in names if name not in scored]
    assert len(teaching) == 3
    assert all(name.startswith(TEACH) for name in teaching)
    # What only teaches opens no test part and makes no final models.
    opened = {row["run"] for row in read_lines(chain / "test_ledger.jsonl")}
    assert opened == scored
    for name in teaching:
        run = RunDir(chain / name)
        assert run.plan.teaches
        assert not run.scores.exists()
        assert not any(trial.refit.exists() for trial in run.trials())
    # The labels of the second pass are the teacher's, whose learner other groups' rows fitted.
    teacher = RunDir(chain / "r.fakepaper.teacher")
    for name in ("r.fakepaper.net", "r.fakepaper.net.fast"):
        said = Predictions.load(chain / name / "required" / "teacher" / "all.npz")
        crossed = Predictions.load(teacher.learner("logreg").out_of_fold)
        place = {clip_id: row for row, clip_id in enumerate(crossed.clip_ids)}
        assert said.clip_scores is not None
        assert crossed.clip_scores is not None
        assert len(said.clip_ids) == 24
        rows = [place[clip_id] for clip_id in said.clip_ids]
        np.testing.assert_array_equal(said.clip_scores, crossed.clip_scores[rows])


class Killed(BaseException):
    """As a kill: nothing handles it."""


def test_a_chain_that_was_killed_in_its_second_pass_goes_on_to_the_same_digits(
    chain: Path, task4_folder: Path, tmp_path: Path, fakepaper: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, calls, train = tmp_path / "runs", [], fakepaper.Second.train

    def killed(self: Any, data: Any, sound: Any, context: Any) -> Any:
        calls.append(len(data.labelled.clip_ids))
        if len(calls) == 3:
            raise Killed
        return train(self, data, sound, context)

    options = asked(task4_folder, root, "fakepaper/stack2")
    with monkeypatch.context() as patch:
        patch.setattr(fakepaper.Second, "train", killed)
        with pytest.raises(Killed):
            launch(options)
    taught = {path: path.stat().st_mtime_ns for path in root.glob("*/trials/*/model/*/model.json")
              if "net.pass_1" in str(path) or "first_pass" in str(path)}  # fmt: skip
    assert len(taught) == 10
    assert not launch(options).interrupted
    assert {path: path.stat().st_mtime_ns for path in taught} == taught
    for name in ("r", "r.fakepaper.net"):
        ours, theirs = (read_json(of / name / "scores.json")["rows"] for of in (root, chain))
        assert [row["metrics"] for row in ours] == [row["metrics"] for row in theirs]


def test_a_run_that_only_taught_goes_on_to_be_scored(
    chain: Path, task4_folder: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(chain, tmp_path / "runs"))
    name = next(path.name for path in root.glob("r.fakepaper.net.pass_1*"))
    options = asked(task4_folder, root, "fakepaper/net#pass 1", trials=1, repeat=True, top_k=1,
                    final="refit", by_fold=False)  # fmt: skip
    graph = Graph(replace(options, name=name))
    from orchestrator.pipeline.graph import Walk

    folder, finished = Walk(graph, Progress()).run(graph.target, name)
    assert finished
    assert folder.scores.exists()
    assert not folder.plan.teaches


def test_a_teacher_speaks_of_unlabelled_clips_and_of_frames(
    chain: Path, task4_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    launch(replace(asked(task4_folder, root, "fakepaper/small", trials=1, repeat=True), name="t"))
    plan, dataset, splits = make_plan(asked(task4_folder, root, "fakepaper/distilled"))
    run = RunDir(root / "pupil")
    with run.drive(), Stop() as stop:
        run.write_plan(replace(plan, required={"teacher": str(root / "t")}))
        prepare(run, Jobs(run, dataset, splits, stop, Progress()), stop, Progress())
    folder = run.path / "required" / "teacher"
    unlabelled = splits.unlabelled["unlabelled"]
    each = []
    for fold, one in enumerate(splits.folds):
        said = Predictions.load(folder / f"fold{fold}.npz")
        assert said.clip_ids == (*one.train, *unlabelled)
        assert said.frame_scores is not None
        assert said.frame_hop > 0
        assert said.clip_scores is not None
        each.append(said.clip_scores[len(one.train) :])
    every = Predictions.load(folder / "all.npz")
    assert every.clip_ids == (*splits.labelled, *unlabelled)
    assert every.clip_scores is not None
    assert every.frame_scores is not None
    assert len(every.frame_scores) == len(every.clip_ids)
    mean = np.mean(each, axis=0)
    np.testing.assert_allclose(every.clip_scores[len(splits.labelled) :], mean, atol=1e-6)
    # Each labelled clip is said by the fold that held it out.
    held = Predictions.load(RunDir(root / "t").trial(0).crossed(0))
    place = {clip_id: row for row, clip_id in enumerate(every.clip_ids)}
    for clip_id, frames in zip(held.clip_ids, held.frame_scores or (), strict=True):
        np.testing.assert_array_equal(every.frame_scores[place[clip_id]], frames)


def test_a_pupil_of_a_fitted_system_is_whole_without_it(task4_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run = launch(asked(task4_folder, root, "fakepaper/onbase", trials=1)).files
    teacher = RunDir(root / "r.fakepaper.small")
    assert teacher.plan.teaches
    assert not teacher.scores.exists()
    bundle = export(run, tmp_path / "bundle")
    shutil.rmtree(teacher.path)
    fitted = Predictor.load(bundle).members[0].first
    assert fitted.about["system"] == "fakepaper/small"  # type: ignore[attr-defined]
    assert fitted.about["config"]["network"]["width"] == 4  # type: ignore[attr-defined]
    dataset, _ = reload(run.plan)
    wav = dataset.source.where(dataset.part("test")[0].clip_id)
    assert Predictor.load(bundle).predict_files([wav])
