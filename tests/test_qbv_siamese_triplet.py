"""What is qbv_siamese_triplet's own: towers, front ends, objectives, its trials."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from systems import config as configs
from systems import registry
from systems.context import Context
from systems.data.prepare import Waveforms
from systems.errors import UserError
from systems.papers.qbv_siamese_triplet import Config, Towers
from systems.training.pairs import Pairs, Triplets

ENTRY = registry.get("qbv_siamese_triplet")


def test_towers_of_the_card() -> None:
    system = ENTRY.build(ENTRY.config)
    assert system.shapes() == {"query": (1, 39, 482), "gallery": (1, 128, 128)}
    with torch.device("meta"):
        network = system.network(100)
        shapes = {}
        for name in ("query", "gallery"):
            x, shapes[name] = torch.zeros(1, *system.shapes()[name]), []
            for block in getattr(network, name).trunk.blocks:
                x = block(x)
                shapes[name].append(tuple(x.shape[1:]))
    assert shapes["query"] == [(48, 17, 238), (48, 6, 116), (48, 1, 55)]
    assert shapes["gallery"] == [(24, 62, 31), (48, 29, 6), (48, 25, 2)]

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(network.query) == 168_048
    assert count(network.gallery) == 87_360
    assert count(network.head) == 544_537
    plain = ENTRY.build(configs.replace(ENTRY.config, {"network.norm": False})).network(100)
    assert count(plain) == 799_417


@pytest.mark.parametrize(("side", "seconds"), [("query", 1.3), ("query", 5.0), ("gallery", 2.0)])
def test_features_are_librosas(side: str, seconds: float) -> None:
    """As the public code makes them: 4 s, power, dB below the loudest value, then standardised."""
    system = ENTRY.build(ENTRY.config)
    front_end = getattr(ENTRY.config, side)
    r = np.random.default_rng(0)
    wave = (r.normal(size=round(seconds * front_end.rate)) * 0.1).astype(np.float32)
    filled = np.pad(wave, (0, 4 * front_end.rate))[: 4 * front_end.rate]
    power = librosa.feature.melspectrogram(
        y=filled, sr=front_end.rate, n_fft=front_end.window, hop_length=front_end.hop,
        n_mels=front_end.bands, fmax=front_end.fmax or None,
    )  # fmt: skip
    expected = librosa.power_to_db(power, ref=np.max)[:, : system.shapes()[side][2]]
    expected = (expected - expected.mean()) / expected.std()
    model, context = system.untrained(), Context(threads=1)
    hearing = system.sides[side].hearing(Waveforms(front_end.rate, {"x": wave}))
    track = hearing.track(model.side(side), ("x",), context)
    cut = track.cut([(0, 0, hearing.length)])
    features = model.side(side).features(cut, context.device)[0, 0].numpy()
    assert features.shape == expected.shape == system.shapes()[side][1:]
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_the_two_systems_differ_in_their_objective_alone() -> None:
    pairwise = registry.get("qbv_siamese_triplet/tliminet_pairwise")
    systems = [one.build(one.config) for one in (ENTRY, pairwise)]
    assert [type(one.recipe.batches) for one in systems] == [Triplets, Pairs]
    torch.manual_seed(1)
    first = systems[0].network(5).state_dict()
    torch.manual_seed(1)
    second = systems[1].network(5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in second)
    assert systems[0].recipe.terms[0].gain == 50


def test_impossible_values_are_refused() -> None:
    for wrong in ({"gain": 0.0}, {"frames": 0}, {"network.dropout": 1.0}, {"network.gallery": 1}):
        with pytest.raises(UserError, match=r"above 0|at least 1"):
            configs.replace(Config(network=Towers()), wrong)
