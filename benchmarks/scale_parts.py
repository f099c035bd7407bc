"""Parts of a very large sweep by themselves: a study of many trials, a data set of many clips."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring import planned, ratio, row
from noop_trials import exponent
from optuna.trial import TrialState

from orchestrator.plan.plan import Plan
from orchestrator.search.study import Search
from systems.data.dataset import Clip, Dataset, Labels
from systems.data.splits import make_splits, training_data
from systems.data.store import Place, WaveformStore, _layout, store_key

CLASSES = 527  # AudioSet's
LABELS = 2  # of a clip
SECONDS = 10.0


def timed(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """A result, and the seconds that it took."""
    began = time.monotonic()
    return function(*given), time.monotonic() - began


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held() -> float:
    """MiB that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def parts(given: Any) -> None:
    """Both tables."""
    plan = planned(given, trials=8)[0]
    for trials in given.studies:
        study_of(plan, trials)
    spent = [dataset_of(clips) for clips in given.clips]
    if len(spent) > 1:
        ratio("exponent of seconds of splits over clips", exponent(given.clips, spent), "<= 1.2")


def study_of(plan: Plan, trials: int) -> None:
    """A study with so many finished trials of ten reports each: ask, report, open again."""
    with tempfile.TemporaryDirectory(prefix="soundsweep-") as folder:
        path = Path(folder) / "study.log"
        asked = (plan.search_space(), plan.sampler, plan.halving, plan.first_trial)
        search = Search(path, *asked)
        finished(search, trials)
        (number, _), ask = timed(search.ask)
        _, report = timed(search.report, number, 1, 0.5)
        _, complete = timed(search.complete, number, 0.5)
        _, opened = timed(lambda: Search(path, *asked).trials())
        print(f"a study of {trials} trials")
        row("ask, report, tell", f"{ask:.3f} s", f"{report:.4f} s", f"{complete:.4f} s")
        row("opened again", f"{opened:.1f} s", f"{path.stat().st_size / 2**20:.1f} MiB")
        row("memory at most", f"{peak():.0f} MiB")


def finished(search: Search, trials: int) -> None:
    """Trials of the space's first points at random, told as done, as a sweep leaves them."""
    import optuna

    draw = np.random.default_rng(0)
    search.study.sampler = optuna.samplers.RandomSampler(seed=0)
    sampler = search._sampler
    search._sampler = lambda *about: search.study.sampler  # type: ignore[method-assign]
    for _ in range(trials):
        number, _ = search.ask()
        identity = search._id(number)
        for step in range(1, 11):
            search.study._storage.set_trial_intermediate_value(identity, step, float(draw.random()))
        search.study._storage.set_trial_state_values(
            identity, TrialState.COMPLETE, [float(draw.random())]
        )
    search._sampler = sampler  # type: ignore[method-assign]


@dataclass(frozen=True)
class Nothing:
    """A source of names alone."""

    ids: tuple[str, ...]

    def read(self, clip_id: str, track: str = "audio") -> tuple[np.ndarray, int]:
        raise NotImplementedError

    def identity(self) -> Iterable[str]:
        return self.ids

    def where(self, clip_id: str) -> str:
        return clip_id


def generated(clips: int) -> Dataset:
    """An index of clips of tags, each a group of its own, as a reader gives it."""
    draw = np.random.default_rng(0).integers(0, CLASSES, (clips, LABELS))
    names = tuple(f"class {k}" for k in range(CLASSES))
    ids = tuple(f"Y{n:011d}" for n in range(clips))
    about = tuple(Clip(i, "train", "labelled", i, SECONDS) for i in ids)
    tags = {i: (names[a], names[b]) for i, (a, b) in zip(ids, draw, strict=True)}
    return Dataset(
        "generated", "any", names, about, {"train": Labels("tags", tags)}, {}, {}, Nothing(ids),
        test_part=None,
    )  # fmt: skip


def dataset_of(clips: int) -> float:
    """What is made of an index before anything is read: seconds and memory of each step; returns
    those that the splits took."""
    print(f"an index of {clips:,} clips, {CLASSES} classes")
    dataset, _ = step("index", generated, clips)
    step("fingerprint", dataset.fingerprint)
    splits, spent = step("splits", make_splits, dataset, 0)
    step("a fold's training data", training_data, dataset, splits, 0)
    ids = [clip.clip_id for clip in dataset.clips]
    step("store's key", store_key, dataset, ids, 16_000)
    places, _ = step("store's layout", _layout, [(i, SECONDS) for i in ids], 16_000, 1)
    row("  the store's size", f"{4 * places[-1].stop / 2**30:,.0f} GiB")
    del splits
    with tempfile.TemporaryDirectory(prefix="soundsweep-") as folder:
        step("store's index, written", write_index, Path(folder), places)
        store = WaveformStore(folder, 16_000)
        before = held()
        step("store's index, opened by a process", store.digest, ids[0])
        row("  what a process holds of it", f"{held() - before:,.0f} MiB")
    return spent


def write_index(folder: Path, places: Sequence[Place]) -> None:
    """What a finished store says of its clips."""
    digests = [f"{n:032x}" for n in range(len(places))]
    index = {"rate": 16_000, "clips": [place[:3] for place in places], "digests": digests}
    (folder / "index.json").write_text(json.dumps(index))


def step(name: str, function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """A row of the table; the result, and its seconds."""
    result, seconds = timed(function, *given)
    row(f"  {name}", f"{seconds:.2f} s", f"{peak():,.0f} MiB at most")
    return result, seconds
