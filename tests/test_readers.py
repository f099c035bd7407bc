"""What every reader must do, over tiny sets in the layouts of the public ones; and its card."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_sets import (
    CASES,
    binaural_sofa,
    birds,
    grafic_scenes,
    rwcp,
    urbansound8k,
    vocal_imitation,
)

from systems import data
from systems.data.dataset import Dataset
from systems.data.splits import make_splits
from systems.kinds import KINDS, kind
from systems.metrics import metric, searchable

EMBEDDED = ("synthetic", "synthetic_binaural", "synthetic_breath", "synthetic_classes",
            "synthetic_imitations", "synthetic_onomatopoeia", "synthetic_scenes",
            "synthetic_speech", "synthetic_streets")  # fmt: skip


ON_DISK = {case.name: case.make for case in CASES}
# Sets without a test part, or whose sound is rendered of others'.
OTHERS: dict[str, Callable[[Path], object]] = {
    "binaural_sofa": binaural_sofa, "dcase2018_task3": birds, "grafic_scenes": grafic_scenes,
    "rwcp": rwcp,
    "urbansound8k": urbansound8k, "vocal_imitation": vocal_imitation,
}  # fmt: skip


@pytest.fixture(params=[*ON_DISK, "dcase2018_task4"])
def any_set(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Dataset]:
    """Reads a set that the test may change below ``tmp_path``."""
    if request.param not in ON_DISK:
        folder = request.getfixturevalue("task4_copy")
        return lambda: data.load("dcase2018_task4", str(folder))
    ON_DISK[request.param](tmp_path / "set")
    return lambda: data.load(request.param, str(tmp_path / "set"))


def test_test_labels_are_sealed_until_recorded(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    assert not set(dataset.sealed) & set(dataset.labels)
    assert dataset.test_part in dataset.sealed
    assert not {clip.part for clip in dataset.role("labelled")} & set(dataset.sealed)
    opened: list[str] = []

    def full_disk() -> None:
        raise OSError("disk full")

    for part in dataset.sealed:
        with pytest.raises(OSError, match="disk full"):
            dataset.open_sealed(part, full_disk)
        labels = dataset.open_sealed(part, lambda part=part: opened.append(part))
        assert labels.kind == dataset.label_kind(part)
        if labels.kind == "withheld":
            assert not labels.values
            continue
        assert set(labels.values) == {clip.clip_id for clip in dataset.part(part)}
        truth = kind(labels.kind).truth(labels, tuple(labels.values), dataset.classes)
        assert truth.values.any()
    assert opened == list(dataset.sealed)


def test_the_fingerprint_tells_changed_files(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    before = dataset.fingerprint()
    assert any_set().fingerprint() == before
    for clip in (dataset.role("labelled")[0], dataset.part(dataset.test_part)[0]):
        os.utime(dataset.source.where(clip.clip_id), ns=(1, 1))
        touched = any_set().fingerprint()
        assert touched != before
        before = touched


def test_groups_are_split_over_neither_folds_nor_parts(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    tested = {clip.group for clip in dataset.clips if clip.part in dataset.sealed}
    assert not tested & {clip.group for clip in dataset.role("labelled")}
    group_of = {clip.clip_id: clip.group for clip in dataset.clips}
    for fold in make_splits(dataset, seed=0).folds:
        assert not {group_of[i] for i in fold.train} & {group_of[i] for i in fold.validation}


def test_other_processes_read_the_same_sound(any_set: Callable[[], Dataset]) -> None:
    dataset = any_set()
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint() == dataset.fingerprint()
    clip = dataset.clips[-1]
    samples, rate = copy.source.read(clip.clip_id)
    assert samples.dtype == np.float32
    assert samples.shape[1] == round(clip.duration * rate)
    np.testing.assert_array_equal(samples, dataset.source.read(clip.clip_id)[0])


# --- cards ---


@pytest.mark.parametrize("name", data.readers())
def test_a_card_speaks_of_what_the_reader_reads(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Parts, metrics that the labels can be scored by, and columns that clips or labels have."""
    card = data.card(name)
    if name == "table":
        assert card == data.Card()
        return
    folder = None
    if name in {*ON_DISK, *OTHERS}:
        {**ON_DISK, **OTHERS}[name](tmp_path / "set")
        folder = str(tmp_path / "set")
    elif name not in EMBEDDED:
        folder = str(request.getfixturevalue("task4_copy"))
    dataset = data.load(name, folder)
    assert set(card.clips) <= set(dataset.parts())
    assert dataset.test_part is None or dataset.test_part in card.clips
    if name in EMBEDDED:
        counted = {part: len(dataset.part(part)) for part in dataset.parts()}
        assert card.clips == counted
    places = {*dataset.parts(), data.OUT_OF_FOLD, data.VALIDATION}
    assert {data.split_of(name, split)[0] for split in card.splits} <= places
    if data.VALIDATION in card.splits.values():
        # Without a test part: of a paper that judges what it fitted.
        assert dataset.official_validation or dataset.test_part is None
    learnt = dataset.label_kind(dataset.role("labelled")[0].part)
    tested = dataset.label_kind(dataset.test_part or dataset.role("labelled")[0].part)
    if card.metrics:
        assert card.metrics[0] in searchable(learnt, kind(learnt).answers)
        assert all(metric(m).fits(tested if tested in KINDS else learnt) for m in card.metrics)
    of_labels = {}
    if dataset.test_part is not None:
        of_labels = dataset.open_sealed(dataset.test_part, lambda: None).columns
    columns = [{**c.columns, **of_labels.get(c.clip_id, {})} for c in dataset.test_clips()]
    for where in card.subsets.values():
        for column, values in where.items():
            assert {*values} <= {about[column] for about in columns}


def test_a_set_that_nothing_reads_has_an_empty_card() -> None:
    assert data.card("nowhere") == data.Card()
    assert data.split_of("nowhere", "dev") == ("dev", {})


def test_papers_call_parts_by_other_names() -> None:
    for name in ("tut2018", "tut2018_mobile"):
        assert data.split_of(name, "dev")[0] == "test"
        assert data.split_of(name, "eval")[0] != "test"
    for name in ("compare2020_mask", "compare2020_breathing"):
        assert data.split_of(name, "dev")[0] == data.VALIDATION
        assert data.split_of(name, "test")[0] == "test"
