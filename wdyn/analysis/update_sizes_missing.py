"""Which of the numbers could not be measured, why, and what would have to be recorded?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.skipping import REMEDY, SKIPPED
from wdyn.analysis.update_sizes_settings import ALWAYS_DECOUPLED, Used
from wdyn.reading.relations import DISPLACEMENT

_ALL = 'wdyn.watch(..., every=1, what="all")'


def with_reasons(result: xr.Dataset, own: xr.Dataset, settings: Used) -> xr.Dataset:
    """Write into the attributes of each variable that is NaN throughout why it is.

    Parameters
    ----------
    result
        What was measured.
    own
        The relations that it was measured from.
    settings
        What the steps used.
    """
    why = {
        "update_cosine": (_no_cosine(own), _ALL),
        "efficiency": (_no_way(result, own), _ALL),
        "decay_share": (_no_decay(settings), f"decay is decoupled in {', '.join(ALWAYS_DECOUPLED)}"),
        "rotation_ratio": (_no_balance(settings), "the balance of decay and gradients is known for AdamW"),
    }
    told = result.copy()
    for name, (reason, remedy) in why.items():
        if result[name].isnull().all():
            told[name] = result[name].assign_attrs({SKIPPED: reason, REMEDY: remedy})
    return told


def _no_cosine(own: xr.Dataset) -> str:
    if own[schema.UPDATE_GAP].isnull().all():
        return "the cosine of successive updates was not recorded"
    return "no two recorded steps follow each other"


def _no_way(result: xr.Dataset, own: xr.Dataset) -> str:
    steps = result[schema.STEP].values
    gaps = np.flatnonzero(np.diff(steps, prepend=steps[:1]) > 1)
    if gaps.size:
        return f"the path has gaps: the step before {steps[gaps[0]]} has no row"
    return "the displacement was not recorded" if own[DISPLACEMENT].isnull().all() else "no path was recorded"


def _no_decay(settings: Used) -> str:
    if settings.decoupled.any():
        return "no update with a norm above 0 was recorded"
    return f"{_held_by(settings)} is not known to decouple weight decay"


def _no_balance(settings: Used) -> str:
    if settings.balances.any():
        return "no rotation could be measured" if (settings.decay > 0).any() else "there is no weight decay"
    return f"{_held_by(settings)} is not AdamW"


def _held_by(settings: Used) -> str:
    return f"the optimizer ({', '.join(settings.optimizers) or 'unknown'})"
