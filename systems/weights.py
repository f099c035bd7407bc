"""Published weights that a network starts from: fetched once, checked by their digest, kept."""

from __future__ import annotations

import hashlib
import re
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from safetensors.torch import load_file
from torch import Tensor, nn

from systems.context import Context
from systems.errors import UserError
from systems.files import whole


@dataclass(frozen=True)
class Weights:
    """A weights file on the web; ``sha256`` begins its digest."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def fetched(self, folder: Path | None = None) -> Path:
        """The file in the cache folder, fetched where it is not there.

        Raises:
            UserError: it cannot be fetched, or is not the published one.
        """
        path = (folder or Path(user_cache_dir("soundsweep")) / "weights") / self.name
        if path.exists():
            self._check(path.read_bytes(), f"{path} is not the published file", "remove it")
            return path
        otherwise = (
            f"put the file at {path}, name another with --set weights=PATH, or start without: "
            "--set weights=none"
        )
        try:
            with urllib.request.urlopen(self.url, timeout=60) as response:
                content: bytes = response.read()
        except (OSError, HTTPException) as error:
            raise UserError(
                f"the weights {self.url} cannot be fetched ({error}): {otherwise}."
            ) from error
        self._check(content, f"{self.url} does not give the published file", otherwise)
        with whole(path) as temporary:
            Path(temporary).write_bytes(content)
        return path

    def _check(self, content: bytes, what: str, otherwise: str) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if not digest.startswith(self.sha256):
            raise UserError(f"{what} (SHA-256 {digest[:16]}, not {self.sha256}): {otherwise}.")


# ImageNet classifiers, as torchvision published them (BSD-3-Clause). timm's networks have the same
# names in them, but for VGG's dense layers, which are convolutions there, and DenseNet's layers.
IMAGENET = {
    "resnet18": Weights("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd"),
    "resnet34": Weights("https://download.pytorch.org/models/resnet34-b627a593.pth", "b627a593"),
    "resnet50": Weights("https://download.pytorch.org/models/resnet50-0676ba61.pth", "0676ba61"),
    "resnet101": Weights("https://download.pytorch.org/models/resnet101-63fe2227.pth", "63fe2227"),
    "vgg16": Weights("https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"),
    "vgg16_bn": Weights("https://download.pytorch.org/models/vgg16_bn-6c64b313.pth", "6c64b313"),
    "vgg19_bn": Weights("https://download.pytorch.org/models/vgg19_bn-c79401a0.pth", "c79401a0"),
    "densenet121": Weights(
        "https://download.pytorch.org/models/densenet121-a639ec97.pth", "a639ec97"
    ),
    # torchvision's has other modules; this one is timm's own (Apache-2.0).
    "efficientnet_b0": Weights(
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
        "efficientnet_b0_ra-3dd342df.pth",
        "3dd342df",
    ),
}


@dataclass(frozen=True)
class StartFrom:
    """Weights of a network's part ``prefix``: ``none``, ``imagenet`` of a backbone, or a file.

    What the file has beside the part's names (a classifier) is left out; a file in the layout of
    the whole part's names alone will do.
    """

    weights: str
    backbone: str
    prefix: str

    def __call__(self, network: nn.Module, context: Context) -> None:
        if self.weights == "none":
            return
        if self.weights == "imagenet":
            if self.backbone not in IMAGENET:
                raise UserError(
                    f"no published weights are known of {self.backbone}, but of "
                    f"{', '.join(IMAGENET)}: --set weights=PATH or weights=none."
                )
            path = IMAGENET[self.backbone].fetched()
        else:
            path = Path(self.weights).expanduser()
        load_part(network, self.prefix, path)


def load_part(network: nn.Module, prefix: str, path: Path) -> None:
    """Load a file's weights into the part of a network below ``prefix``; nothing is unpickled.

    Raises:
        UserError: the file is missing or unreadable, or lacks a weight of the part, or has it in
            another shape.
    """
    state = _as_timm(_read(path))
    part = network.get_submodule(prefix)
    wanted = part.state_dict()
    wrong = [
        name for name, value in wanted.items()
        if not name.endswith("num_batches_tracked")
        and (name not in state or state[name].shape != value.shape)
    ]  # fmt: skip
    if wrong:
        raise UserError(
            f"{path} lacks {len(wrong)} of {len(wanted)} weights of {prefix} in their shapes, such "
            f"as {wrong[0]}: it is of another network."
        )
    part.load_state_dict({name: state.get(name, value) for name, value in wanted.items()})


def _as_timm(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights under timm's names and shapes: those of a VGG or DenseNet of torchvision."""
    renamed = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")  # of an older torchvision
    state = {renamed.sub(r"\1\2", name): value for name, value in state.items()}
    if "classifier.6.weight" not in state:
        return state
    names = {"classifier.0": ("pre_logits.fc1", (512, 7, 7)),
             "classifier.3": ("pre_logits.fc2", (4096, 1, 1))}  # fmt: skip
    out = dict(state)
    for old, (new, shape) in names.items():
        out[f"{new}.weight"] = state[f"{old}.weight"].unflatten(1, shape)
        out[f"{new}.bias"] = state[f"{old}.bias"]
    return out


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except Exception as error:
        raise UserError(f"the weights {path} cannot be read: {error}") from error
