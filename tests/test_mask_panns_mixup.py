"""CNN14 and what this paper brings: the authors' weights, masks, and an outside system's table."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import HERE
from faulted import KILLED, epochs, fault, faulty, saved
from made_sets import sound, table
from torch import Tensor
from torch.nn import functional

from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems import registry, weights
from systems.context import Context
from systems.errors import UserError
from systems.nets.backbone import AsPhoto
from systems.nets.cnn14 import Cnn14
from systems.network_system import NetworkSystem
from systems.outputs import Outputs
from systems.outside import OutsideSystem, Told, read_scores
from systems.training.losses import LogitBce, Step
from systems.training.masking import BlockMasking, Drops
from systems.training.mixing import Batch
from systems.weights import StartFrom, Weights

# CNN14


def described(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """PANNs' CNN14 as published: [B, time, 64] -> logits [B, K] with weights under its names."""

    def norm(y: Tensor, name: str, axis: int) -> Tensor:
        shape = [1] * y.dim()
        shape[axis] = -1
        mean, var, gain, bias = (
            w[f"{name}.{part}"].view(shape)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / torch.sqrt(var + 1e-5) * gain + bias

    def conv(y: Tensor, kernel: Tensor) -> Tensor:
        columns = functional.unfold(y, 3, padding=1)  # [B, C 9, T F]
        out = kernel.flatten(1) @ columns
        return out.view(len(y), len(kernel), *y.shape[2:])

    y = norm(x, "bn0", 2)[:, None]  # [B, 1, T, F]
    for block in range(1, 7):
        for one in (1, 2):
            y = conv(y, w[f"conv_block{block}.conv{one}.weight"])
            y = norm(y, f"conv_block{block}.bn{one}", 1).clamp_min(0)
        if block < 6:
            t, f = y.shape[2] // 2 * 2, y.shape[3] // 2 * 2
            y = y[:, :, :t, :f].unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    y = y.mean(3)
    y = y.max(2).values + y.mean(2)
    y = (y @ w["fc1.weight"].T + w["fc1.bias"]).clamp_min(0)
    return y @ w["fc_audioset.weight"].T + w["fc_audioset.bias"]


def panns_file(network: Cnn14, classes: int = 527) -> dict[str, Any]:
    """A checkpoint in the authors' layout with other random weights of a network's shapes."""
    generator = torch.Generator().manual_seed(1)
    state = {name: torch.rand(value.shape, generator=generator) * 0.2 + (0.9 if "var" in name else
             -0.1) for name, value in network.trunk.state_dict().items()
             if not name.endswith("num_batches_tracked")}  # fmt: skip
    state |= {
        "spectrogram_extractor.stft.conv_real.weight": torch.ones(257, 1, 512),
        "logmel_extractor.melW": torch.ones(257, 64),
        "fc_audioset.weight": torch.rand(classes, network.trunk.width, generator=generator) - 0.5,
        "fc_audioset.bias": torch.rand(classes, generator=generator),
    }
    counts = {"pointers_of_classes": [0, 1], "indexes": np.arange(4), "weights": np.ones(2)}
    return {"iteration": 600_000, "model": state, "sampler": counts}


def test_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Cnn14(64, 527)
    assert sum(p.numel() for p in network.parameters()) == 80_753_615


@pytest.mark.parametrize("width", [8, pytest.param(64, marks=pytest.mark.all)])
def test_cnn14_is_the_published_description_in_the_authors_weights(
    width: int, tmp_path: Path
) -> None:
    network = Cnn14(64, 527, width)
    file = panns_file(network)
    torch.save(file, tmp_path / "cnn14.pth")
    StartFrom(str(tmp_path / "cnn14.pth"), "cnn14_16k", "trunk")(network, Context())
    network.head.load_state_dict(
        {part: file["model"][f"fc_audioset.{part}"] for part in ("weight", "bias")}
    )
    x = 20 * torch.randn(2, 101, 64, generator=torch.Generator().manual_seed(2)) - 30
    with torch.inference_mode():
        ours = network.eval()(x.transpose(1, 2)[:, None]).clip
        theirs = described(x, file["model"])
    assert ours is not None
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5
    assert float(theirs.std(dim=1).min()) > 0  # of random weights it says something


# The authors' weights


class Broken(SimpleHTTPRequestHandler):
    """Gives parts that are asked for; of a whole file the connection breaks after half."""

    asked: list[str | None]

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        span = self.headers.get("Range")
        self.asked.append(span)
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:] if span else content[: len(content) // 2])

    def log_message(self, *args: object) -> None:
        """Nothing to standard error."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str | None]]]:
    folder, asked = tmp_path / "served", list[str | None]()
    folder.mkdir()
    handler = type("Handler", (Broken,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_that_broke_goes_on_and_ends_in_the_network(
    served: tuple[Path, str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, asked = served
    network = Cnn14(200, 2, width=2)
    file = panns_file(Cnn14(64, 2, width=2))
    torch.save(file, folder / "Cnn14_16k_mAP=0.438.pth")
    size = (folder / "Cnn14_16k_mAP=0.438.pth").stat().st_size
    digest = hashlib.sha256((folder / "Cnn14_16k_mAP=0.438.pth").read_bytes()).hexdigest()
    there = Weights(f"{url}/Cnn14_16k_mAP%3D0.438.pth?download=1", digest)
    monkeypatch.setitem(weights.AUDIOSET, "cnn14_16k", there)
    monkeypatch.setattr(weights, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    start = StartFrom("audioset", "cnn14_16k", "trunk", fresh=("bn0",))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=f"{size // 2} of {size} bytes"):
        start(network, Context())
    start(network, Context())
    assert asked == [None, f"bytes={size // 2}-"]
    start(network, Context())  # from the cache
    assert len(asked) == 2
    for name, value in network.state_dict().items():
        part = name.removeprefix("trunk.")
        new = not part.startswith(("bn0", "head")) and not part.endswith("tracked")
        assert torch.equal(value, file["model"][part] if new else before[name]), name


def test_without_the_first_norm_fresh_a_file_of_other_bands_is_refused(tmp_path: Path) -> None:
    torch.save(panns_file(Cnn14(64, 2, width=2)), tmp_path / "net.pth")
    with pytest.raises(UserError, match="bn0"):
        StartFrom(str(tmp_path / "net.pth"), "", "trunk")(Cnn14(200, 2, width=2), Context())


def test_the_published_weights_have_an_address_a_digest_and_a_licence() -> None:
    for address in ("panns_mixup", "panns_ft"):
        config = registry.get(f"mask_panns_mixup/{address}").config
        known = weights.AUDIOSET["cnn14_16k"]
        assert config.weights == "audioset"
        assert (known.name, len(known.sha256)) == ("Cnn14_16k_mAP=0.438.pth", 64)
        assert known.licence


# Loss, masks and images


def test_the_loss_is_of_each_class_by_itself() -> None:
    logits, targets = torch.tensor([[0.0, np.log(3.0)]]), torch.tensor([[0.9, 0.1]])
    step = Step(torch.nn.Identity(), logits, targets, Outputs(logits), None)
    expected = (-np.log(0.5) - 0.1 * np.log(0.75) - 0.9 * np.log(0.25)) / 2
    assert float(LogitBce()(step)) == pytest.approx(expected)


def masked(change: Any, x: Tensor, seed: int = 0) -> Tensor:
    batch = change(Batch(x, torch.zeros(len(x), 2), None), np.random.default_rng(seed))
    return batch.features


def test_block_masks_have_the_widths_of_their_rates_and_the_minimum() -> None:
    x = torch.randn(40, 1, 200, 501)
    hidden = masked(BlockMasking(time=0.02, frequency=0.05), x) != x
    for one, was in zip(hidden[:, 0], x[:, 0], strict=True):
        frames, bands = one.all(dim=0), one.all(dim=1)
        # What was the minimum already is hidden too.
        whole = one | (was == was.min())
        frames, bands = whole.all(dim=0), whole.all(dim=1)
        assert (int(frames.sum()), int(bands.sum())) == (10, 10)
        for lines in (frames, bands):
            places = torch.nonzero(lines).flatten()
            assert int(places[-1] - places[0]) == 9
    after = masked(BlockMasking(time=0.02, frequency=0.05), x)
    torch.testing.assert_close(after.amin((1, 2, 3)), x.amin((1, 2, 3)))
    starts = {int(torch.nonzero(one[0, 0]).flatten()[0]) for one in hidden if one[0, 0].any()}
    assert len(starts) > 3
    torch.testing.assert_close(masked(BlockMasking(), x), x)


def test_drops_are_no_wider_than_told_and_become_the_bands_mean() -> None:
    x = torch.randn(300, 1, 64, 80) + torch.arange(64.0)[:, None]
    after = masked(Drops(bands=8, band_drops=1, frames=0, frame_drops=0), x)
    hidden = (after != x)[:, 0, :, 0]
    widths = hidden.sum(dim=1)
    assert (int(widths.min()), int(widths.max())) == (0, 8)
    assert float(widths.float().mean()) == pytest.approx(4, abs=0.5)
    mean = x.mean((0, 3))[0].expand(300, 64)
    torch.testing.assert_close(after[:, 0, :, 0][hidden], mean[hidden])
    twice = masked(Drops(bands=0, band_drops=0, frames=20, frame_drops=2), x)
    counts = (twice != x)[:, 0, 0].sum(dim=1)
    assert int(counts.max()) > 20
    assert int(counts.max()) <= 40


def test_an_image_lies_where_imagenets_lay() -> None:
    x = 30 * torch.randn(3, 1, 8, 9) - 50
    photo = AsPhoto()(x)
    low = (0 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(photo.amin((2, 3)), low.expand(3, 3))
    assert AsPhoto()(torch.full((1, 1, 4, 4), 7.0)).isfinite().all()


@pytest.mark.parametrize(("key", "value", "count"), [("mixup", 0.0, 0), ("mixup", 0.1, 1),
                                                     ("masking.time", 0.05, 2)])  # fmt: skip
def test_mixup_and_masks_are_switched_by_their_values(key: str, value: float, count: int) -> None:
    entry = registry.get("mask_panns_mixup")
    system = entry.build(configs.replace(entry.config, {key: value}))
    assert isinstance(system, NetworkSystem)
    assert len(system.recipe.augment) == count


# An outside system's table


def told(tmp_path: Path, text: str) -> dict[str, list[float]]:
    (tmp_path / "theirs.csv").write_text(text)
    return read_scores(tmp_path / "theirs.csv", ("clear", "mask"))


def test_a_table_has_classes_or_a_score_of_each(tmp_path: Path) -> None:
    assert told(tmp_path, "file_name,prediction\na.wav,mask\n") == {"a.wav": [0.0, 1.0]}
    assert told(tmp_path, "clip;mask;clear\na.wav;0.7;0.3\n") == {"a.wav": [0.3, 0.7]}


def test_faults_of_a_table_are_told_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)line 2: 'mosk' is no class.*mask.*line 4: b has"):
        told(tmp_path, "clip,prediction\na,mosk\nb,mask\nb,mask\n")
    with pytest.raises(UserError, match="much are no 2 numbers"):
        told(tmp_path, "clip,clear,mask\na,0.1,much\n")
    with pytest.raises(UserError, match="line 2: nan, 1 are not finite"):
        told(tmp_path, "clip,clear,mask\na,nan,1\n")
    with pytest.raises(UserError, match="a score for each of clear, mask"):
        told(tmp_path, "clip,clear\na,0.1\n")
    with pytest.raises(UserError, match="is not there"):
        read_scores(tmp_path / "absent.csv", ("clear", "mask"))


def test_a_table_speaks_of_clips_by_their_name_or_their_files(tmp_path: Path) -> None:
    rows = told(tmp_path, "clip,prediction\ndevel/a.wav,mask\nb.wav,clear\n")
    one = Told(16_000, ("clear", "mask"), rows, "theirs.csv")
    said = one.predict(("devel/a.wav", "devel/b.wav"), {}, Context())
    np.testing.assert_array_equal(said.clip_scores, [[0, 1], [1, 0]])
    one.save(tmp_path / "model")
    again = OutsideSystem("gone.csv", 16_000).load(tmp_path / "model")
    np.testing.assert_array_equal(again.scores_of(("test/b.wav",)), [[1, 0]])
    with pytest.raises(UserError, match=r"no row of 1 of 2 clips.*devel/c\.wav"):
        one.scores_of(("devel/a.wav", "devel/c.wav"))
    with pytest.raises(UserError, match="several clips have files called b"):
        one.scores_of(("devel/b.wav", "test/b.wav"))
    with pytest.raises(UserError, match="says nothing of other sound"):
        one.score([np.zeros(9)], Context())


# A fusion that was killed


FUSION = (
    "run", "--system", "mask_panns_mixup/late_fusion_vote", "--dataset", "compare2020_mask",
    "--data", "../set", "--budget", "quick", "--max-epochs", "3", "--set", "width=2", "--set",
    "predictions=../theirs.csv", "--storage", "runs", "--name", "it", *HERE,
)  # fmt: skip


@pytest.mark.all
def test_a_fusion_that_is_killed_in_a_fold_and_in_a_refit_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    rows = [["file_name", "label"]]
    for part, count in (("train", 12), ("devel", 8), ("test", 6)):
        for n in range(count):
            sound(tmp_path / f"set/wav/{part}_{n}.wav", seconds=1.0)
            rows.append([f"{part}_{n}.wav", ("clear", "mask")[n % 2]])
    table(tmp_path / "set/lab/labels.csv", rows, ",")
    theirs = [["clip", "prediction"], *([name, "mask"] for name, _ in rows[1:])]
    table(tmp_path / "theirs.csv", theirs, ",")
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
    done = faulty(tmp_path / "whole", FUSION)
    assert done.code == 0, done.output
    fold = "*panns_mixup/trials/*/fold0/checkpoint.pt.new"
    refit = "*panns_mixup/trials/*/refit*/checkpoint.pt.new"
    for nth, where in ((2, fold), (1, refit)):
        killed = faulty(tmp_path / "cut", FUSION, fault(where, nth, "kill"))
        assert killed.code == KILLED, killed.output
    assert faulty(tmp_path / "cut", FUSION).code == 0
    whole, cut = (RunDir(tmp_path / folder / "runs/it") for folder in ("whole", "cut"))
    assert read_json(cut.scores)["rows"] == read_json(whole.scores)["rows"]
    assert read_json(cut.members)["members"] == read_json(whole.members)["members"]
    member = RunDir(tmp_path / "cut/runs/it.mask_panns_mixup.panns_mixup")
    assert dict(epochs(member)) == {"00000/fold0": 3, "00000/refit": 3}  # the last one predicts
    saves = Counter(path.parent.name for path in saved(member))
    assert (saves["fold0"], saves["refit"]) == (4, 4)  # what was under way is trained again
