"""Times as a person writes them."""

from __future__ import annotations

import re

from systems.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> float:
    """``2h``, ``90m``, ``1h30m``, ``45s`` or a number of seconds, in seconds.

    Raises:
        UserError: it is none of these, or not above 0.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text:
        seconds = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if seconds <= 0:
        raise UserError(f"--time-budget takes a time such as 2h, 90m or 1h30m, not '{text}'.")
    return seconds
