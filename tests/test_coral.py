"""Features aligned by domain: covariances before and after, what is asked for, kept and loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fakedata
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.prepare import Described, Waveforms
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.excerpts import Excerpts
from systems.frontend.coral import Coral, alignment, moments_of, power_of
from systems.frontend.ranged import Ranged
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.sounds import open_sound
from systems.system import Column, Input
from systems.training.losses import LogitBce
from systems.training.settings import Training

R = np.random.default_rng(0)
BANDS, FRAMES = 4, 60


@dataclass(frozen=True)
class Rows:
    """Features that are the sound itself: S samples are S / 4 frames of 4 bands."""

    rate: int = 100
    hop_seconds: float = 0.04
    frame_start: float = 0.0

    def shape(self, samples: int) -> tuple[int, int, int]:
        return 1, BANDS, samples // BANDS

    def build(self) -> nn.Module:
        class Module(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.unflatten(1, (-1, BANDS)).transpose(1, 2)[:, None]

        return Module()


MIXED = {"north": R.normal(size=(BANDS, BANDS)), "south": R.normal(size=(BANDS, BANDS)),
         "home": np.diag([1.0, 2.0, 3.0, 4.0])}  # fmt: skip
SHIFT = {"north": 5.0, "south": -2.0, "home": 1.0}
DOMAINS = [name for name in MIXED for _ in range(10)]
CLIPS = {
    f"{n}": (R.normal(size=(FRAMES, BANDS)) @ MIXED[d] + SHIFT[d]).astype(np.float32).reshape(-1)
    for n, d in enumerate(DOMAINS)
}
DATA = TrainingData(
    ("a",),
    ClipSet(
        tuple(CLIPS), np.array([[n % 2] for n in range(30)], np.float32),
        columns=tuple({"set": d} for d in DOMAINS),
    ),
    None,
)  # fmt: skip
SOUNDS = {"audio": Described(Waveforms(100, CLIPS), dict(zip(CLIPS, DOMAINS, strict=True)))}


def frames_of(front_end: Any, domain: str, value: str | None = None) -> np.ndarray:
    """Frames [N, F] of all clips of a domain, as clips of it or of another."""
    module = front_end.build()
    asked = domain if value is None else value
    return np.concatenate([
        module(torch.from_numpy(CLIPS[n])[None], asked)[0, 0].T.numpy()
        for n, d in zip(CLIPS, DOMAINS, strict=True) if d == domain
    ])  # fmt: skip


def test_powers_of_matrices() -> None:
    x = R.normal(size=(5, 5))
    matrix = x @ x.T + np.eye(5)
    root = power_of(matrix, 0.5)
    np.testing.assert_allclose(root @ root, matrix)
    np.testing.assert_allclose(power_of(matrix, -0.5) @ root, np.eye(5), atol=1e-10)


def test_each_domain_gets_the_targets_mean_and_covariance() -> None:
    fitted = Coral(Rows(), "set", "home", ridge=1e-9).taught(DATA, SOUNDS, Context())
    home = frames_of(fitted, "home")
    np.testing.assert_array_equal(home, frames_of(Coral(Rows()), "home"))
    for domain in ("north", "south"):
        made, raw = frames_of(fitted, domain), frames_of(fitted, domain, "elsewhere")
        np.testing.assert_allclose(np.cov(made, rowvar=False), np.cov(home, rowvar=False),
                                   atol=1e-3)  # fmt: skip
        np.testing.assert_allclose(made.mean(axis=0), home.mean(axis=0), atol=1e-3)
        assert np.abs(np.cov(raw, rowvar=False) - np.cov(home, rowvar=False)).max() > 0.5
    plain = Coral(Rows(), "set", "home", ridge=1e-9, centred=False).taught(DATA, SOUNDS, Context())
    made = frames_of(plain, "north")
    np.testing.assert_allclose(np.cov(made, rowvar=False), np.cov(home, rowvar=False), atol=1e-3)
    assert np.abs(made.mean(axis=0) - home.mean(axis=0)).max() > 0.5


def test_the_ridge_is_the_papers_formula() -> None:
    source, target = (moments_of(R.normal(size=(200, 3)) * scale) for scale in (1.0, 5.0))
    _, matrix, _ = alignment(source, target, 1.0, centred=False)
    w, v = np.linalg.eigh(source[1] + np.eye(3))
    whitened = v @ np.diag(w**-0.5) @ v.T
    w, v = np.linalg.eigh(target[1] + np.eye(3))
    np.testing.assert_allclose(matrix, whitened @ (v @ np.diag(w**0.5) @ v.T))


def test_a_target_that_nothing_trains_and_data_without_domains() -> None:
    with pytest.raises(UserError, match="'away' in its column 'set'"):
        Coral(Rows(), "set", "away").taught(DATA, SOUNDS, Context())
    with pytest.raises(UserError, match="column 'place'"):
        Coral(Rows(), "place", "home").taught(DATA, SOUNDS, Context())
    still = Coral(Rows(), "").taught(DATA, SOUNDS, Context())
    assert not still.maps


def test_a_range_is_shared_out() -> None:
    module = Ranged(Rows(), 1.0, 3.0).build()
    sound = torch.tensor([[1.0, 2.0, 3.0, 9.0]])
    assert module(sound)[0, 0, :, 0].tolist() == [0.0, 0.5, 1.0, 1.0]
    assert Ranged(Rows(), 1.0, 3.0, clamped=False).build()(sound)[0, 0, 3, 0] == 4.0
    with pytest.raises(ValueError, match="below"):
        Ranged(Rows(), 1.0, 1.0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(BANDS, 1)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.out(x[:, 0].mean(2)))


def system(**changed: Any) -> NetworkSystem:
    about: dict[str, Any] = {
        "front_end": Ranged(Coral(Rows(), "set", "home", clips=5), -9.0, 9.0, clamped=False),
        "network": lambda shape, classes: Net(), "loss": [LogitBce()], "frames": False,
        "training": Training(epochs=1, labelled=8, unlabelled=0), "activation": "sigmoid",
        "excerpts": Excerpts(frames=FRAMES, train="start", predict="start"), "scale": "none",
    }  # fmt: skip
    return NetworkSystem(**{**about, **changed})


def test_a_system_asks_for_the_column_hears_by_it_and_keeps_its_maps(tmp_path: Path) -> None:
    one = system()
    assert one.columns == (Column("set", ("home",)),)
    assert one.inputs()["audio"].column == "set"
    fitted = one.train(DATA, SOUNDS, Context(seed=1, threads=1))
    module = fitted.model.front_end
    assert module.about == {"domains": ["north", "south"]}
    said = fitted.predict(tuple(CLIPS), SOUNDS, Context())
    fitted.save(tmp_path)
    loaded = one.load(tmp_path)
    again = loaded.predict(tuple(CLIPS), SOUNDS, Context())
    assert np.array_equal(said.clip_scores, again.clip_scores)  # type: ignore[arg-type]
    plain = {"audio": Waveforms(100, CLIPS)}  # files: of no domain
    other = fitted.predict(tuple(CLIPS), plain, Context()).clip_scores
    assert said.clip_scores is not None
    assert other is not None
    same = np.isclose(said.clip_scores, other)[:, 0]
    assert same.tolist() == [d == "home" for d in DOMAINS]
    with pytest.raises(ValueError, match="column"):
        system(excerpts=Excerpts(seconds=1.0))


def test_sound_knows_the_column_of_its_clips(tmp_path: Path) -> None:
    tones = fakedata.make("tones", {"train": (8, "class")}, ())
    ids = tuple(clip.clip_id for clip in tones.clips)
    asked = Input(("labelled",), 16_000, column="device")
    sound = open_sound(tones, ids, asked, tmp_path, map)
    assert isinstance(sound, Described)
    assert [sound.value(clip.clip_id) for clip in tones.clips] == [
        clip.columns["device"] for clip in tones.clips
    ]
    assert sound.value("elsewhere") == ""
    plain = open_sound(tones, ids, replace(asked, column=""), tmp_path, map)
    for clip_id in ids:
        assert np.array_equal(sound[clip_id], plain[clip_id])
        assert sound.duration(clip_id) == plain.duration(clip_id)
        assert sound.digest(clip_id) == plain.digest(clip_id)
        assert np.array_equal(sound.piece(clip_id, 0, 3, 5), plain[clip_id][3:8])
    assert asked.key != replace(asked, column="").key
