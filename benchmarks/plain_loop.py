"""Our training against a plain PyTorch loop with the same network and budget, paired by seed.

Without --fixed: `soundsweep run` searches with each seed, and the best trial's refit on all
labelled clips ("no refinement") is set beside a plain loop over the same clips with that trial's
configuration, as many steps and the same batches' sizes. With --fixed nothing is searched: one
training of a stated size on all labelled clips, ours and plain. With --versus-none both are ours:
VAT as stated against none. All are scored on the test part by scikit-learn's macro F1 at 0.5; test
labels are opened under a ledger of the benchmark's own.

The plain loop: log-mel by librosa, standardised by band; Adam; binary cross-entropy; VAT written
out where the configuration has it.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from measuring import TINY, paired, parse, parser, processes, ready, row, run, scratch
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.distributions import Bernoulli, kl_divergence

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from orchestrator.training.job import Job
from systems import config as configs
from systems.context import Context
from systems.data.dataset import Dataset
from systems.data.prepare import Sound
from systems.errors import UserError
from systems.papers.gcrnn_vat import Config, gcrnn
from systems.training.vat import Vat

AT_LEAST = "at least -0.03"  # of our mean minus the plain loop's
SIZES = {  # option -> configuration key
    "width": "network.width", "epochs": "training.epochs", "steps": "training.steps_per_epoch",
    "epsilon": "vat.epsilon", "xi": "vat.xi", "weight": "vat.weight",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A training: its configuration, how many of its epochs, its seed, and whose it is."""

    config: Config
    epochs: int
    seed: int
    plain: bool


def log_mels(config: Config, store: Sound, ids: Sequence[str], samples: int) -> Tensor:
    """Log-mel [N, 1, F, T] of some clips by librosa, padded or cut to so many samples."""
    c = config.front_end
    features = [
        librosa.feature.melspectrogram(
            y=librosa.util.fix_length(np.array(store[clip_id]), size=samples), sr=c.rate,
            n_fft=c.window, hop_length=c.hop, window=c.window_shape, center=c.center,
            n_mels=c.bands, fmin=c.fmin, fmax=c.fmax or None,
        )
        for clip_id in ids
    ]  # fmt: skip
    return torch.from_numpy(np.log(np.maximum(np.stack(features), c.floor)))[:, None].float()


def batches(
    count: int, size: int, steps: int, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """``steps`` batches of ``size`` indices: shuffled passes over all."""
    passes = [generator.permutation(count) for _ in range(math.ceil(steps * size / count))]
    return iter(
        np.concatenate([*passes, np.zeros(0, np.int64)])[: steps * size].reshape(steps, size)
    )


def plain_vat(network: nn.Module, x: Tensor, vat: Vat) -> Tensor:
    """The VAT loss of features, written out: no dropout, and running statistics that stay."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0

    def divergence(r: Tensor) -> Tensor:
        moved = network(x + r).clip.clamp(1e-6, 1 - 1e-6)
        return kl_divergence(Bernoulli(probs=p), Bernoulli(probs=moved)).sum(1)

    with torch.no_grad():
        p = network(x).clip.clamp(1e-6, 1 - 1e-6)
    d = nn.functional.normalize(torch.randn_like(x).flatten(1)).view_as(x)
    for _ in range(vat.power_iterations):
        d.requires_grad_()
        gradient = torch.autograd.grad(divergence(vat.xi * d).sum(), d)[0]
        d = nn.functional.normalize(gradient.flatten(1), eps=1e-30).view_as(x)
    loss = divergence(vat.epsilon * d).mean()
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return vat.weight * loss


def train_plainly(config: Config, features: Sequence[Tensor], targets: Tensor, steps: int) -> Any:
    """Train on standardised features of labelled and unlabelled clips; the trained network."""
    labelled, unlabelled = features
    generator, t = np.random.default_rng(torch.initial_seed()), config.training
    network = gcrnn(config.network, (1, labelled.shape[2], labelled.shape[3]), targets.shape[1])
    optimiser = torch.optim.Adam(network.parameters(), lr=t.learning_rate)
    rows = batches(len(labelled), t.labelled, steps, generator)
    others = batches(max(len(unlabelled), 1), t.unlabelled, steps, generator)
    for mine, other in zip(rows, others, strict=True):
        clip = network(labelled[mine]).clip.clamp(1e-6, 1 - 1e-6)
        loss = nn.functional.binary_cross_entropy(clip, targets[mine], reduction="sum") / len(mine)
        if config.vat is not None:
            x = torch.cat([labelled[mine], unlabelled[other]]) if len(other) else labelled[mine]
            loss = loss + plain_vat(network, x, config.vat)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def plain_scores(task: Task, job: Job) -> np.ndarray:
    """Clip scores [N, K] of the test part after a plain loop."""
    config, data, store = task.config, job.refit, job.sounds(task.config)["audio"]
    longest = max(len(store[i]) for i in data.labelled.clip_ids)
    samples = min(round(config.clip_seconds * config.front_end.rate), longest)
    used = data.unlabelled["unlabelled"].clip_ids if config.training.unlabelled else ()
    parts = [
        log_mels(config, store, ids, samples) if ids else torch.zeros(0)
        for ids in (data.labelled.clip_ids, used, job.test)
    ]
    mean = parts[0].mean((0, 3), keepdim=True)
    deviation = parts[0].std((0, 3), keepdim=True)
    parts = [(x - mean) / deviation if len(x) else x for x in parts]
    torch.manual_seed(task.seed)
    targets = torch.as_tensor(data.labelled.targets)
    steps = task.epochs * config.training.steps(len(targets))
    network = train_plainly(config, parts[:2], targets, steps)
    with torch.inference_mode():
        return np.concatenate([network(x).clip.numpy() for x in parts[2].split(30)])


def our_scores(task: Task, job: Job) -> np.ndarray:
    """Clip scores [N, K] of the test part after our training."""
    context = Context(seed=task.seed, threads=1, last_step=task.epochs)
    system = job.plan.entry().build(task.config)
    sound = job.sounds(task.config)
    predicted = system.train(job.refit, sound, context).predict(job.test, sound, context)
    assert predicted.clip_scores is not None
    return predicted.clip_scores


def trained(task: Task, job: Job) -> tuple[np.ndarray, float]:
    """A task's clip scores and the seconds that it took; it runs in a pool's process."""
    torch.set_num_threads(1)
    began = time.monotonic()
    scores = plain_scores(task, job) if task.plain else our_scores(task, job)
    return scores, time.monotonic() - began


def all_trained(tasks: Sequence[Task], job: Job, at_once: int) -> list[np.ndarray]:
    """The scores of all tasks, trained several at a time."""
    with processes(at_once) as pool:
        done = list(pool.map(trained, tasks, [job] * len(tasks)))
    for name, plain in (("ours", False), ("plain", True)):
        took = [seconds for task, (_, seconds) in zip(tasks, done, strict=True)
                if task.plain == plain]  # fmt: skip
        if took:
            row(f"seconds a training, {name} (median)", f"{statistics.median(took):.1f} s")
    return [scores for scores, _ in done]


def test_f1(dataset: Dataset, root: Path) -> Callable[[np.ndarray], float]:
    """Clip scores [N, K] of the test part -> macro F1; the opening is in a ledger in ``root``."""

    def record() -> None:
        with open(root / "test_ledger.jsonl", "a", encoding="utf-8") as ledger:
            ledger.write('{"benchmark": "plain_loop"}\n')

    assert dataset.test_part is not None
    ids = tuple(clip.clip_id for clip in dataset.part(dataset.test_part))
    labels = dataset.open_sealed(dataset.test_part, record)
    targets = labels.tag_matrix(ids, dataset.classes)

    def score(scores: np.ndarray) -> float:
        return float(f1_score(targets, scores > 0.5, average="macro", zero_division=0))

    return score


def search(given: argparse.Namespace, seed: int, root: Path) -> RunDir:
    """A whole run of the command line with a seed."""
    command = [
        sys.executable, "-m", "orchestrator.run", "run", "--system", given.system, "--seed",
        str(seed), "--trials", str(given.trials), "--budget", given.budget, "--gpus-per-trial", "0",
        "--concurrency", str(given.concurrency), "--stack", "none", "--top-k", "1",
        "--final", "refit",
        "--storage", str(root), "--name", f"seed{seed}",
    ]  # fmt: skip
    for option, value in (("--dataset", given.dataset), ("--data", given.data)):
        command += [option, value] if value else []
    for text in sizes(given):
        command += ["--set", text]
    log = root / f"seed{seed}.txt"
    with open(log, "w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = log.read_text()[-2000:]
        raise UserError(f"soundsweep run --seed {seed} ended with {done.returncode}:\n{said}")
    return RunDir(root / f"seed{seed}")


def searched(given: argparse.Namespace, seed: int, root: Path) -> tuple[Task, float]:
    """After a search: the plain loop's task, and the test score of the best trial's refit."""
    folder = search(given, seed, root)
    plan, results = folder.plan, read_json(folder.results)
    (member,) = read_json(folder.members)["members"]
    params = read_json(folder.trial(member["trial"]).config)["params"]
    (score,) = [
        test_row["metrics"]["clip_macro_f1"]["value"]
        for test_row in results["test"]["rows"]
        if test_row["trial"] == member["trial"] and test_row["variant"] == "no refinement"
    ]
    return Task(plan.trial_config(params), member["last_step"], seed, True), score


def sizes(given: argparse.Namespace) -> list[str]:
    """What the options set, as --set takes it."""
    values = {key: getattr(given, option) for option, key in SIZES.items()}
    return [*given.set, *(f"{key}={value}" for key, value in values.items() if value is not None)]


def after_search(given: argparse.Namespace, root: Path) -> None:
    """Our refitted best against the plain loop."""
    found = [searched(given, seed, root) for seed in range(given.seeds)]
    _, job, dataset = ready(given, root, budget=given.budget, name="plain")
    scores = all_trained([task for task, _ in found], job, given.concurrency)
    score = test_f1(dataset, root)
    what = f"{given.system} on {dataset.name}, best of {given.trials} trials"
    ours, plain = [value for _, value in found], list(map(score, scores))
    show(what, "our refit", ours, "plain loop", plain, AT_LEAST)


def fixed(given: argparse.Namespace, root: Path) -> None:
    """Single trainings at one budget: ours against the plain loop, or VAT against none."""
    _, job, dataset = ready(given, root, budget=given.budget, set=sizes(given), name="fixed")
    config = job.plan.trial_config(job.plan.first_trial)
    epochs = config.training.epochs
    ours = [Task(config, epochs, seed, False) for seed in range(given.seeds)]
    if given.versus_none:
        if config.vat is None:
            raise UserError(f"{given.system} has no VAT to compare with none: take gcrnn_vat.")
        names, target = ("VAT", "none"), "above 0"
        without = configs.replace(config, {"vat": None, "training.unlabelled": 0})
        others = [Task(without, epochs, seed, False) for seed in range(given.seeds)]
    else:
        names, target = ("ours", "plain loop"), AT_LEAST
        others = [Task(config, epochs, seed, True) for seed in range(given.seeds)]
    scores = all_trained([*ours, *others], job, given.concurrency)
    score = test_f1(dataset, root)
    values = list(map(score, scores))
    what = f"{given.system} on {dataset.name}, {epochs} epochs"
    show(what, names[0], values[: given.seeds], names[1], values[given.seeds :], target)


def show(
    what: str, name: str, ours: Sequence[float], other_name: str, others: Sequence[float],
    target: str,
) -> None:  # fmt: skip
    """Both figures by seed, and the claim."""
    print(f"{what}: test clip macro F1")
    row("seed", name, other_name)
    for seed, (a, b) in enumerate(zip(ours, others, strict=True)):
        row(f"{seed}", f"{a:.3f}", f"{b:.3f}")
    means = statistics.fmean(ours), statistics.fmean(others)
    row("mean", *(f"{mean:.3f}" for mean in means))
    difference, error = paired(ours, others)
    print(f"FIGURE mean difference {name} - {other_name}: {difference:+.3f}, standard error "
          f"{error:.3f}, {len(ours)} seeds (target: {target})")  # fmt: skip
    if means[1] > 0:
        print(f"RATIO {name} over {other_name}, means: {means[0] / means[1]:.3f}")


def main() -> None:
    made = parser(__doc__, "gcrnn_vat")
    mode = made.add_mutually_exclusive_group()
    mode.add_argument("--fixed", action="store_true", help="single trainings instead of a search")
    mode.add_argument("--versus-none", action="store_true", help="VAT against none, both ours")
    made.add_argument("--seeds", type=int, default=5, help="pairs, with seeds 0, 1, ... (def. 5)")
    made.add_argument("--trials", type=int, default=8, help="trials of a search (default: 8)")
    made.add_argument("--budget", default="quick", help="quick, paper or a factor (default: quick)")
    made.add_argument("--width", type=int, help="filters of the network (default: the budget's)")
    made.add_argument("--epochs", type=int, help="epochs of a training (default: the budget's)")
    made.add_argument("--steps", type=int, help="steps of an epoch (default: the budget's)")
    for name in ("epsilon", "xi", "weight"):
        made.add_argument(f"--{name}", type=float, help=f"of VAT: {name} (default: the budget's)")
    made.add_argument(
        "--concurrency", type=int, default=2, help="trainings at once, a core each (default: 2)"
    )
    made.set_defaults(set=())
    given = parse(made, {"seeds": 1, "trials": 2, "epochs": 3, "set": TINY})
    with scratch() as root:
        if given.fixed or given.versus_none:
            fixed(given, Path(root))
        else:
            after_search(given, Path(root))


if __name__ == "__main__":
    run(main)
