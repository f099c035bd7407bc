"""The embedded data set: the same sound everywhere, labels that match it, a sealed test part."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

from systems.data import dcase2018_task4, rendering, synthetic
from systems.data.dataset import Dataset, Event
from systems.errors import UserError

SOME = ("weak_0000", "unlabel_in_domain_0003", "validation_0017", "test_0159")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic.read()


def _digest(dataset: Dataset) -> str:
    digest = hashlib.sha256(dataset.fingerprint().encode())
    for clip_id in SOME:
        digest.update(dataset.source.read(clip_id)[0].tobytes())
    return digest.hexdigest()


def test_parts_and_label_kinds(dataset: Dataset) -> None:
    counts = {part: len(dataset.part(part)) for part in dataset.parts()}
    assert counts == {"weak": 300, "unlabel_in_domain": 160, "validation": 200, "test": 160}
    kinds = {part: dataset.label_kind(part) for part in counts}
    assert kinds == {
        "weak": "tags",
        "unlabel_in_domain": "none",
        "validation": "tags",
        "test": "events",
    }
    assert {clip.part for clip in dataset.role("labelled")} == {"weak"}
    assert {clip.part for clip in dataset.role("unlabelled")} == {"unlabel_in_domain"}
    assert dataset.official_validation == "validation"
    assert all(clip.group == clip.clip_id for clip in dataset.clips)
    assert dataset.classes == dcase2018_task4.CLASSES


def test_takes_no_folder() -> None:
    with pytest.raises(UserError, match="takes no folder"):
        synthetic.read("somewhere")


def test_audio_has_the_promised_form(dataset: Dataset) -> None:
    for clip_id in SOME:
        samples, rate = dataset.source.read(clip_id)
        assert samples.shape == (1, 48_000)
        assert samples.dtype == np.float32
        assert rate == 16_000
        assert 0.01 < np.abs(samples).max() < 1.0


def test_same_bytes_in_another_process_and_after_pickling(dataset: Dataset) -> None:
    command = [sys.executable, __file__]
    other = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert _digest(dataset) == other
    assert _digest(pickle.loads(pickle.dumps(dataset))) == other


def test_order_of_reading_changes_nothing(dataset: Dataset) -> None:
    first = [dataset.source.read(clip_id)[0] for clip_id in SOME]
    last = [dataset.source.read(clip_id)[0] for clip_id in reversed(SOME)]
    assert all(np.array_equal(a, b) for a, b in zip(first, reversed(last), strict=True))
    assert not np.array_equal(first[0], first[1])


def test_fingerprint_follows_the_version(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dataset.fingerprint()
    assert synthetic.read().fingerprint() == before
    monkeypatch.setattr(rendering, "VERSION", rendering.VERSION + 1)
    assert dataset.fingerprint() != before


def test_test_labels_are_sealed(dataset: Dataset) -> None:
    assert set(dataset.labels) == {"weak", "validation"}
    recorded: list[str] = []
    labels = dataset.open_sealed("test", lambda: recorded.append("opened"))
    assert recorded == ["opened"]
    assert labels.kind == "events"
    assert set(labels.values) == {clip.clip_id for clip in dataset.part("test")}

    def refuse() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        dataset.open_sealed("test", refuse)


def test_events_lie_in_their_clip_on_the_grid(dataset: Dataset) -> None:
    for clip in dataset.clips:
        events = [sounding.event for sounding in synthetic.scene(clip.clip_id)]
        assert 1 <= len(events) <= 4
        assert events == sorted(events)
        for onset, offset, _ in events:
            assert 0 <= onset < offset <= clip.duration
            assert (round(onset, 3), round(offset, 3)) == (onset, offset)


def test_tags_and_events_say_what_sounds(dataset: Dataset) -> None:
    tags = dataset.labels["weak"].values
    events = dataset.open_sealed("test", lambda: None).values
    for i in range(100):
        weak = synthetic.scene(f"weak_{i:04d}")
        assert set(tags[f"weak_{i:04d}"]) == {sounding.event.label for sounding in weak}
        test = synthetic.scene(f"test_{i:04d}")
        assert events[f"test_{i:04d}"] == tuple(sounding.event for sounding in test)


def test_every_class_is_in_every_labelled_part(dataset: Dataset) -> None:
    test = dataset.open_sealed("test", lambda: None)
    for part, labels in {**dataset.labels, "test": test}.items():
        ids = [clip.clip_id for clip in dataset.part(part)]
        share = labels.tag_matrix(ids, dataset.classes).mean(axis=0)
        assert share.min() > 0.15, part
        assert share.max() < 0.4, part


def test_no_source_of_the_test_part_sounds_in_training(dataset: Dataset) -> None:
    heard: dict[bool, set[tuple[str, int]]] = {True: set(), False: set()}
    for clip in dataset.clips:
        sources = ((s.event.label, s.variant) for s in synthetic.scene(clip.clip_id))
        heard[clip.part == "test"].update(sources)
    assert not heard[True] & heard[False]
    assert len(heard[False]) == 12 * len(dataset.classes)


@pytest.mark.parametrize("label", synthetic.CLASSES)
@pytest.mark.parametrize("variant", [0, 1, 2, 12, 19])
def test_a_loud_event_is_heard_between_onset_and_offset_alone(label: str, variant: int) -> None:
    event = Event(0.5, 2.5, label)
    sounding = synthetic.Sounding(event, variant, snr=30.0)
    power = np.square(synthetic.mixed([sounding], np.random.default_rng(variant)))
    inside = power[8_000:40_000].mean()
    outside = np.concatenate([power[:8_000], power[40_000:]]).mean()
    assert np.isfinite(power).all()
    assert inside > 100 * outside
    edges = power[8_000:9_600].mean(), power[36_000:40_000].mean()  # 100 ms in, 250 ms out
    assert min(edges) > outside or label == "Dishes"


if __name__ == "__main__":  # what the test of another process runs
    print(_digest(synthetic.read()))
