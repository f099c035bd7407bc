"""The embedded set of single labels: as promised, learnable, and what class systems run on."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from systems import registry
from systems.data import synthetic_classes
from systems.data.dataset import Dataset
from systems.data.splits import make_splits
from systems.errors import UserError

SOME = ("train_0000", "train_0777", "test_0299")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_classes.read()


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256(dataset.fingerprint().encode())
    for clip_id in SOME:
        digest.update(dataset.source.read(clip_id)[0].tobytes())
    digest.update(repr(dataset.labels).encode())
    return digest.hexdigest()


def test_it_is_the_same_in_another_process_and_after_pickling(dataset: Dataset) -> None:
    command = [sys.executable, __file__]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert _digest(dataset) == other
    assert _digest(pickle.loads(pickle.dumps(dataset))) == other


def test_clips_are_of_0_3_to_5_seconds_and_sound(dataset: Dataset) -> None:
    durations = np.array([clip.duration for clip in dataset.clips])
    assert durations.min() >= 0.3
    assert durations.max() <= 5.0
    assert np.median(durations) < 2
    for clip in dataset.clips[::50]:
        samples, rate = dataset.source.read(clip.clip_id)
        assert rate == 16_000
        assert samples.shape == (1, round(clip.duration * rate))
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert 0.01 < np.abs(samples).max() < 1.0


def test_some_of_the_unverified_labels_are_wrong_and_no_verified_one(dataset: Dataset) -> None:
    """The group tells what sounds."""
    train = dataset.part("train")
    labels = dataset.labels["train"].values
    right = np.array([clip.group.startswith(f"{labels[clip.clip_id]}_") for clip in train])
    verified = np.array([clip.columns["manually_verified"] for clip in train]) == 1
    assert 0.35 < verified.mean() < 0.45
    assert right[verified].all()
    assert 0.2 < 1 - right[~verified].mean() < 0.3
    counts = np.unique(list(labels.values()), return_counts=True)[1]
    assert len(counts) == len(dataset.classes) == 8
    assert counts.max() > 1.5 * counts.min()


def test_the_test_part_is_sealed_and_sounds_from_sources_of_its_own(dataset: Dataset) -> None:
    assert set(dataset.labels) == {"train"}
    assert dataset.label_kind("test") == "class"
    groups = {part: {clip.group for clip in dataset.part(part)} for part in ("train", "test")}
    assert not groups["train"] & groups["test"]
    opened: list[str] = []
    sealed = dataset.open_sealed("test", lambda: opened.append("test")).values
    assert opened == ["test"]
    assert all(c.group.startswith(f"{sealed[c.clip_id]}_") for c in dataset.part("test"))


def test_folds_keep_sources_whole_and_one_is_enough_for_a_search(dataset: Dataset) -> None:
    splits = make_splits(dataset, 0)
    group = {clip.clip_id: clip.group for clip in dataset.clips}
    for fold in splits.folds:
        assert not {group[i] for i in fold.train} & {group[i] for i in fold.validation}
    assert splits.searched == 1


def test_it_takes_no_folder() -> None:
    with pytest.raises(UserError, match="takes no folder"):
        synthetic_classes.read("somewhere")


def test_it_can_be_learnt_and_is_not_trivial(dataset: Dataset) -> None:
    """A linear classifier of MFCC statistics is far above chance and far below all right."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from systems.frontend.statistics import mfcc_statistics

    def rows(part: str, every: int) -> tuple[np.ndarray, list[str]]:
        clips = dataset.part(part)[::every]
        sounds = (dataset.source.read(clip.clip_id) for clip in clips)
        return (
            np.stack([mfcc_statistics(samples[0], rate) for samples, rate in sounds]),
            [clip.group.rsplit("_", 1)[0] for clip in clips],
        )

    (x, y), (test_x, test_y) = rows("train", 6), rows("test", 4)
    made = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500)).fit(x, y)
    assert 0.4 < made.score(test_x, test_y) < 0.9  # of chance 0.17


def test_a_class_system_without_data_runs_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.plan.options import Options
    from orchestrator.planning.resolve import make_plan

    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
    plan, dataset, _ = make_plan(Options(system="fakepaper/classes", storage=str(tmp_path)))
    assert plan.dataset == dataset.name == "synthetic_classes"
    assert plan.exclusive()
    assert make_plan(Options(storage=str(tmp_path)))[0].dataset == "synthetic"


def test_an_entry_may_name_its_example(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    entry = registry.get("gcrnn_vat")
    assert entry.embedded() == "synthetic"
    assert replace(entry, labels=("class",)).embedded() == "synthetic_classes"
    assert replace(entry, example="table").embedded() == "table"
    with pytest.raises(UserError, match="learns from sequence, for which no data set is embedded"):
        replace(entry, labels=("sequence",)).embedded()


if __name__ == "__main__":  # what the test of another process runs
    print(_digest(synthetic_classes.read()))
