"""Stored rows: what has no fast form on the device, made once a clip for all trials of a node, such
as features.

Rows of float32, time first, in one file beside the waveform store. A killed build goes on with the
clip at which it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from systems.data.prepare import Over, Prepared, Sound
from systems.data.store import Map, process_map, unwritable
from systems.files import lock

Shapes = dict[str, tuple[int, int]]  # (C, F) of each front end; of a single one under ""


def packed(made: Any) -> tuple[np.ndarray, Shapes]:
    """Features [C, F, T] of one part, of several front ends by name, as rows [T, R]."""
    named = made if isinstance(made, Mapping) else {"": made}
    rows = np.concatenate([np.asarray(one).reshape(-1, one.shape[-1]) for one in named.values()])
    shapes: Shapes = {name: (one.shape[0], one.shape[1]) for name, one in named.items()}
    return np.ascontiguousarray(rows.T, np.float32), shapes


def unpacked(rows: np.ndarray, shapes: Shapes) -> Any:
    """The features [C, F, T] of :func:`packed` rows [T, R]."""
    out, at = {}, 0
    for name, (channels, bands) in shapes.items():
        piece = rows[:, at : at + channels * bands].T
        out[name] = piece.reshape(channels, bands, len(rows))
        at += channels * bands
    return out.get("", out)


@dataclass(frozen=True)
class Featured(Over):
    """Sound whose features are stored: ``rows`` of each clip's parts, by clip, in ``folder``."""

    sound: Any  # a Sound, and what it is derived from
    folder: str
    rows: Mapping[str, Sequence[tuple[int, int]]]
    shapes: Shapes

    def held(self, clip_id: str) -> list[np.ndarray] | None:
        """Rows [T, R] of each part; ``None`` of a clip that is not stored (a derived one)."""
        if clip_id not in self.rows:
            return None
        return read_rows(self.folder, self.rows[clip_id], self.shapes)

    def over(self, sound: Sound) -> Featured:
        """The same features beside other sound of the same clips, and maybe of more."""
        return replace(self, sound=sound)


def featured(
    sound: Sound, front_end: Any, clip_ids: Sequence[str],
    map_: Map = process_map, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Featured:  # fmt: skip
    """Sound with the features of a front end (or of several by name), made where they are missing.

    ``sound``: of a store, maybe under a preparation.

    Raises:
        UserError: they cannot be written; what is there is kept.
    """
    kept = sorted(sound.kept.items()) if isinstance(sound, Prepared) else ""
    store: Any = sound.store if isinstance(sound, Prepared) else sound
    about = f"{front_end!r}|{kept}"
    folder = Path(store.folder) / f"features-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    make = partial(features_of, sound, front_end)
    rows, shapes = stored_rows(folder, make, clip_ids, map_, progress)
    return Featured(sound, str(folder), rows, shapes)


def stored_rows(
    folder: Path, make: Callable[[str], Any], clip_ids: Sequence[str],
    map_: Map = process_map, progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, list[tuple[int, int]]], Shapes]:  # fmt: skip
    """Rows of clips in ``folder / "rows.f32"``, made where they are missing: where parts of each
    begin and end, and their shapes.

    ``make``: clip -> (clip, packed rows of each of its parts).

    Raises:
        UserError: they cannot be written; what is there is kept.
    """
    try:
        folder.mkdir(exist_ok=True)
        with open(folder / "lock", "w") as guard:
            lock(guard)
            made = _build(make, clip_ids, folder, map_, progress)
    except ConnectionError:
        raise
    except OSError as error:
        raise unwritable(folder, error) from error
    rows, shapes = {}, {}
    for line in made:
        rows[line["clip"]] = [(a, b) for a, b in line["parts"]]
        shapes = {name: (c, f) for name, (c, f) in line["shapes"].items()}
    return rows, shapes


def read_rows(folder: str, places: Sequence[tuple[int, int]], shapes: Shapes) -> list[np.ndarray]:
    """The rows [T, R] of a clip's parts."""
    width = sum(channels * bands for channels, bands in shapes.values())
    flat = np.memmap(Path(folder) / "rows.f32", np.float32, "r").reshape(-1, width)
    return [flat[start:stop] for start, stop in places]


def _build(
    make: Callable[[str], Any], clip_ids: Sequence[str], folder: Path, map_: Map,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """What is stored of each clip: a line of ``index.jsonl``, written after its rows."""
    index = folder / "index.jsonl"
    done = _lines(index)
    there = {line["clip"] for line in done}
    missing = [i for i in clip_ids if i not in there]
    if not missing:
        return done
    end = max((stop for line in done for _, stop in line["parts"]), default=0)
    progress(len(done), len(clip_ids))
    with open(folder / "rows.f32", "ab") as file, open(index, "a") as log:
        if done:
            width = sum(c * f for c, f in done[-1]["shapes"].values())
            file.truncate(end * width * 4)
        else:
            file.truncate(0)
        log.truncate(sum(len(json.dumps(line)) + 1 for line in done))
        for clip_id, parts in map_(make, missing):
            line = {"clip": clip_id, "shapes": parts[0][1], "parts": []}
            for rows, _ in parts:
                file.write(rows.tobytes())
                line["parts"].append((end, end := end + len(rows)))
            file.flush()
            log.write(json.dumps(line) + "\n")
            log.flush()
            done.append(line)
            progress(len(done), len(clip_ids))
    return done


def _lines(index: Path) -> list[dict[str, Any]]:
    """Whole lines of the index: a kill may have cut the last."""
    if not index.exists():
        return []
    whole = index.read_text().split("\n")[:-1]
    return [json.loads(line) for line in whole]


def features_of(
    sound: Sound, front_end: Any, clip_id: str
) -> tuple[str, list[tuple[np.ndarray, Shapes]]]:
    """The packed features of each part of a clip, as a training would make them."""
    import torch

    from systems.frontend import built

    module = built(front_end)
    with torch.inference_mode():
        made = [packed(part_features(module, part)) for part in sound.parts(clip_id)]
    return clip_id, made


def part_features(module: Any, waveform: np.ndarray, device: Any = "cpu", value: str = "") -> Any:
    """Features [C, F, T] of a waveform by one front end, or by name; ``value``: what the clip has
    in the column that the front end asks for."""
    import torch

    sound = torch.from_numpy(np.array(waveform))[None].to(device)
    made = module(sound, value) if value else module(sound)
    if isinstance(made, Mapping):
        return {name: one[0].cpu().numpy() for name, one in made.items()}
    return made[0].cpu().numpy()
