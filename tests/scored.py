"""A run as it is after the test part was scored, with real refits and a made-up search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.console.interrupts import Stop
from orchestrator.console.progress import Progress
from orchestrator.members.rows import OutOfFold, members_of
from orchestrator.members.seen import Members, Targets
from orchestrator.models.bundle import export
from orchestrator.plan.options import Options
from orchestrator.plan.plan import Plan
from orchestrator.plan.variants import decision_variants, variants_of
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.scoring.test_part import score_test_once
from orchestrator.stacking.stage import fit_stage
from orchestrator.training.final import run_final
from orchestrator.training.job import Job, inputs_of
from systems.data.splits import training_data
from systems.data.store import open_store
from systems.predictions import Predictions

TINY = {
    "network.width": 8, "network.recurrent_units": 8, "training.steps_per_epoch": 12,
    "training.learning_rate": 0.01, "front_end.window": 1024, "front_end.hop": 664,
    "front_end.bands": 64, "training.labelled": 15, "training.unlabelled": 5,
}  # fmt: skip
PARAMS: list[dict[str, Any]] = [{}, {"network.blocks": 2}, {"vat.weight": 0.5}]
MEMBERS = (1, 0)  # the best first
MODELS = ("best", "best:SALR_train", "trial:0", "logreg", "genetic")


def score(root: Path, task4_folder: Path) -> None:
    """Make the run ``tiny`` below a root."""
    run = RunDir(root / "tiny")
    options = Options("search", "gcrnn_vat", data=str(task4_folder), name="tiny", budget="quick",
                      max_epochs=4, set=TINY, top_k=2, gpus_per_trial=0,
                      stack="logreg,genetic", final="refit")  # fmt: skip
    plan, dataset, splits = make_plan(options)
    run.write_plan(plan)
    store = open_store(
        dataset, [c.clip_id for c in dataset.clips], 16_000, run.root / "store",
        lambda function, items: map(function, items),
    )  # fmt: skip
    sounds = {one.key: store for one in inputs_of(plan, plan.entry().config).values()}
    test = tuple(clip.clip_id for clip in dataset.test_clips())
    refit = training_data(dataset, splits, None, plan.metric)
    with run.drive():
        job = Job(str(run.path), run.generation, plan, (), refit, sounds, test, "cpu")
        for number, params in enumerate(PARAMS):
            write_json(run.trial(number).config, {"params": params})
            write_json(run.trial(number).result, {"value": 0.5})
        for place, number in enumerate(MEMBERS):
            variants = variants_of(plan, decision_variants(plan), place)
            run_final(job, number, 4, variants)
        write_json(run.members, {"members": [{"trial": number} for number in MEMBERS]})
        rows = make_rows(run, plan)
        fit_stage(run, rows, Stop(), Progress())
        score_test_once(run, dataset, store, rows)


def export_all(run: RunDir, folder: Path) -> None:
    """A bundle of each of ``MODELS`` (:func:`bundle_of`)."""
    for model in MODELS:
        export(run, bundle_of(folder, model), model=model)


def bundle_of(folder: Path, model: str) -> Path:
    return folder / model.replace(":", "_")


def make_rows(run: RunDir, plan: Plan) -> OutOfFold:
    """Out-of-fold scores near the targets, from nothing."""
    generator = np.random.default_rng(0)
    clips = tuple(f"clip {i}" for i in range(60))
    targets = (generator.random((60, len(plan.classes))) < 0.3).astype(np.float64)
    scores = 0.15 + 0.1 * targets[:, None] + 0.05 * generator.random((60, 2, len(plan.classes)))
    members = members_of(run, MEMBERS)
    frames = tuple(tuple(np.stack([row] * 5) for row in scores[:, m]) for m in range(2))
    seen = Members(
        tuple(member.name for member in members), clips, plan.classes, scores, frames=frames,
        frame_hops=(0.2, 0.2), durations=(1.0,) * 60,
    )  # fmt: skip
    return OutOfFold(members, seen, Targets.of(targets), (3, 3))


def clips_of_test(run: RunDir, task4_folder: Path) -> list[Path]:
    folder = task4_folder / "dataset" / "audio"
    return [folder / f"{clip_id}" for clip_id in stored(run, "best").clip_ids]


def stored(run: RunDir, model: str) -> Predictions:
    """What the run itself predicted."""
    if model in ("logreg", "genetic"):
        return Predictions.load(run.stack(model) / "test.npz")
    number = MEMBERS[0] if model.startswith("best") else MEMBERS[1]
    variant = "SALR_train" if model == "best:SALR_train" else "no refinement"
    return Predictions.load(run.trial(number).test_predictions(variant))


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Noise [C, S] whose colour changes."""
    generator = np.random.default_rng(1)
    sound = 0.1 * generator.standard_normal((channels, round(seconds * rate)))
    return sound * (1 + np.sin(np.arange(sound.shape[1]) / rate)) + np.roll(sound, 1)
