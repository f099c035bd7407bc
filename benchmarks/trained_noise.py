"""How often a sweep claims a gain on sounds and labels between which there is nothing.

White noise of a second (recordings: of twelve seconds) with labels that are drawn: tags, a class,
events, a series. Each run is the whole of ``soundsweep run``: four trials of three epochs, narrow,
the learners of ``standard``, cross-fitted and judged. A run that claims any gain counts. Chance
allows 5 %: of 20 runs at most 4 (99.7 % of the binomial). Beside it the out-of-fold value of the
best member and of the trivial row, whose means tell whether anything was learnt.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import soundfile
from measuring import run

from orchestrator.pipeline.launch import launch
from orchestrator.plan.options import Options
from systems import registry
from systems.errors import UserError

RATE, CLASSES, BELT = 16_000, ("a", "b", "c"), 0.04
SYSTEMS = {
    "tags": "gcrnn_vat/gcrnn_vat",
    "class": "gcnn_gcrnn_stacking/vgg13",
    "events": "gcrnn_vat/gcrnn",
    "series": "mask_breathing_resnet/breath_cnn_lstm_small",
}


def sound(path: Path, r: np.random.Generator, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * r.normal(size=round(seconds * RATE)).clip(-9, 9), RATE)


def table(
    folder: Path, r: np.random.Generator, clips: int,
    rows: Callable[[np.random.Generator], list[str]],
) -> None:  # fmt: skip
    """A folder of the ``table`` layout; a fifth of its clips becomes the test part."""
    lines = ["path,labels,onset,offset,manually_verified"]
    for n in range(clips):
        sound(folder / f"{n:03d}.wav", r, 1.0)
        lines += [f"{n:03d}.wav,{row},1" for row in rows(r)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tags(r: np.random.Generator) -> list[str]:
    return ["|".join(n for n in CLASSES if r.random() < 0.45) + ",,"]


def one_class(r: np.random.Generator) -> list[str]:
    return [f"{r.choice(CLASSES, p=[0.5, 0.3, 0.2])},,"]


def events(r: np.random.Generator) -> list[str]:
    starts = {n: r.uniform(0, 0.6) for n in CLASSES if r.random() < 0.45}
    return [f"{n},{s:.3f},{s + 0.3:.3f}" for n, s in starts.items()] or [",,"]


def series(folder: Path, r: np.random.Generator) -> None:
    """A folder of the breathing set's layout: slow random signals beside noise."""
    rows, steps = [], 300
    for part, count in (("train", 8), ("devel", 8), ("test", 2)):
        for n in range(count):
            name = f"{part}_{n:02d}.wav"
            sound(folder / "wav" / name, r, steps * BELT)
            values = np.convolve(r.normal(size=steps + 24), np.ones(25) / 5, "valid")
            told = ["?" if part == "test" else f"{value:.5f}" for value in values]
            rows += [f"{name},{t * BELT:.2f},{value}" for t, value in enumerate(told)]
    (folder / "lab").mkdir()
    head = "filename,timeFrame,upper_belt"
    (folder / "lab/labels.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


def made(kind: str, folder: Path, seed: int, clips: int) -> str:
    """Write a set of a kind; returns the name of its reader."""
    r = np.random.default_rng([seed, 7])
    if kind == "series":
        series(folder, r)
        return "compare2020_breathing"
    table(folder, r, clips, {"tags": tags, "class": one_class, "events": events}[kind])
    return "table"


def swept(kind: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """The results of one run; nothing of it stays."""
    tiny = registry.get(SYSTEMS[kind]).tiny
    for attempt in itertools.count():  # until every fold can train every class
        with tempfile.TemporaryDirectory(prefix="soundsweep-") as scratch:
            folder = Path(scratch) / "data"
            name = made(kind, folder, 1000 * attempt + seed, given.clips)
            options = Options(
                system=SYSTEMS[kind], dataset=name, data=str(folder), trials=given.trials,
                budget="quick", max_epochs=3, seed=seed, storage=str(Path(scratch) / "runs"),
                set={k: v for k, v in tiny.items() if k != "training.epochs"}, mlflow="none",
                ray_address="none", gpus_per_trial=0.0,
            )  # fmt: skip
            try:
                return launch(options).results.raw
            except UserError as error:
                if attempt == 9:
                    raise
                print(f"drawn again: {error}", flush=True)
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", default=",".join(SYSTEMS), help="kinds of labels, by comma")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--clips", type=int, default=190, help="with the test part's")
    parser.add_argument("--smoke", action="store_true", help="one run of each kind, of two trials")
    parser.add_argument("--data", help="not used: the data is made")
    given = parser.parse_args()
    if given.smoke:
        given.runs, given.trials, given.clips = 1, 2, 60
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for kind in given.kinds.split(","):
        claimed, best, nothing = [], [], []
        for seed in range(given.runs):
            results = swept(kind, seed, given)
            names = [row["name"] for row in results["stack"] if row["verdict"] == "beats"]
            claimed.append(names)
            best.append(max(row["out_of_fold"]["value"] for row in results["members"]))
            nothing.append(results["trivial"]["out_of_fold"]["value"])
            print(f"{kind} {seed}: best member {best[-1]:.3f}, trivial {nothing[-1]:.3f}, "
                  f"claims {names}", flush=True)  # fmt: skip
        print(
            f"FIGURE {kind}, runs with a claim: {sum(map(bool, claimed))} of {given.runs} (target: "
            f"at most 4 of 20), mean best member {fmean(best):.3f}, trivial {fmean(nothing):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
