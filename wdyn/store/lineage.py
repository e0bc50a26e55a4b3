"""Which rows of a run does its history leave standing, and which attempt does a later one continue?

An attempt that continues after step s takes the place of earlier rows of later steps. Of step s itself it takes the
place in each group in which it has a row: what it does not record anew is still what the run held there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Attempts = Sequence[Mapping[str, Any]]
"""Those of a run, or the first of them, as the attributes of its root tell them."""

NO_PARENT = -1
_RESUMED_FROM = "resumed_from_step"


def effective(step: npt.NDArray[np.int64], by: npt.NDArray[np.int64], attempts: Attempts) -> npt.NDArray[np.bool_]:
    """Tell of each row of a group whether it stands after these attempts.

    Parameters
    ----------
    step, by
        The step of each row, and the number of the attempt that wrote it.
    """
    kept: npt.NDArray[np.bool_] = by < len(attempts)
    for number, attempt in enumerate(attempts[1:], start=1):
        start = attempt[_RESUMED_FROM]
        wrote_it = bool(((by == number) & (step == start)).any())
        kept &= (by >= number) | (step < start) | ((step == start) & (not wrote_it))
    return kept


def parent(attempts: Attempts, step: int) -> int:
    """Give the number of the attempt whose rows one continues that begins after `step`; -1 where there is none."""
    reached = [number for number, one in enumerate(attempts) if number == 0 or one[_RESUMED_FROM] <= step]
    return reached[-1] if reached else NO_PARENT
