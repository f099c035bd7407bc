"""How often a night flags a regression where only seeds differ, and where something got worse.

*Trained*: one configuration is trained with many seeds (a pool), by the real way of a run on the
embedded data; nights are drawn from the pool: three references, then tonight's training and three
more. With nothing changed a flag is a false alarm. What got worse is a second pool: the same
configuration at a share of its learning rate, which stands for code that trains less well.

*Made*: trainings are drawn anew for each night. A clip is classified rightly with a probability
whose logit is the clip's own, plus one of the training (the scatter of seeds), plus one of both.
What got worse is lower by a multiple of the seeds' scatter.

    python benchmarks/nightly_alarms.py --what made        # 100 nights of each kind, a minute
    python benchmarks/nightly_alarms.py --what trained

Beside the rule stand two that are easier to think of: the paired bootstrap alone, and three seeds
against the best of eight trainings (as if the search's winner were the reference).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measuring import parse, parser, row, run, scratch

from orchestrator.console.progress import Progress
from orchestrator.nightly.check import CONFIRMING, EVERY, REFERENCES, confirms, screen
from orchestrator.pipeline.begin import begin
from orchestrator.plan.options import Options
from orchestrator.plan.stage import StageSettings
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.counts import load_counts
from orchestrator.runs.rundir import RunDir
from systems.metrics import metric

SMALL = {
    "network.width": 8, "network.recurrent_units": 8, "front_end.hop": 1328, "front_end.bands": 32,
    "training.steps_per_epoch": 10, "training.epochs": 5, "training.learning_rate": 0.01,
}  # fmt: skip
CLIPS = 200  # of made nights
WINNER_OF = 8  # trainings of which the best stands for a search's winner


class Pool(NamedTuple):
    """Trainings that differ in their seeds: counts [N, ...] of each, and the clips' groups."""

    metric: str
    counts: list[np.ndarray]
    groups: tuple[str, ...]

    def values(self, drawn: Iterable[int]) -> list[float]:
        return [metric(self.metric).value(self.counts[n]) for n in drawn]


def trained(root: Path, name: str, system: str, seeds: int, changes: dict[str, float]) -> Pool:
    """A pool, out of fold, as the retrainings of a night are made."""
    plan, dataset, splits = make_plan(
        Options(
            system=system, name=name, storage=str(root), budget="paper", stack="none",
            set={**SMALL, **changes}, trials=seeds, repeat=True, mlflow="none", ray_address="none",
            gpus_per_trial=0.0,
        )
    )  # fmt: skip
    plan = replace(plan, teaches=True, stage=StageSettings(top_k=EVERY), halving=None)
    folder = RunDir(root / name)
    begin(folder, plan, dataset, splits, Progress())
    stored = load_counts(folder.validation_counts)
    counts = [one.counts[plan.metric] for one in stored.rows]
    return Pool(plan.metric, counts, stored.groups)


def made(
    count: int, ease: np.ndarray, scatter: float, lower: float, r: np.random.Generator
) -> Pool:
    """Trainings whose counts of right clips are drawn.

    Args:
        count: of trainings.
        ease: logit of each clip [N].
        scatter: standard deviation of the trainings' logits.
        lower: what is taken from all logits.
        r: where draws come from.
    """
    counts = []
    for _ in range(count):
        logit = ease + scatter * r.normal() + 0.7 * r.normal(size=len(ease)) - lower
        right = r.random(len(ease)) < 1 / (1 + np.exp(-logit))
        counts.append(np.stack([right, np.ones_like(right)], axis=-1)[:, None].astype(np.int64))
    return Pool("accuracy", counts, tuple(map(str, range(len(ease)))))


class Night(NamedTuple):
    """What three rules say of a night."""

    rule: bool
    bootstrap_alone: bool
    against_winner: bool


def night(before: Pool, tonight: Pool, r: np.random.Generator) -> Night:
    """A night drawn from two pools, which may be one."""
    order = r.permutation(len(before.counts))
    references = order[:REFERENCES]
    new = order[REFERENCES:] if tonight is before else r.permutation(len(tonight.counts))
    new = new[: 1 + CONFIRMING]
    _, worse = screen(
        before.metric, [before.counts[n] for n in references], tonight.counts[new[0]],
        before.groups,
    )  # fmt: skip
    confirmed = confirms(before.metric, before.values(references), tonight.values(new[1:]))
    winner = max(order[-WINNER_OF:], key=lambda n: before.values([n])[0])
    about = metric(before.metric).difference
    lost = about(tonight.counts[new[0]], before.counts[winner], before.groups)
    below = max(tonight.values(new[1:])) < before.values([winner])[0]
    return Night(worse and confirmed, worse, (lost.high or 0.0) < 0 and below)


def made_nights(given: argparse.Namespace) -> None:
    """Nights whose trainings are drawn anew."""
    row("made", "accuracy", "sd of seeds", "rule", "bootstrap", "vs winner")
    for scatter in (0.1, 0.3, 0.8):
        for times in (0, 2, 5):
            found, values = [], []
            lower = times * max(scatter, 0.15)
            for number in range(given.nights):
                r = np.random.default_rng([number, times, round(10 * scatter)])
                ease = r.normal(1.0, 1.5, size=CLIPS)
                before = made(REFERENCES + 1 + CONFIRMING + WINNER_OF, ease, scatter, 0, r)
                tonight = before
                if times:
                    tonight = made(1 + CONFIRMING, ease, scatter, lower, r)
                values.append(before.values(range(len(before.counts))))
                found.append(night(before, tonight, r))
            about = f"scatter {scatter:g}, lower by {lower:g}"
            spread = np.mean([np.std(one, ddof=1) for one in values])
            tell(about, float(np.mean(values)), float(spread), found, alike=not times)


def tell(name: str, mean: float, sd: float, found: Sequence[Night], *, alike: bool) -> None:
    """A row, and the rule's figure."""
    flagged = [sum(one) for one in zip(*found, strict=True)]
    row(name, f"{mean:.3f}", f"{sd:.3f}", *map(str, flagged))
    target = " (target: at most 9)" if alike else ""
    print(f"FIGURE nights flagged, {name}: {flagged[0]} of {len(found)}{target}", flush=True)


def trained_nights(given: argparse.Namespace) -> None:
    """Nights that are drawn from pools of real trainings."""
    with scratch() as folder:
        root = Path(folder)
        pool = trained(root, "same", given.system, given.pool, {})
        pools = {"only seeds differ": pool}
        for share in map(float, given.worse.split(",")):
            rate = share * SMALL["training.learning_rate"]
            pools[f"learning rate times {share:g}"] = trained(
                root, f"worse{share:g}", given.system, given.pool // 2,
                {"training.learning_rate": rate},
            )  # fmt: skip
    row("trained", "mean", "sd of seeds", "rule", "bootstrap", "vs winner")
    for name, tonight in pools.items():
        r = np.random.default_rng(0)
        found = [night(pool, tonight, r) for _ in range(given.nights)]
        values = tonight.values(range(len(tonight.counts)))
        tell(name, float(np.mean(values)), float(np.std(values, ddof=1)), found,
             alike=tonight is pool)  # fmt: skip


def main() -> None:
    made_ = parser(__doc__, "gcrnn_vat/gcrnn")
    made_.add_argument("--what", default="made,trained", help="kinds of nights, by comma")
    made_.add_argument("--pool", type=int, default=32, help="trainings of a pool (default: 32)")
    made_.add_argument("--nights", type=int, default=100, help="nights of a kind (default: 100)")
    made_.add_argument("--worse", default="0.05", help="shares of the learning rate, by comma")
    given = parse(made_, {"pool": 16, "nights": 10})
    for what in given.what.split(","):
        {"made": made_nights, "trained": trained_nights}[what](given)


if __name__ == "__main__":
    run(main)
