"""Sound of two channels, features that are stored, and derived clips: by hand and by librosa."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

from orchestrator.models.sound import FileSound, MemorySound
from systems.context import Context
from systems.data.dataset import Clip, ClipSet, Dataset, Labels
from systems.data.features import Featured
from systems.data.files import BrokenSound, Files
from systems.data.prepare import Segments, Waveforms
from systems.data.splits import TrainingData
from systems.data.store import open_store
from systems.errors import UserError
from systems.excerpts import Excerpts
from systems.fitted_network import FittedNetwork
from systems.frontend.channels import ChannelMix
from systems.frontend.cqt import Cqt
from systems.frontend.log_mel import LogMel
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.sounds import open_sound
from systems.system import Input
from systems.tracks import FeatureTrack
from systems.training.copies import SameClassMix, mixed
from systems.training.losses import CrossEntropy
from systems.training.settings import Training

RATE = 8000
NAMES = ("left.wav", "mono.wav", "both.wav", "short.wav")
MEL = LogMel(rate=RATE, window=256, hop=128, bands=8, whole_hops=True)
CQT = Cqt(rate=RATE, hop=128, bins=12, per_octave=6, fmin=200.0)


def tone(hertz: float, seconds: float = 0.5, phase: float = 0.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * hertz * time + phase)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stereo and mono files of two classes."""
    root = tmp_path_factory.mktemp("stereo")
    noise = np.random.default_rng(0).normal(0, 0.1, (2, RATE // 2)).astype(np.float32)
    sounds = [np.stack([tone(300), 0 * tone(300)]), tone(700)[None], noise, noise[:, :3000]]
    for name, sound in zip(NAMES, sounds, strict=True):
        soundfile.write(root / name, sound.T, RATE, subtype="FLOAT")
    return root


def dataset_of(folder: Path, names: Sequence[str] = NAMES) -> Dataset:
    clips = tuple(
        Clip(name, "train", "labelled", name, soundfile.info(folder / name).duration, {})
        for name in names
    )
    labels = {clip.clip_id: "aabb"[n] for n, clip in enumerate(clips)}
    source = Files(str(folder), {name: name for name in names})
    return Dataset(
        "made", "any", ("a", "b"), clips, {"train": Labels("class", labels)}, {}, {}, source,
        test_part=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return dataset_of(folder)


def ids_of(dataset: Dataset) -> tuple[str, ...]:
    return tuple(clip.clip_id for clip in dataset.clips)


def backwards(function: Any, items: Sequence[Any]) -> Iterable[Any]:
    return [function(item) for item in reversed(items)]


def test_a_stereo_store_has_both_channels_and_a_mono_file_gives_both(
    dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    ids = ids_of(dataset)
    stereo = open_store(dataset, ids, RATE, tmp_path, map, channels="stereo")
    mono = open_store(dataset, ids, RATE, tmp_path, map)
    for clip_id in ids:
        own = soundfile.read(folder / clip_id, always_2d=True, dtype="float32")[0].T
        both = np.repeat(own, 2, axis=0) if len(own) == 1 else own
        np.testing.assert_array_equal(stereo[clip_id], both)
        np.testing.assert_allclose(mono[clip_id], own.mean(axis=0), atol=1e-7)
        assert stereo.duration(clip_id) == mono.duration(clip_id) == own.shape[1] / RATE
    assert stereo.piece(ids[2], 0, 10, 20).shape == (2, 20)


def test_more_channels_than_stereo_are_refused_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "six.wav", np.zeros((4000, 6)) + tone(300)[:, None], RATE)
    dataset = dataset_of(tmp_path, ("six.wav",))
    with pytest.raises(UserError, match=r"six\.wav +has 6 channels"):
        open_store(dataset, ids_of(dataset), RATE, tmp_path, map, channels="stereo")
    with pytest.raises(BrokenSound, match="6 channels"):
        FileSound(str(tmp_path / "six.wav"), 0.5).at(RATE, "stereo")


@pytest.mark.parametrize("rate", [RATE, 6000])
def test_files_and_sound_in_memory_are_what_the_store_has(
    dataset: Dataset, folder: Path, tmp_path: Path, rate: int
) -> None:
    store = open_store(dataset, ids_of(dataset), rate, tmp_path, map, channels="stereo")
    for clip_id in ids_of(dataset):
        path = folder / clip_id
        found = FileSound(str(path), soundfile.info(path).duration).at(rate, "stereo")
        np.testing.assert_array_equal(found, store[clip_id])
        samples = soundfile.read(path, always_2d=True, dtype="float32")[0].T
        np.testing.assert_array_equal(MemorySound(samples, RATE).at(rate, "stereo"), found)


def test_four_maps_are_left_right_sum_and_difference() -> None:
    left, right = tone(300), tone(700) + 0.1
    maps = ChannelMix(MEL, "lrms").build()(torch.from_numpy(np.stack([left, right]))[None])[0]
    for made, by_hand in zip(maps, (left, right, left + right, left - right), strict=True):
        judge = MEL.build()(torch.from_numpy(by_hand)[None])[0, 0]
        torch.testing.assert_close(made, judge)
    assert maps.shape == ChannelMix(MEL, "lrms").shape(len(left))
    centred = ChannelMix(MEL, "mono", centred=True).build()(torch.from_numpy(right)[None])
    judge = MEL.build()(torch.from_numpy(right - right.mean())[None])
    torch.testing.assert_close(centred, judge)


def test_cqt_is_librosas() -> None:
    waveform = tone(440) + tone(220)
    (made,) = CQT.build()(torch.from_numpy(waveform)[None])
    judge = librosa.cqt(waveform, sr=RATE, hop_length=128, fmin=200.0, n_bins=12, bins_per_octave=6)
    frames = len(waveform) // 128
    assert made.shape == CQT.shape(len(waveform)) == (1, 12, frames)
    expected = librosa.amplitude_to_db(np.abs(judge), ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(made[0].numpy(), expected[:, :frames], atol=1e-3)
    loud = made[0].mean(1).argsort(descending=True)[:2]
    assert sorted(200 * 2 ** (loud.numpy() / 6)) == pytest.approx([224.5, 449.0], abs=1)
    with pytest.raises(ValueError, match="top bin"):
        Cqt(rate=RATE, bins=100)


@pytest.mark.parametrize("front_end", [ChannelMix(CQT, "lrms"), {"a": CQT, "b": MEL}])
def test_stored_features_are_what_a_training_makes(
    dataset: Dataset, tmp_path: Path, front_end: Any
) -> None:
    ids = ids_of(dataset)
    channels = "stereo" if isinstance(front_end, ChannelMix) else "mono"
    asked = Input(("labelled",), RATE, Segments(whole=100.0), channels, front_end)
    made = open_sound(dataset, ids, asked, tmp_path, backwards)
    assert isinstance(made, Featured)
    again = open_sound(dataset, ids, asked, tmp_path, lambda f, i: pytest.fail("they are there"))
    from systems.frontend import built

    module, excerpts = built(front_end), Excerpts(frames=10)
    plain = FeatureTrack(made.sound, ids, module, excerpts, Context())
    for sound in (made, again):
        track = FeatureTrack(sound, ids, torch.nn.Identity(), excerpts, Context())
        assert track.parts == plain.parts
        for part in range(len(track.parts)):
            found, expected = track.features(part), plain.features(part)
            if isinstance(found, dict):
                assert list(found) == ["a", "b"]
                found, expected = found["b"], expected["b"]
            np.testing.assert_array_equal(found, expected)


def test_a_killed_build_of_features_goes_on(dataset: Dataset, tmp_path: Path) -> None:
    ids, asked = ids_of(dataset), Input(("labelled",), RATE, features=CQT)
    whole = open_sound(dataset, ids, asked, tmp_path / "whole", map)
    made: list[str] = []

    def cut(function: Any, items: Sequence[Any]) -> Iterable[Any]:
        for item in items:
            if len(made) == 2:
                raise KeyboardInterrupt
            yield function(item)
            made.append(item)

    store = open_store(dataset, ids, RATE, tmp_path / "cut", map)
    with pytest.raises(KeyboardInterrupt):
        open_sound(dataset, ids, asked, tmp_path / "cut", cut)
    (folder,) = Path(store.folder).glob("features-*")
    with open(folder / "index.jsonl", "a") as index, open(folder / "rows.f32", "ab") as rows:
        index.write('{"clip": "torn')
        rows.write(b"torn row")
    told: list[int] = []
    counter = lambda what, of: lambda done, total: told.append(done)  # noqa: E731
    again = open_sound(dataset, ids, asked, tmp_path / "cut", map, counter)
    assert isinstance(whole, Featured)
    assert isinstance(again, Featured)
    assert told[-1] == 4
    for clip_id in ids:
        (one,), (other,) = again.held(clip_id) or (), whole.held(clip_id) or ()
        np.testing.assert_array_equal(one, other)


def test_copies_are_sums_of_their_class_and_of_no_validation_clip() -> None:
    ids = tuple(map(str, range(9)))
    sound = Waveforms(RATE, {i: np.full(40 + int(i), float(i), np.float32) for i in ids})
    targets = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 1, 2, 2]]
    clips = ClipSet(ids, targets)
    trained = clips.some(np.array([0, 1, 2, 4, 5, 7]))
    data = TrainingData(("a", "b", "c"), trained, clips.some(np.array([3, 6, 8])), kind="class")
    mix = SameClassMix(copies=2)
    made, sounds = mix(data, {"audio": sound}, Context(seed=1))
    assert made.labelled.targets is not None
    assert len(made.labelled) == 18
    assert made.validation is data.validation
    np.testing.assert_array_equal(made.labelled.targets, np.tile(trained.targets, (3, 1)))  # type: ignore[arg-type]
    for row, clip_id in enumerate(made.labelled.clip_ids[6:]):
        source = trained.clip_ids[row % 6]
        ((first, own), *others) = sounds["audio"].recipes[clip_id]  # type: ignore[attr-defined]
        assert first == source
        assert {i for i, _ in others} <= {*trained.clip_ids} - {source}
        same = targets.argmax(1)
        assert all(same[int(i)] == same[int(source)] for i, _ in others)
        assert own + sum(weight for _, weight in others) == pytest.approx(1.0)
        assert 0.5 <= own <= 0.8 if others else own == 1.0
        heard = sounds["audio"][clip_id]
        assert len(heard) == len(sound[source])
        by_hand = own * int(source) + sum(weight * int(i) for i, weight in others)
        assert heard[:40] == pytest.approx(by_hand, rel=1e-5)
        np.testing.assert_array_equal(sounds["audio"].piece(clip_id, 0, 5, 10), heard[5:15])
        np.testing.assert_array_equal(sounds["audio"].parts(clip_id)[0], heard)
    same_again, _ = mix(data, {"audio": sound}, Context(seed=1))
    assert same_again.labelled.clip_ids == made.labelled.clip_ids
    other = mix(data, {"audio": sound}, Context(seed=2))[1]["audio"].recipes  # type: ignore[attr-defined]
    assert other != sounds["audio"].recipes  # type: ignore[attr-defined]


class Mean(torch.nn.Module):
    """The mean of each map over time and frequency, and a layer."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(shape[0] * shape[1], outputs)

    def forward(self, x: torch.Tensor) -> Outputs:
        return Outputs(self.layer(x.mean(3).flatten(1)))


def system(front_end: Any, **about: Any) -> NetworkSystem:
    return NetworkSystem(
        front_end=front_end, network=Mean, loss=[CrossEntropy()], activation="softmax",
        frames=False, excerpts=Excerpts(frames=30, predict="windows"),
        training=Training(epochs=2, labelled=2, unlabelled=0, patience=None), **about,
    )  # fmt: skip


@pytest.mark.parametrize("front_end", [ChannelMix(MEL, "lrms"), ChannelMix(CQT, "lrms")])
@pytest.mark.parametrize("copies", [(), (SameClassMix(),)])
def test_a_system_of_stereo_sound_trains_is_saved_and_hears_files_as_it_does_the_store(
    dataset: Dataset, folder: Path, tmp_path: Path, front_end: Any, copies: Any
) -> None:
    made, ids = system(front_end, copies=copies), ids_of(dataset)
    sounds = {n: open_sound(dataset, ids, one, tmp_path, map) for n, one in made.inputs().items()}
    clips = ClipSet(ids, np.eye(2, dtype=np.float32)[[0, 0, 1, 1]])
    data = TrainingData(("a", "b"), clips, clips, metric="accuracy", kind="class")
    fitted = made.train(data, sounds, Context(seed=0))
    fitted.save(tmp_path)
    loaded = made.load(tmp_path)
    assert isinstance(loaded, FittedNetwork)
    assert loaded.channels == "stereo"
    stored = loaded.predict(ids, sounds, Context()).clip_scores
    heard = []
    for clip_id in ids:
        sound = FileSound(str(folder / clip_id), soundfile.info(folder / clip_id).duration)
        scores, _ = loaded.score([sound.at(RATE, loaded.channels)], Context())
        assert scores is not None
        heard.append(scores[0])
    np.testing.assert_allclose(np.stack(heard), stored, atol=1e-6)
    probe = made.probe(replace(data, validation=clips), sounds, Context())
    assert probe.examples_per_clip == (3.0 if copies else 1.0)


def test_stored_features_beside_derived_clips_stay_those_of_their_clips(
    dataset: Dataset, tmp_path: Path
) -> None:
    ids, asked = ids_of(dataset), Input(("labelled",), RATE, features=CQT)
    sound = open_sound(dataset, ids, asked, tmp_path, map)
    both = mixed(sound, {"new": ((ids[0], 0.5), (ids[1], 0.5))})
    assert isinstance(both, Featured)
    assert both.held("new") is None
    assert both.held(ids[0]) is not None
    np.testing.assert_allclose(both["new"], (sound[ids[0]] + sound[ids[1]]) / 2, atol=1e-7)
