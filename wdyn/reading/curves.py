"""What was logged while it trained, as one curve for each name?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from wdyn import schema

LOSS, RATE = "loss", "lr"
CLOCKS = frozenset({"wall_time", "capture_seconds", "write_seconds", "bytes_written"})
"""What a recording keeps for itself."""


def curves(scalars: xr.Dataset) -> dict[str, xr.DataArray]:
    """Give every curve that a person looks for: the loss first, the learning rate next, then whatever was logged.

    Parameters
    ----------
    scalars
        The group ``scalars`` of one run.

    Returns
    -------
    dict
        By name, each (step), NaN where nothing was logged. Of what an optimizer has, the learning rate alone: one for
        each parameter group, where they differ.
    """
    found: dict[str, xr.DataArray] = {}
    for name, values in scalars.data_vars.items():
        if schema.STEP not in values.dims or name in CLOCKS:
            continue
        if schema.GROUP not in values.dims:
            found[str(values.attrs.get("long_name", name))] = values
        elif name == RATE:
            found |= _rates(values)
    return dict(sorted(found.items(), key=lambda item: _rank(item[0])))


def is_loss(name: str) -> bool:
    """Say whether a name is that of the loss that is trained: ``loss``, ``train_loss``, ``train/loss``."""
    return name.lower().replace("/", "_") in (LOSS, f"train_{LOSS}")


def is_rate(name: str) -> bool:
    """Say whether a name is that of a learning rate that `curves` gave."""
    return name == RATE or name.startswith(f"{RATE}, group ")


def silent_after(curve: xr.DataArray) -> int:
    """Give the last step with a value where recording went on for more than two usual intervals; -1 where it did not.

    From there on the values are NaN, or no longer logged, which look alike.
    """
    steps, at = curve[schema.STEP].values, curve.dropna(schema.STEP)[schema.STEP].values
    if at.size < 2 or steps[-1] - at[-1] <= 2 * np.median(np.diff(at)):
        return -1
    return int(at[-1])


def _rank(name: str) -> int:
    return 0 if is_loss(name) else 1 if is_rate(name) else 2


def _rates(values: xr.DataArray) -> dict[str, xr.DataArray]:
    each = [values.isel({schema.GROUP: at}) for at in range(values.sizes[schema.GROUP])]
    # NaN equals NaN here: before the first update no rate was used.
    if all(np.array_equal(one.values, each[0].values, equal_nan=True) for one in each):
        return {RATE: each[0]} if each else {}
    return {f"{RATE}, group {at}": one for at, one in enumerate(each)}
