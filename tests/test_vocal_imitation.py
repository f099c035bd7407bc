"""The reader of the Vocal Imitation Set, and the embedded set of its kind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sets import RATE, edit, vocal_imitation

from systems import data, registry
from systems.data import synthetic_imitations
from systems.data.drawn import drawn
from systems.data.protocol import Protocol
from systems.data.splits import make_splits, training_data
from systems.errors import UserError
from systems.kinds import kind
from systems.metrics import metric
from systems.predictions import Predictions


@pytest.fixture
def root(tmp_path: Path) -> Path:
    vocal_imitation(tmp_path)
    return tmp_path


def test_queries_their_targets_and_the_gallery(root: Path) -> None:
    dataset = data.load("vocal_imitation", str(root))
    assert {part: len(dataset.part(part)) for part in dataset.parts()} == {"gallery": 9, "train": 9}
    assert dataset.test_part is None
    assert dataset.classes == tuple(clip.clip_id for clip in dataset.part("gallery"))
    about = {clip.clip_id: clip for clip in dataset.clips}
    query = about["imitation/002Animal_Dog-12.wav"]
    assert (query.group, query.columns["class"], query.role) == ("2.0", "002Animal_Dog", "labelled")
    target = "reference/002Animal_Dog_reference.wav"
    assert dataset.labels["train"].values[query.clip_id] == (target,)
    assert about[target].columns == {"class": "002Animal_Dog", "reference": 1}
    assert not any("draft" in clip.clip_id for clip in dataset.clips)
    # One name in two classes is two recordings.
    assert {"non_reference/001Animal_Cat/1__user__a.wav",
            "non_reference/003Music_Gong/1__user__a.wav"} <= {*dataset.classes}  # fmt: skip


def test_every_fault_is_named_at_once(root: Path) -> None:
    (root / "original_recordings/reference/001Animal_Cat_reference.wav").unlink()
    (root / "vocal_imitations/included/003Music_Gong-20.wav").write_bytes(b"")
    edit(
        root / "vocal_imitations.txt",
        lambda lines: [*lines, "99\tx.wav\t009Nothing_reference.wav\tTrue\tFalse\t1.0"],
    )
    edit(root / "original_recordings_classes.txt",
         lambda lines: [lines[0], *(line.replace("002Animal_Dog\tTrue", "002Animal_Dog\tyes")
                                    for line in lines[1:])])  # fmt: skip
    with pytest.raises(UserError) as error:
        data.load("vocal_imitation", str(root))
    for told in ("001Animal_Cat_reference.wav", "003Music_Gong-20.wav", "is empty",
                 "'009Nothing_reference.wav' is no", "'yes' is no is_reference"):  # fmt: skip
        assert told in str(error.value)


def test_imitations_of_a_broken_reference_are_left_out(root: Path) -> None:
    broken = root / "original_recordings/reference/001Animal_Cat_reference.wav"
    soundfile.write(broken, np.zeros(soundfile.info(broken).frames), RATE)
    dataset = data.load("vocal_imitation", str(root), skip_broken=True)
    assert len(dataset.classes) == 8
    assert len(dataset.part("train")) == 6
    assert any("3 imitations" in note for note in dataset.notes)


def test_a_trial_of_the_paper_holds_out_imitations_within_each_drawn_class(root: Path) -> None:
    dataset = data.load("vocal_imitation", str(root))
    protocol = registry.get("qbv_siamese_triplet").protocol
    assert protocol is not None
    protocol = replace(protocol, draw=("class", 2))
    seen = set()
    for seed in range(8):
        some = drawn(dataset, protocol, seed)
        classes = {clip.columns["class"] for clip in some.clips}
        assert len(classes) == 2
        assert len(some.classes) == len(some.part("train")) == 6
        (fold,) = make_splits(some, seed, protocol).folds
        of_class = {clip.clip_id: clip.columns["class"] for clip in some.clips}
        assert sorted(of_class[i] for i in fold.validation) == sorted(classes)
        fed = training_data(some, make_splits(some, seed, protocol), 0, "mrr")
        assert fed.labelled.targets is not None
        assert fed.labelled.targets.shape == (4, 6)
        assert {*fed.unlabelled["gallery"].clip_ids} == {*some.classes}
        seen.add((*sorted(classes), *fold.validation))
    assert len(seen) > 3, "each seed draws classes and splits anew"
    assert drawn(dataset, Protocol(), 0) is dataset
    assert drawn(dataset, protocol, 1).fingerprint() == drawn(dataset, protocol, 1).fingerprint()


def test_honest_folds_split_nobody_who_imitated() -> None:
    dataset = synthetic_imitations.read()
    group_of = {clip.clip_id: clip.group for clip in dataset.clips}
    for fold in make_splits(dataset, 0).folds:
        assert not {group_of[i] for i in fold.train} & {group_of[i] for i in fold.validation}


# --- the embedded set ---


def digest() -> str:
    dataset = synthetic_imitations.read()
    found = hashlib.sha256(dataset.fingerprint().encode())
    for clip in (dataset.clips[0], dataset.part("train")[3], dataset.clips[-1]):
        found.update(dataset.source.read(clip.clip_id)[0].tobytes())
    return found.hexdigest()


def test_it_is_the_same_in_another_process() -> None:
    command = [sys.executable, __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest()]


def test_sounds_are_as_long_as_they_say() -> None:
    dataset = synthetic_imitations.read()
    for clip in dataset.clips[::17]:
        samples, rate = dataset.source.read(clip.clip_id)
        assert samples.shape == (1, round(clip.duration * rate))
        assert samples.dtype == np.float32
        assert 0.01 < np.abs(samples).max() <= 1.0


def profile(waveform: np.ndarray) -> np.ndarray:
    """Loudness and brightness at 20 points of a sound, each of mean 0 and deviation 1."""
    loud, bright, _ = synthetic_imitations.followed(waveform)
    points = [np.interp(np.linspace(0, len(one) - 1, 20), np.arange(len(one)), one)
              for one in (np.log(loud), bright)]  # fmt: skip
    return np.concatenate([(p - p.mean()) / p.std() for p in points])


def test_imitations_are_like_what_they_imitate_but_not_quite() -> None:
    """How sounds move finds some targets, far more than chance, and misses some."""
    dataset = synthetic_imitations.read()
    items = [i for i in dataset.classes if int(i[-2:]) in synthetic_imitations.SOURCES["train"]]
    queries = [clip.clip_id for clip in dataset.part("train")][::3]
    of = {i: profile(dataset.source.read(i)[0][0]) for i in (*items, *queries)}
    scores = np.array([[of[q] @ of[i] for i in items] for q in queries])
    truth = kind("relevance").truth(dataset.labels["train"], queries, items)
    found = metric("mrr").counts(truth, Predictions.of(queries, items, ranking=scores))
    assert found is not None
    chance = np.mean(1 / np.arange(1, len(items) + 1))
    assert 1.5 * chance < metric("mrr").value(found) < 0.9


@pytest.mark.skipif("SOUNDSWEEP_MINI_SETS" not in os.environ, reason="needs the small sets")
def test_a_small_set_of_real_sounds() -> None:
    folder = Path(os.environ["SOUNDSWEEP_MINI_SETS"]) / "vocal_imitation_mini"
    dataset = data.load("vocal_imitation", str(folder))
    assert len(dataset.classes) == 17
    assert len(dataset.part("train")) == 30
    assert not dataset.notes


if __name__ == "__main__":
    print(digest())
