"""The benchmarks run, and what they compute and compare with is right; their figures mean nothing
at these sizes."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from command import PATIENCE

from systems.outputs import Outputs
from systems.papers.gcrnn_vat import Config, GcrnnConfig, gcrnn
from systems.training.losses import CrossEntropy, LogitBce, OneMinusPcc, Step
from systems.training.vat import Vat, vat_loss

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The module of a benchmark, as running it imports it."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(request.param)


@pytest.mark.all
@pytest.mark.parametrize(
    ("script", "claims"),
    [
        ("sweep_overhead.py", ["sweep over process pool, all trainings"]),
        ("noop_trials.py", ["ours over Ray Tune alone", "exponent of seconds a sweep"]),
        ("input_pipeline.py", ["store and input pipeline over epoch", "plain loop's seconds"]),
        ("memory.py", ["store's memory in 2 processes", "store's memory in 4 processes"]),
        ("stage_two.py", ["exact event thresholds", "ensemble selection", "logistic regression"]),
        (
            "null_claims.py --what copies --only mean,exact",
            ["tags mean claims", "tags exact claims"],
        ),
        ("null_claims.py --what noise,groups", ["noise events, now", "groups class 60, now"]),
        ("trained_noise.py", ["tags, runs with a claim", "series, runs with a claim"]),
        ("nightly_alarms.py", ["nights flagged, only seeds differ"]),
        ("scale.py", ["ask, report, tell and MLflow over a trial", "exponent of seconds a sweep"]),
        ("scale.py --parts", ["exponent of seconds of splits over clips"]),
        ("interval_coverage.py", ["accuracy, no groups, covered", "AUC, 10 groups of 12, null cl"]),
        ("plain_loop.py", ["mean difference our refit - plain loop"]),
        ("plain_loop.py --fixed", ["mean difference ours - plain loop"]),
        ("plain_loop.py --versus-none", ["mean difference VAT - none"]),
    ],
)
def test_a_benchmark_states_its_claims(script: str, claims: list[str], task4_folder: Path) -> None:
    name, *options = script.split()
    command = [sys.executable, str(BENCHMARKS / name), *options, "--smoke"]
    done = subprocess.run(
        [*command, "--data", str(task4_folder)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    for claim in claims:
        value = r"([+-]?\d+\.\d+|\d+ of \d+|\w+ \d+\.\d+)"  # a number, a count, a list of numbers
        line = rf"^(RATIO|FIGURE) +{re.escape(claim)}.*: {value}"
        assert re.search(line, done.stdout, re.MULTILINE), done.stdout
    if name == "sweep_overhead.py":  # both ways train the same
        assert re.search(r"trainings of equal best value +3/3", done.stdout), done.stdout
    if name == "memory.py":  # a copy a process would give 2 and 4
        for count in (2, 4):
            found = re.search(rf"memory in {count} processes over one: (\S+)", done.stdout)
            assert found is not None
            assert float(found[1]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.all
def test_the_training_rate_of_each_network_is_stated() -> None:
    command = [sys.executable, str(BENCHMARKS / "training_rate.py"), "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    found = re.findall(r"^RATIO .*, (\w+)/\w+: \d+\.\d+", done.stdout, re.MULTILINE)
    assert len(set(found)) == 5, done.stdout


@pytest.mark.parametrize("benchmark", ["training_rate"], indirect=True)
def test_the_plain_loops_losses_are_ours(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    said, y, w = torch.randn(4, 3), torch.eye(4, 3), torch.rand(4)
    outputs, network = Outputs(clip=said), torch.nn.Identity()
    ours = CrossEntropy()(Step(network, said, y, outputs, None, w))
    assert benchmark.loss_of(outputs, y, w).item() == pytest.approx(ours.item(), rel=1e-5)
    ours = LogitBce()(Step(network, said, y, outputs, None))
    assert benchmark.loss_of(outputs, y, w, True).item() == pytest.approx(ours.item(), rel=1e-5)
    said, y = torch.randn(4, 20, 2), torch.randn(4, 20, 2)
    outputs = Outputs(frames=said)
    ours = OneMinusPcc()(Step(network, said, y, outputs, None))
    assert benchmark.loss_of(outputs, y, w).item() == pytest.approx(ours.item(), rel=1e-5)


def test_a_mistake_is_one_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "input_pipeline.py"), "--data", str(tmp_path / "none")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("benchmark", ["measuring"], indirect=True)
def test_paired_differences(benchmark: ModuleType) -> None:
    mean, error = benchmark.paired([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(0.1 / 3**0.5)
    assert benchmark.paired([0.5], [0.4]) == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize("benchmark", ["noop_trials"], indirect=True)
def test_the_exponent_of_a_power_law(benchmark: ModuleType) -> None:
    trials = [100, 300, 1000]
    assert benchmark.exponent(trials, [0.01 * n**1.3 for n in trials]) == pytest.approx(1.3)


@pytest.mark.parametrize("benchmark", ["sweep_overhead"], indirect=True)
def test_the_parts_of_a_wall_time(benchmark: ModuleType) -> None:
    done = [benchmark.Training(12, 42, 0, 1), benchmark.Training(13, 45, 0, 1),
            benchmark.Training(42, 70, 0, 1)]  # fmt: skip
    wall = benchmark.Wall.of(10, done, 71, 2)
    assert (wall.startup, wall.trainings, wall.last_slot, wall.whole) == (2, 58, 25, 61)


@pytest.mark.parametrize("benchmark", ["plain_loop"], indirect=True)
def test_the_plain_loop_has_our_vat_loss(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    network = gcrnn(GcrnnConfig(width=4, blocks=2, recurrent_units=4, dropout=0.5), (1, 16, 12), 3)
    x, vat = torch.randn(4, 1, 16, 12), Vat(epsilon=2.0, xi=0.1, power_iterations=2, weight=0.5)
    before = {key: value.clone() for key, value in network.named_buffers()}
    torch.manual_seed(1)
    plain = benchmark.plain_vat(network, x, vat)
    torch.manual_seed(1)
    ours = vat.weight * vat_loss(network, x, vat)
    assert plain.item() == pytest.approx(ours.item(), rel=1e-3)
    for key, value in network.named_buffers():
        if "running" in key:
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("benchmark", ["plain_loop"], indirect=True)
def test_the_plain_loop_learns(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    targets = torch.eye(2).repeat(10, 1)
    features = torch.randn(20, 1, 8, 6) + 3 * targets[:, :1, None, None]
    config = Config(
        network=GcrnnConfig(width=4, blocks=1, recurrent_units=4, dropout=0.0), vat=None
    )
    network = benchmark.train_plainly(config, (features, torch.zeros(0)), targets, 60)
    with torch.inference_mode():
        decided = network(features).clip.numpy() > 0.5
    assert np.mean(decided == targets.numpy().astype(bool)) > 0.9
