"""Networks of timm as trunks."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from systems.errors import UserError, nearest
from systems.outputs import Outputs


class Backbone(nn.Module):
    """A network of timm by its name, without its classifier: images [B, C, H, W] -> [B, width].

    Args:
        name: as ``timm.list_models()`` has it.
        channels: of the images; a single channel of the features is copied into all of them.
        size: images are resized to this height and width; 0 keeps theirs.
        dropout: of the network's own, where it has any.

    Raises:
        UserError: timm has no network of this name (names the nearest).
    """

    def __init__(self, name: str, channels: int = 3, size: int = 0, dropout: float = 0.0) -> None:
        import timm  # takes seconds to import

        super().__init__()
        self.channels, self.size = channels, size
        if not timm.is_model(name):
            raise UserError(f"timm has no network '{name}'{nearest(name, timm.list_models())}.")
        self.trunk = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=channels, drop_rate=dropout
        )
        self.width = int(self.trunk.head_hidden_size)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        if self.size:
            x = nn.functional.interpolate(x, (self.size, self.size), mode="bilinear")
        pooled: Tensor = self.trunk(x)
        return pooled


class AsPhoto(nn.Module):
    """Features [B, 1, F, T] as what ImageNet's networks saw [B, 3, F, T]: each example between its
    minimum 0 and its maximum 1, in three equal colours, standardised as ImageNet is."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("deviation", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        grey = (x - low) / (high - low).clamp_min(1e-6)
        return (grey - self.mean) / self.deviation


def dense(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Dense layers of these widths with ReLU and dropout between them, none after the last."""
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(itertools.pairwise(widths)):
        if place:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)


class ImageNetwork(nn.Module):
    """Features [B, 1, F, T] as an image -> logits [B, K]: a backbone, then dense layers."""

    def __init__(
        self, backbone: Backbone, hidden: tuple[int, ...], classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = dense(backbone.width, *hidden, classes, dropout=dropout)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.head(self.backbone(x)))
