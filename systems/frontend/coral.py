"""Correlation alignment of features: each domain's covariance becomes that of a target domain.

Source: Sun, Feng and Saenko 2016 (CORAL; arXiv 1511.05547); frame by frame in bird_domain_tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from systems.context import Context, seed_of
from systems.data.features import part_features
from systems.data.splits import TrainingData
from systems.errors import UserError
from systems.frontend.over import OverAnother
from systems.system import Sounds
from systems.training.labelling import column_of

Map = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean [F], matrix [F, F], the target's mean [F]


@dataclass(frozen=True)
class Coral(OverAnother):
    """Features [B, C, F, T] of ``of``, whose frames ``a`` of each domain but the target become
    ``(a - m) (C + r I)^(-1/2) (C_t + r I)^(1/2) + m_t``.

    ``column`` of the clips says which domain each is of (empty: nothing is aligned); ``target`` is
    the domain that all become like; ``m`` and ``C`` are mean and covariance of the frames of at
    most so many training ``clips`` of a domain, and ``ridge`` is r. ``centred`` False leaves the
    means alone. Clips of a domain that did not train, and files, stay as they are.
    """

    of: Any
    column: str = "datasetid"
    target: str = "warblrb10k"
    clips: int = 128
    ridge: float = 1.0
    centred: bool = True
    maps: Mapping[str, Map] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.clips < 1 or self.ridge <= 0:
            raise ValueError("clips is at least 1, ridge lies above 0")

    def taught(self, data: TrainingData, sounds: Sounds, context: Context) -> Coral:
        """With the maps of the training clips' domains.

        Raises:
            UserError: no training clip is of the target domain.
        """
        if not self.column:
            return self
        domains = np.array(column_of(data.labelled, self.column))
        if self.target not in domains:
            raise UserError(
                f"no training clip has '{self.target}' in its column '{self.column}', to which "
                f"the others are aligned (there are {', '.join(sorted({*domains}))})."
            )
        module = self.of.build().to(context.device)
        generator = np.random.default_rng(seed_of(context.seed, "coral"))
        moments = {}
        for domain in sorted({*domains}):
            rows = generator.permutation(np.flatnonzero(domains == domain))[: self.clips]
            ids = [data.labelled.clip_ids[row] for row in rows]
            parts = [part for i in ids for part in sounds["audio"].parts(i)]
            frames = [part_features(module, part, context.device)[0].T for part in parts]
            moments[domain] = moments_of(np.concatenate(frames))
        return replace(self, maps={
            domain: alignment(own, moments[self.target], self.ridge, self.centred)
            for domain, own in moments.items() if domain != self.target
        })  # fmt: skip

    def restored(self, about: Mapping[str, Any]) -> Coral:
        """With maps of the domains that the module's ``about`` names, before they are loaded."""
        bands = self.shape(self.rate)[1]
        empty = np.zeros(bands), np.eye(bands), np.zeros(bands)
        return replace(self, maps=dict.fromkeys(about["domains"], empty))

    def build(self) -> CoralFrontEnd:
        return CoralFrontEnd(self)


def moments_of(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [F] and the covariance [F, F] of frames [N, F]."""
    x = frames.astype(np.float64)
    return x.mean(axis=0), np.cov(x, rowvar=False)


def alignment(
    source: tuple[np.ndarray, np.ndarray], target: tuple[np.ndarray, np.ndarray],
    ridge: float, centred: bool,
) -> Map:  # fmt: skip
    """What is taken from a frame, the matrix that it is multiplied by, and what is added."""
    eye = ridge * np.eye(len(source[0]))
    matrix = power_of(source[1] + eye, -0.5) @ power_of(target[1] + eye, 0.5)
    still = np.zeros_like(source[0])
    return (source[0], matrix, target[0]) if centred else (still, matrix, still)


def power_of(matrix: np.ndarray, power: float) -> np.ndarray:
    """A power of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    found: np.ndarray = (vectors * np.maximum(values, 0) ** power) @ vectors.T
    return found


class CoralFrontEnd(nn.Module):
    """Waveforms [B, S] of a domain -> aligned features [B, C, F, T]."""

    def __init__(self, config: Coral) -> None:
        super().__init__()
        self.of = config.of.build()
        self.about = {"domains": list(config.maps)}
        for place, parts in enumerate(config.maps.values()):
            for name, value in zip(("mean", "matrix", "target"), parts, strict=True):
                one = torch.as_tensor(value, dtype=torch.float32)
                self.register_buffer(f"{name}_{place}", one)

    def forward(self, waveforms: Tensor, value: str = "") -> Tensor:
        features: Tensor = self.of(waveforms)
        if value not in self.about["domains"]:
            return features
        place = self.about["domains"].index(value)
        mean, matrix, target = (
            getattr(self, f"{name}_{place}") for name in ("mean", "matrix", "target")
        )
        frames = features.transpose(2, 3) - mean  # [B, C, T, F]
        return (frames @ matrix + target).transpose(2, 3)
