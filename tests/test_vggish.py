"""VGGish, its front end and its published layout, against the released code's formulae by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from systems.context import Context
from systems.errors import UserError
from systems.excerpts import Excerpts
from systems.frontend.log_mel import LogMel, over_mel
from systems.nets import vggish
from systems.nets.vggish import Vggish, VggishTrunk
from systems.weights import YOUTUBE, StartFrom

RATE = 16_000


def reference(waveform: np.ndarray) -> np.ndarray:
    """Log-mel [T, 64], frame by frame and filter by filter: magnitudes of 400 samples every 160
    under a periodic Hann window, by an FFT of 512; triangles in mel; log of the sum and 0.01."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = range(0, len(waveform) - 400 + 1, 160)
    spectra = np.abs([np.fft.rfft(waveform[i : i + 400] * window, 512) for i in frames])

    def mel(hz: float) -> float:
        return 1127.0 * float(np.log(1 + hz / 700.0))

    edges = np.linspace(mel(125), mel(7500), 66)
    matrix = np.zeros((257, 64))
    for band in range(64):
        low, middle, high = edges[band : band + 3]
        for k in range(1, 257):
            at = mel(k * 8000 / 256)
            matrix[k, band] = max(
                0.0, min((at - low) / (middle - low), (high - at) / (high - middle))
            )
    return np.log(spectra @ matrix + 0.01)


def test_the_front_end_is_the_released_ones() -> None:
    r = np.random.default_rng(0)
    t = np.arange(20_000) / RATE
    sound = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * r.normal(size=len(t))).astype(np.float32)
    made = vggish.FRONT_END.build()(torch.from_numpy(sound)[None])[0, 0].T.numpy()
    expected = reference(sound.astype(np.float64))
    assert made.shape == expected.shape == (123, 64)
    np.testing.assert_allclose(made, expected, atol=2e-4)
    # Straight over Hz, or with frames of 512 samples, it would be another.
    for other in ({"triangles": "hz"}, {"frame": "fft"}):
        changed = LogMel(**{**vars(vggish.FRONT_END), **other})
        rows = changed.build()(torch.from_numpy(sound)[None])[0, 0].T.numpy()
        assert np.abs(rows - expected[: len(rows)]).max() > 0.01


def test_a_segment_takes_15_600_samples() -> None:
    front_end = vggish.FRONT_END
    assert front_end.frames(15_600) == 96
    assert front_end.frames(15_599) == 95
    assert round(vggish.LEAST * RATE) == 15_600
    assert front_end.frame_start == pytest.approx(0.0075)  # half a hop before its middle, 12.5 ms


@pytest.mark.parametrize(
    "wrong",
    [{"triangles": "mel", "mel": "slaney"}, {"frame": "window", "center": True},
     {"full_scale": 0.0}, {"emphasis": 1.0}],
)  # fmt: skip
def test_front_ends_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"triangles|frames|full_scale"):
        LogMel(**wrong)  # type: ignore[arg-type]


def test_filters_over_mel_overlap_to_one() -> None:
    filters = over_mel(vggish.FRONT_END)
    inside = filters.sum(axis=0)[8:230]  # between the first band's middle and the last's
    np.testing.assert_allclose(inside, 1.0, atol=1e-12)


def published() -> nn.Module:
    """The network of the published file: names, shapes and the order of its vector."""

    class Published(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            channels = 1
            for step in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M"):
                if isinstance(step, str):
                    layers.append(nn.MaxPool2d(2, 2))
                    continue
                layers += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU(True)]
                channels = step
            self.features = nn.Sequential(*layers)
            self.embeddings = nn.Sequential(
                nn.Linear(512 * 4 * 6, 4096), nn.ReLU(True), nn.Linear(4096, 4096), nn.ReLU(True),
                nn.Linear(4096, 128), nn.ReLU(True),
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, 1, T, F]
            maps = self.features(x)
            flat = torch.stack([  # time, then frequency, then channels
                maps[:, :, t, f] for t in range(6) for f in range(4)
            ], dim=1)  # fmt: skip
            return self.embeddings(flat.flatten(1))

    return Published()


def test_a_file_in_the_published_layout_says_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = published().eval()
    torch.save(theirs.state_dict(), tmp_path / "vggish.pth")
    ours = Vggish((1, 64, 96), 41)
    StartFrom(str(tmp_path / "vggish.pth"), "vggish", "trunk")(ours, Context())
    x = torch.randn(2, 1, 64, 96)
    with torch.inference_mode():
        embedding = ours.eval()(x).embedding
        torch.testing.assert_close(embedding, theirs(x.transpose(2, 3)))
    with pytest.raises(UserError, match="another network"):
        StartFrom(str(tmp_path / "vggish.pth"), "vggish", "trunk")(
            Vggish((1, 64, 96), 41, width=0.5), Context()
        )


def test_its_counts_are_the_cards() -> None:
    with torch.device("meta"):
        trunk, whole = VggishTrunk(), Vggish((1, 64, 96), 41)
    assert sum(p.numel() for p in trunk.parameters()) == 72_141_184
    assert sum(p.numel() for p in whole.parameters()) == 72_158_225
    dense = [m for m in trunk.embeddings if isinstance(m, nn.Linear)]
    assert [sum(p.numel() for p in m.parameters()) for m in dense] == [
        50_335_744, 16_781_312, 524_416
    ]  # fmt: skip


def test_the_published_file_has_an_address_a_digest_and_a_licence() -> None:
    known = YOUTUBE["vggish"]
    assert known.name == f"vggish-{known.sha256}.pth"
    assert known.licence


def test_short_sound_is_repeated_to_a_segment() -> None:
    excerpts = Excerpts(frames=96, at_least=vggish.LEAST)
    short = np.arange(7000, dtype=np.float32)
    made = excerpts.fitted(short, RATE)
    assert len(made) == 15_600
    assert np.array_equal(made, np.concatenate([short, short, short])[:15_600])
    assert excerpts.fitted(made, RATE) is made
    assert not excerpts.too_short(0.1, vggish.LEAST)
    assert Excerpts(frames=96).too_short(0.1, vggish.LEAST)
