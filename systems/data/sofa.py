"""Head-related impulse responses from SOFA files (AES69), which are netCDF-4 and so HDF5.

Read by h5py (BSD) alone: libraries of the whole standard bring a netCDF stack for four arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

CONVENTIONS = ("SimpleFreeFieldHRIR",)


class SofaFault(Exception):
    """Why a file cannot be used."""


@dataclass(frozen=True)
class Responses:
    """Responses [M, 2, N] of the left and the right ear at a rate in Hz, and the directions that
    they were measured from, in degrees: ``azimuth`` [M] (anticlockwise, 0 is ahead) and
    ``elevation`` [M]."""

    azimuth: np.ndarray
    elevation: np.ndarray
    taps: np.ndarray
    rate: int

    def at(self, index: int, rate: int, length: int) -> np.ndarray:
        """The pair [2, length] of one direction at another rate, cut or filled with zeros."""
        pair = self.taps[index]
        if rate != self.rate:  # as a response, which a denser grid leaves as loud as it was
            pair = soxr.resample(pair.T, self.rate, rate, quality="VHQ").T * (self.rate / rate)
        found = np.zeros((2, length))
        found[:, : pair.shape[1]] = pair[:, :length]
        return found


def read_sofa(path: Path) -> Responses:
    """The responses of a file.

    Raises:
        SofaFault: it cannot be read, is of another convention, or does not fit together.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            convention = _text(file.attrs.get("SOFAConventions", ""))
            if convention not in CONVENTIONS:
                raise SofaFault(f"is of convention '{convention}', not {' or '.join(CONVENTIONS)}")
            taps, rate = np.array(file["Data.IR"], float), np.array(file["Data.SamplingRate"])
            source = file["SourcePosition"]
            position, spherical = np.array(source, float), _text(source.attrs.get("Type", ""))
            delay = (
                np.array(file["Data.Delay"], float) if "Data.Delay" in file else np.zeros((1, 2))
            )
    except (OSError, KeyError, ValueError) as error:
        raise SofaFault(f"cannot be read as SOFA: {error}") from error
    if taps.ndim != 3 or taps.shape[1] != 2 or position.shape != (len(taps), 3):
        raise SofaFault(f"has responses {taps.shape} and positions {position.shape}, not (M, 2, N) "
                        "and (M, 3)")  # fmt: skip
    if not np.isfinite(taps).all() or rate.size != 1 or not rate.item() >= 1:
        raise SofaFault("has responses that are not finite, or no single sampling rate")
    azimuth, elevation = _spherical(position, spherical)
    return Responses(azimuth, elevation, _delayed(taps, delay), round(float(rate.item())))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _spherical(position: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation [M] in degrees of positions [M, 3], which are spherical or x, y, z."""
    if kind != "cartesian":
        return position[:, 0], position[:, 1]
    x, y, z = position.T
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def _delayed(taps: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """Responses [M, 2, N'] that begin as many samples later as a file says beside them ([1, 2] or
    [M, 2], rounded)."""
    shifts = np.broadcast_to(np.round(delay).astype(int), taps.shape[:2])
    if shifts.min() < 0:
        raise SofaFault("has delays below zero")
    found = np.zeros((*taps.shape[:2], taps.shape[2] + shifts.max()))
    for row, ear in np.ndindex(*taps.shape[:2]):
        start = shifts[row, ear]
        found[row, ear, start : start + taps.shape[2]] = taps[row, ear]
    return found


def interaural_polar(azimuth: np.ndarray, elevation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lateral angle in -90..90 and polar angle in -180..180 (180 itself is -180), in degrees."""
    phi, el = np.radians(azimuth), np.radians(elevation)
    x, y, z = np.cos(phi) * np.cos(el), np.cos(el) * np.sin(phi), np.sin(el)
    polar = (np.degrees(np.arctan2(z, x)) + 180.0) % 360.0 - 180.0
    return np.degrees(np.arcsin(np.clip(y, -1.0, 1.0))), polar
