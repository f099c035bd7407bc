"""mask_breathing_resnet over time: what networks keep of it, what is frozen, pupils of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from systems import config as configs
from systems import registry, testing
from systems.context import Context
from systems.predictions import Predictions

PAPER = "mask_breathing_resnet"
STEP = 640  # samples at 16 kHz: 25 values a second


def network(name: str, **overrides: Any) -> torch.nn.Module:
    entry = registry.get(f"{PAPER}/{name}")
    system = entry.build(configs.replace(entry.config, {"width": 0.05, **overrides}))
    made = system.network(1)
    assert made is not None
    return made


@pytest.mark.parametrize("size", ["small", "medium", "complex"])
@pytest.mark.parametrize("steps", [50, 400])
def test_convolutions_shorten_the_waveform_640_times(size: str, steps: int) -> None:
    with torch.inference_mode():
        said = network(f"breath_cnn_lstm_{size}").eval()(torch.randn(2, 1, steps * STEP))
    assert said.frames.shape == (2, steps, 1)
    assert said.frame_embedding.shape[:2] == (2, steps)
    assert said.frames.abs().max() <= 1


@pytest.mark.parametrize("size", ["small", "medium", "complex"])
def test_a_value_hears_what_sounds_beside_it(size: str) -> None:
    """The LSTMs look back alone, and the convolutions a little ahead."""
    torch.manual_seed(0)
    net = network(f"breath_cnn_lstm_{size}", width=0.1).eval()
    x = torch.randn(1, 1, 60 * STEP)
    changed = x.clone()
    changed[..., 30 * STEP : 31 * STEP] += 1
    with torch.inference_mode():
        moved = (net(x).frames - net(changed).frames).abs()[0, :, 0] > 1e-7
    assert moved[30]
    assert not moved[:27].any()


def test_a_piece_of_a_second_is_centred_on_each_value(tmp_path: Path) -> None:
    """Log-mel pieces of value t are those of the second around 0.04 t s, mirrored at both ends."""
    case = testing.Case.of(registry.get(f"{PAPER}/breath_resnet18_gru"), tmp_path)
    system: Any = case.system()
    clip_id = case.data.labelled.clip_ids[0]
    waveform = case.sounds["audio"][clip_id]
    mirrored = np.pad(waveform, 8000, mode="reflect")
    front_end = system.front_end.build()
    loudest = front_end.energies(torch.from_numpy(mirrored)[None]).max()
    hearing = system.hearing(case.sounds, system.length, STEP / 16_000)
    track = hearing.track(system.untrained(("a",), system.length, 0.04).model, [clip_id], Context())
    cut = track.cut([(0, 0, system.length)])[0, 0]
    for value in (0, 40, 99):
        around = mirrored[value * STEP : value * STEP + 16_000 + 320]  # [-0.5 s, 0.52 s)
        energies = front_end.energies(torch.from_numpy(around.copy())[None])[0, :, :50]
        expected = (10 * torch.log10(energies.clamp_min(1e-10) / loudest)).clamp_min(-80)
        torch.testing.assert_close(cut[:, 2 * value : 2 * value + 50], expected, atol=1e-3, rtol=0)


def test_frozen_layers_stay_as_they_are_and_so_do_their_statistics(tmp_path: Path) -> None:
    case = testing.Case.of(registry.get(f"{PAPER}/breath_resnet18_gru"), tmp_path / "store")
    start: dict[str, torch.Tensor] = {}

    def note(net: torch.nn.Module, context: Context) -> None:
        start.update({k: v.clone() for k, v in net.state_dict().items()})

    system: Any = case.system()
    system.start = note
    again = system.train(case.data, case.sounds, Context(seed=3, threads=1))
    trained = again.model.network.state_dict()
    frozen = [k for k in start if k.startswith(tuple(f"{name}." for name in system.frozen))]
    assert any(k.endswith("running_mean") for k in frozen)
    for name, value in trained.items():
        if name.endswith("num_batches_tracked"):
            continue
        assert torch.equal(value, start[name]) == (name in frozen), name


@pytest.fixture(scope="module")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> tuple[testing.Case, Any, Path]:
    """A fusion of two tiny teachers, and where it is saved."""
    folder = tmp_path_factory.mktemp("pupil")
    case = testing.Case.of(registry.get(f"{PAPER}/breath_de_fusion_lstm"), folder / "store")
    fitted, _ = case.train(folder)
    fitted.save(folder / "model")
    return case, fitted, folder / "model"


def test_a_pupil_hears_its_teachers_embeddings_25_times_a_second(
    pupil: tuple[testing.Case, Any, Path],
) -> None:
    case, fitted, _ = pupil
    clip_id = case.data.labelled.clip_ids[0]
    waveform = torch.from_numpy(np.array(case.sounds["audio"][clip_id]))
    with torch.inference_mode():
        heard = fitted.model.front_end(waveform[None])
    assert heard.shape[-1] == round(len(waveform) / STEP)
    said = []
    for name in ("cnn", "resnet"):
        teacher = case.teachers[name][0]
        prepared = testing.Case.of(
            registry.get(case.teachers[name][1]["system"]), pupil[2].parent / "store" / name
        )
        (one,) = teacher.listen((clip_id,), prepared.sounds, Context())
        said.append(one.frame_embedding)
    torch.testing.assert_close(heard[0, 0], torch.cat(said, dim=1).T, atol=1e-5, rtol=1e-4)
    widths = {name: one.shape[1] for name, one in zip(("cnn", "resnet"), said, strict=True)}
    assert fitted.model.network.head.layers[0].cell.input_size == sum(widths.values())


def test_a_pupils_folder_predicts_without_its_teachers(
    pupil: tuple[testing.Case, Any, Path],
) -> None:
    case, fitted, folder = pupil
    expected = case.predict(fitted)
    loaded = case.system().load(folder)  # nothing is required here
    assert case.data.validation is not None
    said: Predictions = loaded.predict(
        case.data.validation.clip_ids, case.sounds, Context(threads=1)
    )
    testing.same(said, expected)
    waveform = np.array(case.sounds["audio"][case.data.validation.clip_ids[0]])
    _, values = loaded.score([waveform], Context())
    assert values is not None
    assert expected.frame_values is not None
    np.testing.assert_allclose(values[0], expected.frame_values[0], atol=1e-6)
