"""The schema of a search-space file."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Range(BaseModel):
    """One parameter: exactly one of ``float``, ``log``, ``int``, ``one_of``.

    ``int`` may be ``log`` or have a ``step``. ``when`` maps other parameters to the value they must
    have, or to a comparison such as ``">= 2"``, for this one to exist. ``repeat`` names an ``int``
    parameter before it, N say: the key holds ``{n}``, and stands for one parameter each n from 1 to
    the largest N, which exists where N is at least n.
    """

    model_config = ConfigDict(extra="forbid")

    float_: tuple[float, float] | None = Field(None, alias="float")
    log: tuple[float, float] | Literal[True] | None = None
    int_: tuple[int, int] | None = Field(None, alias="int")
    one_of: list[Any] | None = None
    step: int | None = Field(None, ge=1)
    when: dict[str, Any] = {}
    repeat: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        ranged_log = self.log if isinstance(self.log, tuple) else None
        kinds = [k for k in (self.float_, ranged_log, self.int_, self.one_of) if k is not None]
        if len(kinds) != 1:
            raise ValueError("give exactly one of float, log, int, one_of")
        if (self.log is True or self.step is not None) and self.int_ is None:
            raise ValueError("'log: true' and 'step' go with int")
        if self.log is True and self.step is not None:
            raise ValueError("an int range takes 'log: true' or 'step', not both")
        low_high = self.float_ or ranged_log or self.int_
        if low_high is not None and not low_high[0] < low_high[1]:
            raise ValueError(f"the range {list(low_high)} is empty")
        if low_high is not None and not all(map(math.isfinite, low_high)):
            raise ValueError(f"the range {list(low_high)} has no end")
        if self.log is not None and low_high is not None and low_high[0] <= 0:
            raise ValueError("a log range starts above 0")
        return self


class Section(BaseModel):
    """One system: its metric and ranges, or those of another system without some keys.

    ``metric``: one name, or one by data set, with ``default`` for the others. Without one it is the
    data set's own. ``sampler``: what searches, where ``--sampler`` names none.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str | dict[str, str] | None = None
    sampler: Literal["tpe", "evolution"] | None = None
    space: dict[str, Range] = {}
    like: str | None = None
    without: list[str] = []
