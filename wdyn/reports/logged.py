"""How did each thing that was logged go, in one line?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn.reading.curves import curves, silent_after

LEVELS = "▁▂▃▄▅▆▇█"
"""Heights, from the lowest."""

_WIDTH = 24
MOST = 12
"""Curves that a card may list."""


@dataclass(frozen=True)
class Logged:
    """A curve, told by a few of its values.

    Attributes
    ----------
    name
        What it was logged as.
    count
        How many of its values are numbers.
    first, last, min, max
        Of these; NaN where there are none.
    silent_after
        The last step with a value, where recording went on without: it became NaN, or was no longer logged. Else -1.
    spark
        Its shape, in a few characters.
    """

    name: str
    count: int = 0
    first: float = float("nan")
    last: float = float("nan")
    min: float = float("nan")
    max: float = float("nan")
    silent_after: int = -1
    spark: str = ""

    @property
    def words(self) -> str:
        """Say how it went: ``4.61 → 2.21``."""
        if not self.count:
            return "NaN throughout"
        ended = f", NaN or not logged after step {self.silent_after}" if self.silent_after >= 0 else ""
        return f"{self.first:.3g} → {self.last:.3g}{ended}"


def logged(scalars: xr.Dataset) -> tuple[Logged, ...]:
    """Tell of every curve of the group ``scalars`` of one run."""
    return tuple(_told(name, curve) for name, curve in curves(scalars).items())


def lines(told: Iterable[Logged]) -> dict[str, str]:
    """Write each as one line, as many as fit a card."""
    listed = list(told)
    written = {one.name: f"{one.words}  {one.spark}".rstrip() for one in listed[:MOST]}
    return written | ({"…": f"and {len(listed) - MOST} more"} if len(listed) > MOST else {})


def _told(name: str, curve: xr.DataArray) -> Logged:
    values = curve.values.astype(np.float64)
    known = values[~np.isnan(values)]  # where nothing was logged
    if not known.size:
        return Logged(name)
    return Logged(
        name,
        count=known.size,
        first=float(known[0]),
        last=float(known[-1]),
        min=float(known.min()),
        max=float(known.max()),
        silent_after=silent_after(curve),
        spark=_spark(known),
    )


def _spark(values: npt.NDArray[np.float64]) -> str:
    """Draw means of neighbours as blocks of eight heights; what is infinite shows as the highest or the lowest."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    parts = np.array_split(np.clip(values, finite.min(), finite.max()), min(_WIDTH, values.size))
    heights = np.array([part.mean() for part in parts])
    span = np.ptp(heights)
    scaled = (heights - heights.min()) / span if span > 0 else np.zeros(heights.size)
    return "".join(LEVELS[min(int(height * len(LEVELS)), len(LEVELS) - 1)] for height in scaled)
