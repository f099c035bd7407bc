"""CNN14 of PANNs (Kong et al. 2020, arXiv 1912.10211), under the names of its weight files."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from systems.nets.convs import glorot
from systems.outputs import Outputs

BLOCKS = 6


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU, then mean pooling."""

    def __init__(self, channels: int, filters: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return functional.avg_pool2d(x, self.pool) if self.pool > 1 else x


class Cnn14Trunk(nn.Module):
    """Log-mel [B, 1, F, T] in dB -> embeddings [B, 32 width].

    A batch norm of the bands, six blocks of ``width`` to ``32 width`` filters, the mean over bands,
    the maximum plus the mean over time, and a dense layer. At a width of 64, and 64 bands, names
    and shapes are those of the published files; what these hold beside (their front end and
    classifier) is not here. Random weights are Glorot's, as there.
    """

    def __init__(self, bands: int, width: int = 64) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(bands)
        filters = [1, *(width * 2**n for n in range(BLOCKS))]
        for n in range(BLOCKS):
            pool = 2 if n + 1 < BLOCKS else 1
            setattr(self, f"conv_block{n + 1}", ConvBlock(filters[n], filters[n + 1], pool))
        self.width = filters[-1]
        self.fc1 = nn.Linear(self.width, self.width)
        glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        # The published kernels are of (time, frequency).
        x = self.bn0(x.transpose(1, 2)).permute(0, 2, 3, 1)  # [B, 1, T, F]
        for n in range(BLOCKS):
            block = getattr(self, f"conv_block{n + 1}")
            x = functional.dropout(block(x), 0.2, self.training)
        x = x.mean(3)
        x = functional.dropout(x.amax(2) + x.mean(2), 0.5, self.training)
        return functional.relu(self.fc1(x))


class Cnn14(nn.Module):
    """Log-mel [B, 1, F, T] in dB -> logits [B, K]: the trunk and a new dense layer."""

    def __init__(self, bands: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.trunk = Cnn14Trunk(bands, width)
        self.head = nn.Linear(self.trunk.width, classes)
        glorot(self.head)

    def forward(self, x: Tensor) -> Outputs:
        embedding = self.trunk(x)
        dropped = functional.dropout(embedding, 0.5, self.training)
        return Outputs(self.head(dropped), embedding=embedding)
