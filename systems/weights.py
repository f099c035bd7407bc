"""Published weights that a network starts from: fetched once, checked by their digest, kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct
from platformdirs import user_cache_dir
from safetensors.torch import load_file
from torch import Tensor, nn

from systems.context import Context
from systems.errors import UserError

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Weights:
    """A weights file on the web; ``sha256`` begins its digest."""

    url: str
    sha256: str
    licence: str = ""

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    def fetched(self, folder: Path | None = None) -> Path:
        """The file in the cache folder, fetched where it is not there. What a broken connection
        left is gone on with; of several processes one fetches.

        Raises:
            UserError: it cannot be fetched, or is not the published one.
        """
        path = (folder or Path(user_cache_dir("soundsweep")) / "weights") / self.name
        if path.exists():
            self._check(path, f"{path} is not the published file", "remove it")
            return path
        otherwise = (
            f"put the file at {path}, name another with --set weights=PATH, or start without: "
            "--set weights=none"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with open(part, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # another process was faster
                return path
            try:
                self._append(file)
            except (OSError, HTTPException) as error:
                raise UserError(
                    f"the weights {self.url} cannot be fetched ({error}): {otherwise}."
                ) from error
            try:
                self._check(part, f"{self.url} does not give the published file", otherwise)
            except UserError:
                part.unlink()
                raise
            os.replace(part, path)
        return path

    def _append(self, file: Any) -> None:
        """Fetch what the file lacks; all of it from a server that gives no parts."""
        there = file.seek(0, os.SEEK_END)
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={there}-"})
        if not there:
            request = urllib.request.Request(self.url)
        try:
            response = urllib.request.urlopen(request, timeout=60)
        except HTTPError as error:
            if error.code != 416 or not there:
                raise
            return  # nothing lies beyond what is there: the digest says what it is
        with response:
            if response.status != 206:
                file.truncate(0)
                there = 0
            expected = there + int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK):
                file.write(chunk)
            file.flush()
        got = file.tell()
        if got < expected:
            raise OSError(f"the connection broke after {got} of {expected} bytes; try again")

    def _check(self, path: Path, what: str, otherwise: str) -> None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
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


# AudioSet taggers of PANNs. The file holds numpy arrays beside the weights; Zenodo lists its MD5
# (362fc5ff18f1d6ad2f6d464b45893f2c), others' code this SHA-256 of it.
AUDIOSET = {
    "cnn14_16k": Weights(
        "https://zenodo.org/records/3987831/files/Cnn14_16k_mAP%3D0.438.pth?download=1",
        "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6", "CC BY 4.0",
    ),
}  # fmt: skip
# Google's VGGish (Apache-2.0), as converted for PyTorch; the name ends with what its digest begins
# with. torchaudio's file has other names.
YOUTUBE = {
    "vggish": Weights(
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "10086976", "Apache-2.0",
    ),
}  # fmt: skip
PUBLISHED = {"imagenet": IMAGENET, "audioset": AUDIOSET, "youtube100m": YOUTUBE}


@dataclass(frozen=True)
class StartFrom:
    """Weights of a network's part ``prefix``: ``none``, the published ones of ``backbone``
    (``imagenet``, ``audioset`` or ``youtube100m``), or a file.

    What the file has beside the part's names (a classifier) is left out; a file in the layout of
    the whole part's names alone will do. ``fresh``: prefixes within the part that stay as they are.
    """

    weights: str
    backbone: str
    prefix: str
    fresh: tuple[str, ...] = ()

    def __call__(self, network: nn.Module, context: Context) -> None:
        if self.weights == "none":
            return
        path = Path(self.weights).expanduser()
        if self.weights in PUBLISHED:
            known = PUBLISHED[self.weights]
            if self.backbone not in known:
                raise UserError(
                    f"no {self.weights} weights are known of {self.backbone}, but of "
                    f"{', '.join(known)}: --set weights=PATH or weights=none."
                )
            path = known[self.backbone].fetched()
        load_part(network, self.prefix, path, self.fresh)


def load_part(network: nn.Module, prefix: str, path: Path, fresh: Sequence[str] = ()) -> None:
    """Load a file's weights into the part of a network below ``prefix``, but for what lies below
    the ``fresh`` prefixes of the part; nothing is unpickled.

    Raises:
        UserError: the file is missing or unreadable, or lacks a weight of the part, or has it in
            another shape.
    """
    state = _as_timm(_read(path))
    part = network.get_submodule(prefix)
    kept = tuple(f"{name}." for name in fresh)
    wanted = {n: value for n, value in part.state_dict().items() if not n.startswith(kept)}
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
    found = {name: state.get(name, value) for name, value in wanted.items()}
    part.load_state_dict({**part.state_dict(), **found})


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


# What numpy arrays in a checkpoint are made of, by their old and new names: no code runs by them.
ARRAYS: list[Any] = [
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    _reconstruct,
    np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("i4", "i8", "f4", "f8", "bool")),
]  # fmt: skip


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(ARRAYS):
            read: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = read.get("model", read)  # PANNs' files have more beside the weights
        return state if isinstance(state, Mapping) else {}
    except Exception as error:
        raise UserError(f"the weights {path} cannot be read: {error}") from error
