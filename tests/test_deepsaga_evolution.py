"""Genomes as networks, what a genome is ranked by, and an evolution by the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import HERE, in_process
from faulted import KILLED, fault, faulty
from made_sets import scenes
from torch import nn

import search_spaces
from orchestrator.members.rows import best_place, members_of, selected_value
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.learners.votes import shares
from orchestrator.tracking.views import read_views
from search_spaces.evolution import Evolution
from systems import config as configs
from systems import registry
from systems.errors import Impossible, UserError
from systems.papers.deepsaga_evolution import Config, Decoded, bundles, decode, score

ENTRY = registry.get("deepsaga_evolution")
SHAPE = (1, 100, 48)


def changed(**genes: Any) -> Config:
    return configs.replace(Config(), {key.replace("__", "."): v for key, v in genes.items()})


def maps(network: Decoded, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """What each convolution and pool gives: channels, time, mel, as the paper prints it."""
    found: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d):
            module.register_forward_hook(
                lambda _, __, y: found.append((y.shape[1], y.shape[3], y.shape[2]))
            )
    network.eval()(torch.zeros(1, *shape, device=next(network.parameters()).device))
    return found


def test_the_published_genome_has_the_printed_shapes_and_parameters() -> None:
    """Two convolutions 2,450 and 684,763, the dense layer 1,640, norms 100 and 326."""
    network = decode(Config(), SHAPE, 10)
    assert maps(network, SHAPE) == [(50, 48, 15), (50, 36, 14), (163, 34, 5), (163, 33, 4)]
    parts = nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.BatchNorm1d
    counts = [sum(p.numel() for p in m.parameters()) for m in network.modules()
              if isinstance(m, parts)]  # fmt: skip
    assert sorted(counts) == [100, 326, 1_640, 2_450, 684_763]
    assert sum(counts) == ENTRY.parameters == 689_279


def test_a_clip_gives_the_papers_sequences() -> None:
    """469 frames of 10 s; 48 of them every 24."""
    system = ENTRY.build(Config())
    assert system.front_end.frames(480_000) == 469
    assert system.shape(system.length) == SHAPE
    starts = system.excerpts.starts(469, system.length)
    assert starts == tuple(range(0, 18 * 24, 24))
    other = ENTRY.build(changed(training__frames=101))
    assert np.diff(other.excerpts.starts(469, other.length)).tolist() == [50] * 7


def test_kernels_and_pools_are_clipped_to_their_maps() -> None:
    """Of 3 x 5 (mel x time) with a zero around: a kernel of 9 x 9 becomes 5 x 7, one value is left
    for a pool of 4 x 4."""
    genome = changed(conv__bundles=1, conv__bundle_1__kernel_t=9, conv__bundle_1__kernel_m=9,
                     conv__bundle_1__stride_m=1, conv__bundle_1__pool_t=4,
                     conv__bundle_1__pool_m=4)  # fmt: skip
    ((row, values),) = bundles(genome, (1, 3, 5))
    assert (row.kernel, row.pool, values) == ((5, 7), (1, 1), 50)
    assert maps(decode(genome, (1, 3, 5), 2), (1, 3, 5)) == [(50, 1, 1)]


def test_every_genome_is_a_network_or_is_refused() -> None:
    """Random ones of the whole space, on sequences of their own length."""
    space = search_spaces.load(ENTRY.address, ENTRY.config, "tut2018", "uar")
    evolution = Evolution(space, 300, 0, space.published(ENTRY.config))
    refused = 0
    for number in range(120):
        child = evolution.child([], number)
        assert child is not None
        genes = {k: v for k, v in child.genome.items() if not k.startswith("evolution.")}
        config = configs.replace(ENTRY.config, genes)
        shape = (1, 100, config.training.frames)
        try:
            with torch.device("meta"):
                network = decode(config, shape, 10)
                assert network(torch.zeros(2, *shape)).clip.shape == (2, 10)
        except Impossible:
            refused += 1
            continue
        channels, *rest = network.convs.out
        wide = channels if config.structure.last == "gap" else channels * rest[0] * rest[1]
        linear = [m for m in network.dense if isinstance(m, nn.Linear)]
        assert linear[0].in_features == wide
        assert len(linear) == 1 + config.structure.hidden
        convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        assert len(convs) == config.conv.bundles
    assert 0 < refused < 60


def test_a_network_that_is_too_large_is_refused_before_it_takes_memory() -> None:
    huge = changed(structure__last="flatten", structure__hidden=1, dense_1__neurons=10**9)
    with pytest.raises(Impossible, match=r"parameters.*structure\.most_parameters"):
        decode(huge, SHAPE, 10)
    with pytest.raises(Impossible, match="maps of 63,710 values"):  # 50 * 48 * 15 + 163 * 34 * 5
        decode(changed(structure__most_values=1), SHAPE, 10)


def test_norm_and_dropout_stand_where_they_are_asked_to() -> None:
    def kinds(config: Config) -> list[str]:
        network = decode(config, SHAPE, 10)
        return [type(m).__name__ for m in network.convs.blocks[0].convolutions[0]]

    assert kinds(Config()) == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout"]
    listed = changed(structure__norm_first=True)
    assert kinds(listed) == ["BatchNorm2d", "Dropout", "Conv2d", "ReLU"]
    dense = changed(structure__hidden=2, dense_1__norm=True, dense_2__activation="selu",
                    output__norm=False)  # fmt: skip
    assert [type(m).__name__ for m in decode(dense, SHAPE, 10).dense] == [
        "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear", "SELU", "Dropout", "Dropout", "Linear"
    ]  # fmt: skip


def test_a_genomes_width_is_a_share() -> None:
    network = decode(changed(structure__width=0.1), SHAPE, 10)
    assert [shape[0] for shape in maps(network, SHAPE)] == [5, 5, 16, 16]


def test_the_score_by_hand() -> None:
    """0.728 in 40 of 100 epochs: 0.71344 + 0.012."""
    assert score(0.728, 40, 100) == pytest.approx(0.72544)
    assert score(1.0, 0, 100) == 1.0
    assert score(0.5, 100, 100) == 0.49


def test_higher_ranks_have_more_votes_and_break_ties() -> None:
    fusion = registry.find("deepsaga_evolution/population_vote")
    assert isinstance(fusion, registry.Fusion)
    assert len(fusion.members) == 10
    votes = np.array(fusion.settings["weights"], float)
    assert votes.tolist() == list(range(10, 0, -1))
    # 10 + 9 + 8 = 27 of 55 votes for class 1; the other seven, 28, for class 0.
    scores = np.zeros((2, 10, 2))
    scores[0, :3, 1] = scores[0, 3:, 0] = 1.0
    scores[1, :3, 1] = 1.0
    scores[1, 3:9, 0] = 1.0  # 7 + 6 + 5 + 4 + 3 + 2 = 27, without the last voter
    found = shares(scores, True, votes / votes.sum(), "first").argmax(axis=1)
    assert found[0] == 0
    nine = shares(scores[1:, :9], True, votes[:9] / votes[:9].sum(), "first").argmax(axis=1)
    assert nine[0] == 1  # 27 against 27: the best-ranked voter's class


def test_a_genome_that_no_one_can_build_is_named() -> None:
    with pytest.raises(UserError, match="peak"):
        changed(training__schedule__peak=1e-4)


SMALL = (
    "--budget", "quick", "--protocol", "paper", "--max-epochs", "4", "--trials", "10", "--set",
    "training.steps_per_epoch=2", "--set", "front_end.rate=8000", "--set", "training.patience=2",
    "--set", "structure.width=0.05", "--mlflow", "none", "--storage", "runs", "--name", "it",
)  # fmt: skip
MEMBER = "it.deepsaga_evolution.deepsaga_cnn"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of noise, five places to learn from."""
    root = tmp_path_factory.mktemp("scenes")
    scenes(root, "a", 1)
    return root


@pytest.fixture(scope="module")
def voted(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage root of the vote of ten genomes, and of the run that found them."""
    cwd = tmp_path_factory.mktemp("voted")
    in_process("run", "--system", "deepsaga_evolution/population_vote", "--data", str(made), *SMALL,
               *HERE, cwd=cwd, check=True)  # fmt: skip
    return cwd / "runs"


def test_trials_are_ranked_by_their_score(voted: Path) -> None:
    run = RunDir(voted / MEMBER)
    results = read_json(run.results)
    assert results["run"]["sampler"]["kind"] == "evolution"
    assert results["run"]["halving"] is None
    for trial in results["trials"]:
        result = read_json(run.trial(trial["number"]).result)
        expected = 0.98 * result["value"] + 0.02 * (4 - trial["steps"]) / 4
        assert trial["value"] == result["value"]
        assert trial["score"] == result["score"] == pytest.approx(expected)
    assert any(trial["steps"] < 4 for trial in results["trials"])  # stopped early, and so rewarded
    order = sorted(results["trials"], key=lambda t: (-t["score"], t["number"]))
    assert [m["trial"] for m in results["members"]] == [t["number"] for t in order]
    assert [m["selected_value"] for m in results["members"]] == [t["score"] for t in order]
    best = order[0]
    assert f"Trial {best['number']} has the best validation score" in page(run)


def test_the_ten_best_vote_in_their_order(voted: Path) -> None:
    plan, scores = RunDir(voted / "it").plan, read_json(voted / "it/stack/vote/scores.json")
    member = read_json(voted / MEMBER / "results.json")
    assert [ref.trial for ref in plan.members] == [m["trial"] for m in member["members"]]
    weights = scores["weights"]["members"]
    assert weights == pytest.approx([w / 55 for w in range(10, 0, -1)])


def page(run: RunDir) -> str:
    return (run.report / "index.html").read_text(encoding="utf-8")


def test_report_and_mlflow_show_lineage_and_score(voted: Path) -> None:
    run = RunDir(voted / MEMBER)
    results = read_json(run.results)
    text = page(run)
    assert '<h3 id="lineage">' in text
    assert "0.98 accuracy + 0.02" in text
    assert (run.report / "lineage.png").stat().st_size > 1000
    lines = (run.report / "lineage.csv").read_text().splitlines()
    assert lines[0] == "trial,generation,by,parents,score,state,crossover,mutation"
    assert len(lines) == 11
    views = {v.key: v for v in read_views(run, driving=False)}
    for trial in results["trials"]:
        view, told = views["trial", str(trial["number"])], trial["lineage"]
        assert view.tags["soundsweep.lineage.generation"] == str(told["generation"])
        assert view.tags["soundsweep.lineage.parents"] == str(told["parents"])
        assert view.metrics["objective"] == trial["score"]
        assert view.metrics["uar"] == trial["value"]
    best = max(results["trials"], key=lambda t: (t["score"], -t["number"]))
    assert views["run", ""].metrics["objective"] == best["score"]
    assert views["run", ""].metrics["search/best_trial"] == best["number"]


def genomes(run: RunDir) -> list[Any]:
    keys = ("number", "state", "params", "lineage", "value", "score", "steps")
    return [[trial[key] for key in keys] for trial in read_json(run.results)["trials"]]


def test_killed_within_a_generation_it_goes_on_to_the_same_genomes(
    voted: Path, made: Path, tmp_path: Path
) -> None:
    """The driver is killed in the second of generation 1."""
    asked = (
        "run", "--system", "deepsaga_evolution", "--data", str(made), "--stack", "none", *SMALL,
        *HERE,
    )  # fmt: skip
    done = faulty(tmp_path, asked, fault("*/trials/00005/*/checkpoint.pt.new", 2, "kill"))
    assert done.code == KILLED, done.output
    run = RunDir(tmp_path / "runs" / "it")
    in_process("run", "--resume", "it", "--storage", "runs", cwd=tmp_path, check=True)
    whole = genomes(RunDir(voted / MEMBER))
    assert genomes(run) == whole
    generation = [trial[3]["generation"] for trial in whole]
    assert generation[4:7] == [1, 1, 2]


@pytest.mark.all
def test_two_at_once_on_ray_are_the_same(voted: Path, made: Path, tmp_path: Path) -> None:
    """Killed too, while both of a generation run."""
    asked = ["run", "--system", "deepsaga_evolution", "--data", str(made), "--stack", "none"]
    asked += [*SMALL, "--concurrency", "2"]
    done = faulty(
        tmp_path, tuple(asked), fault("*/trials/00005/*/checkpoint.pt.new", 2, "kill driver")
    )
    assert done.code == KILLED, done.output
    done = faulty(tmp_path, ("run", "--resume", "it", "--storage", "runs"))
    assert done.code == 0, done.output
    assert genomes(RunDir(tmp_path / "runs" / "it")) == genomes(RunDir(voted / MEMBER))


def test_a_genome_too_large_ends_its_trial_with_the_cause(made: Path, tmp_path: Path) -> None:
    """It has score 0, and blames no machine."""
    in_process("run", "--system", "deepsaga_evolution", "--data", str(made), "--stack", "none",
               *SMALL, *HERE, "--trials", "6", "--set", "structure.most_parameters=4000",
               cwd=tmp_path)  # fmt: skip
    results = read_json(tmp_path / "runs" / "it" / "results.json")
    over = [trial for trial in results["trials"] if trial["state"] == "diverged"]
    assert len(results["trials"]) == 6
    assert over
    assert all("parameters" in trial["cause"] for trial in over)
    assert all(trial["score"] is None for trial in over)


def test_the_best_member_is_by_score_where_all_have_one(
    voted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(voted / MEMBER)
    told: dict[int, dict[str, float]] = {
        0: {"value": 0.5, "score": 0.51}, 1: {"value": 0.51, "score": 0.5}
    }  # fmt: skip
    monkeypatch.setattr("orchestrator.members.rows._result", lambda member: told[member.number])
    members = members_of(run, [0, 1])
    assert best_place(members, run.plan) == 0
    assert [selected_value(member) for member in members] == [0.51, 0.5]
    del told[0]["score"]
    assert best_place(members, run.plan) == 1
