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
        return self.pooled(self.maps(x))

    def maps(self, x: Tensor) -> Tensor:
        """The last feature maps [B, C, h, w] of images."""
        if x.shape[1] == 1:
            x = x.expand(-1, self.channels, -1, -1)
        if self.size:
            shrinks = max(x.shape[2:]) > self.size
            size = (self.size, self.size)
            x = nn.functional.interpolate(x, size, mode="bilinear", antialias=shrinks)
        maps: Tensor = self.trunk.forward_features(x)  # type: ignore[operator]
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """What the trunk makes of its last maps: [B, width]."""
        pooled: Tensor = self.trunk.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return pooled


class ImageNetColours(nn.Module):
    """Colours in 0..1 [B, 1 or 3, F, T], standardised as ImageNet's are [B, 3, F, T]."""

    def __init__(self) -> None:
        from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        super().__init__()
        colours = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        for name, values in zip(("mean", "deviation"), colours, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class AsPhoto(nn.Module):
    """Features [B, 1, F, T] as what ImageNet's networks saw [B, 3, F, T]: each example between its
    minimum 0 and its maximum 1, in three equal colours, standardised as ImageNet is."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = ImageNetColours()

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        standardised: Tensor = self.colours((x - low) / (high - low).clamp_min(1e-6))
        return standardised


def dense(*widths: int, dropout: float = 0.0) -> nn.Sequential:
    """Dense layers of these widths with ReLU and dropout between them, none after the last."""
    layers: list[nn.Module] = []
    for place, (a, b) in enumerate(itertools.pairwise(widths)):
        if place:
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)


class ImageNetwork(nn.Module):
    """Features [B, 1 or C, F, T] as an image -> logits [B, K]: a backbone, then dense layers."""

    def __init__(
        self, backbone: Backbone, hidden: tuple[int, ...], classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = dense(backbone.width, *hidden, classes, dropout=dropout)

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.head(self.backbone(x)))

    def class_maps(self, x: Tensor) -> Tensor:
        """Class activation maps [B, K, h, w] of images: where each class's logit comes from.

        Grad-CAM (Selvaraju et al. 2017) without its ReLU: the last feature maps, weighted by the
        logit's mean gradient with respect to each. Of a global mean and one dense layer it is CAM
        (Zhou et al. 2016), whose mean over the map is the logit less its bias.

        Raises:
            UserError: the backbone ends in no maps (a transformer).
        """
        with torch.enable_grad():
            maps = self.backbone.maps(x).detach().requires_grad_()
            if maps.dim() != 4 or maps.shape[1] != self.backbone.trunk.num_features:
                raise UserError("this backbone ends in no feature maps over the picture.")
            logits = self.head(self.backbone.pooled(maps))
            places = maps.shape[2] * maps.shape[3]
            found = []
            for of_class in logits.sum(0):
                (gradient,) = torch.autograd.grad(of_class, maps, retain_graph=True)
                weights = places * gradient.mean((2, 3), keepdim=True)
                found.append((weights * maps).sum(1).detach())
        return torch.stack(found, dim=1)
