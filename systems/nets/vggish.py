"""VGGish (Hershey et al. 2017, arXiv 1609.09430), under the names of its file for PyTorch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from systems.frontend.log_mel import LogMel
from systems.nets.convs import glorot
from systems.outputs import Outputs

FRAMES, BANDS = 96, 64  # of a segment
STEP = 0.96  # s from segment to segment
LEAST = 0.975  # s of sound that a segment's frames take
# What the published weights hear: 25 ms every 10 ms, magnitudes, log(mel + 0.01).
FRONT_END = LogMel(
    rate=16_000, window=400, hop=160, fft=512, bands=BANDS, fmin=125, fmax=7500, center=False,
    frame="window", power=1, mel="htk", triangles="mel", norm="none", log="ln_add", floor=0.01,
)  # fmt: skip
WIDTHS = (64, 128, 256, 256, 512, 512)
POOLED = (0, 1, 3, 5)  # convolutions that a pool follows


class VggishTrunk(nn.Module):
    """Log-mel [B, 1, F, T] of a segment -> embeddings [B, E], after a ReLU.

    Six 3x3 convolutions in four blocks, each with a 2x2 pool, and three dense layers. ``width``:
    the share of all layers' units. At a width of 1, and 64 bands of 96 frames, names and shapes are
    those of the published file (72,141,184 parameters). Random weights are Glorot's.
    """

    def __init__(self, bands: int = BANDS, frames: int = FRAMES, width: float = 1.0) -> None:
        super().__init__()

        def units(count: int) -> int:
            return max(1, round(width * count))

        layers: list[nn.Module] = []
        channels = 1
        for place, filters in enumerate(map(units, WIDTHS)):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            if place in POOLED:
                layers.append(nn.MaxPool2d(2))
            channels = filters
        self.features = nn.Sequential(*layers)
        flat = channels * (bands // 16) * (frames // 16)
        hidden, self.width = units(4096), units(128)
        self.embeddings = nn.Sequential(
            nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, self.width), nn.ReLU(),
        )  # fmt: skip
        glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x.transpose(2, 3))  # kernels are of (time, frequency)
        embedding: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embedding


class Vggish(nn.Module):
    """Log-mel [B, 1, F, T] of a segment -> logits [B, K]: the trunk, a dense layer of ``hidden``
    units with ReLU, and a dense layer."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, hidden: int = 100, width: float = 1.0
    ) -> None:
        super().__init__()
        self.trunk = VggishTrunk(shape[1], shape[2], width)
        self.hidden = nn.Linear(self.trunk.width, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Outputs:
        embedding = self.trunk(x)
        return Outputs(self.out(functional.relu(self.hidden(embedding))), embedding=embedding)
