"""Which frequencies a network of images decides by: class activation maps, averaged over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from systems.context import Context
from systems.fitted_network import FittedNetwork
from systems.outputs import Outputs
from systems.system import Sounds


def frequency_relevance(
    fitted: FittedNetwork, clip_ids: Sequence[str], sounds: Sounds, context: Context
) -> tuple[np.ndarray, np.ndarray]:
    """What each band of frequencies adds to each class's logit, clip by clip.

    The bands are the rows of the network's class activation maps. Of classes that exclude each
    other the classes' mean is taken away: what counts is how far a logit lies above the others.

    Args:
        fitted: of a system that has ``activation_maps``.
        clip_ids: N clips of ``sounds``.

    Returns:
        The bands' edges [h + 1] in Hz, and the values [N, K, h], means over time and excerpts.
    """
    model, network = fitted.model.to(context.device), fitted.model.network
    model.load_state_dict(fitted.states[0])
    hearing = fitted.system.hearing(sounds, fitted.length, fitted.label_hop)
    found: list[list[np.ndarray]] = [[] for _ in clip_ids]

    def tap(features: Any, outputs: Outputs, clips: Sequence[int], starts: np.ndarray) -> None:
        with torch.inference_mode(False):
            maps = network.class_maps(features.clone()).mean(3)  # type: ignore[operator]
        if fitted.system.activation == "softmax":
            maps = maps - maps.mean(1, keepdim=True)
        for clip, of_excerpt in zip(clips, maps.cpu().numpy(), strict=True):
            found[clip].append(of_excerpt)

    track = hearing.track(model, clip_ids, context)
    for _ in hearing.listen(model, track, context, tap):
        pass
    values = np.stack([np.mean(of_clip, axis=0) for of_clip in found])
    edges = fitted.system.front_end.band_edges()  # type: ignore[union-attr]
    places = np.linspace(0, len(edges) - 1, values.shape[2] + 1)
    return np.interp(places, np.arange(len(edges)), edges), values
