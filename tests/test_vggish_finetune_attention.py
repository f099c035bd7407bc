"""What is vggish_finetune_attention's own: its networks by hand, batches, stages, fusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from systems import registry, testing
from systems.context import Context
from systems.papers.vggish_finetune_attention import (
    EXTRACTORS,
    LstmConfig,
    MlaConfig,
    MultiLevel,
    OverClip,
)

PAPER = "vggish_finetune_attention"


def test_the_attention_network_is_the_papers_formula() -> None:
    """F_k = sum_n p_k(x_n) f_k(x_n) with p_k = v_k / sum_m v_k, segment by segment."""
    torch.manual_seed(0)
    net = MultiLevel(MlaConfig(units=7), 5, 4, attends=True).eval()
    x = torch.randn(3, 1, 5, 6)
    said = []
    for clip in range(3):
        h = [x[clip, 0, :, n] for n in range(6)]
        levels = []
        for layer, level in zip(net.layers, net.levels, strict=True):
            h = [layer(one[None])[0] for one in h]
            f = torch.stack([level.classification(one).softmax(0) for one in h])
            v = torch.stack([level.attention(one).softmax(0) for one in h])
            levels.append((v / v.sum(0) * f).sum(0))
        said.append(net.out(torch.cat(levels)))
    logits = net(x).clip
    torch.testing.assert_close(logits, torch.stack(said))


def test_the_networks_of_single_segments_are_classifiers_of_each_level() -> None:
    torch.manual_seed(0)
    net = MultiLevel(MlaConfig(units=7), 5, 4, attends=False).eval()
    x = torch.randn(2, 1, 5, 1)
    h, levels = x[:, 0, :, 0], []
    for layer, level in zip(net.layers, net.levels, strict=True):
        h = layer(h)
        levels.append(level(h).softmax(1))
    torch.testing.assert_close(net(x).clip, net.out(torch.cat(levels, dim=1)))


def test_an_lstm_reads_what_is_there_of_a_clip() -> None:
    torch.manual_seed(0)
    net = OverClip(LstmConfig(units=6), 5, 4).eval()
    x = torch.randn(2, 1, 5, 7)
    x[0, :, :, 3:] = torch.nan
    state = net.lstm.cell(x[:1, 0, :, :3].transpose(1, 2))[1][0][-1]
    torch.testing.assert_close(net(x).clip[:1], net.out(state))
    assert net(x).clip.isfinite().all()


@pytest.fixture(scope="module")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> tuple[testing.Case, Any, Path]:
    """A tiny training of the LSTM on a tiny extractor."""
    folder = tmp_path_factory.mktemp("pupil")
    case = testing.Case.of(registry.get(f"{PAPER}/lstm"), folder / "store")
    fitted, _ = case.train(folder / "training")
    return case, fitted, folder


def test_a_clips_vectors_are_those_of_its_segments(pupil: tuple[testing.Case, Any, Path]) -> None:
    case, fitted, _ = pupil
    teacher, _ = case.teachers["extractor"]
    clip_id = max(case.data.labelled.clip_ids, key=case.sounds["audio"].duration)
    waveform = np.array(case.sounds["audio"][clip_id])
    with torch.inference_mode():
        heard = fitted.model.front_end(torch.from_numpy(waveform)[None])[0, 0]
    prepared = teacher.system.prepare(waveform, 16_000)
    (part,) = prepared.parts(waveform)
    features = teacher.system.front_end.build()(torch.from_numpy(part)[None])
    segments = features[..., : features.shape[-1] // 96 * 96].unflatten(-1, (-1, 96))
    with torch.inference_mode():
        vectors = teacher.model.network.trunk(segments[0].permute(2, 0, 1, 3))
    assert len(vectors) > 1
    torch.testing.assert_close(heard, vectors.T, atol=1e-5, rtol=1e-4)


def test_checkpoints_hold_no_teacher_and_the_model_does(
    pupil: tuple[testing.Case, Any, Path],
) -> None:
    case, fitted, folder = pupil
    state = Context(folder / "training").restore()
    assert state is not None
    names = set(state["model"])
    assert names
    assert not any(name.startswith("front_end.") for name in names)
    fitted.save(folder / "model")
    loaded = case.system().load(folder / "model")
    assert any(n.startswith("front_end.") for n in loaded.model.state_dict())
    testing.same(case.predict(loaded), case.predict(fitted))


def test_a_frozen_extractor_stays_as_released(tmp_path: Path) -> None:
    entry = registry.get(f"{PAPER}/extractor")
    case = testing.Case.of(entry, tmp_path)
    start: dict[str, torch.Tensor] = {}

    def note(net: torch.nn.Module, context: Context) -> None:
        start.update({k: v.clone() for k, v in net.state_dict().items()})

    from systems import config as configs

    system: Any = entry.build(configs.replace(case.config, {"tuned": "none"}))
    system.start = note
    trained = system.train(case.data, case.sounds, Context(seed=3, threads=1)).model.network
    for name, value in trained.state_dict().items():
        assert torch.equal(value, start[name]) == name.startswith("trunk."), name


def test_figures_are_of_four_extractors() -> None:
    nodes = registry.resolve(f"{PAPER}/mla_segments")
    names = [node.name for node in nodes]
    assert sum("/extractor#" in name for name in names) == 4
    assert sum("/mla#" in name for name in names) == 24
    main = registry.node(f"{PAPER}/vggish_mla").entry
    assert isinstance(main, registry.Fusion)
    assert [one.partition("#")[2] for one in main.members] == [f"F, {e}" for e in EXTRACTORS]
    plain = registry.node(f"{PAPER}/vggish_mla#C: 6 segments").entry
    assert isinstance(plain, registry.Fusion)
    config = registry.node(plain.members[2]).config
    assert (config.shift, config.mixup, config.segments) == (0, 0.0, 6)
    assert config.extractor == "unbal-first"
    (needed,) = config and registry.node(plain.members[2]).requires.values()
    assert registry.node(needed.address).config.tuned == "unbalanced"
    released = registry.node(f"{PAPER}/extractor#released").config
    assert (released.tuned, released.share) == ("none", 1.0)
