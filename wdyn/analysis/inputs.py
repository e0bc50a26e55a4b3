"""Which groups does a run have for an analyzer to read? Absence is ``None`` here, and a skipped result above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import NoMatch
from wdyn.reading.tables import dataset, statistics


def statistics_or_none(run: xr.DataTree, quantity: str = schema.Quantity.WEIGHTS) -> xr.Dataset | None:
    """Give the statistics of a quantity, or ``None`` where no row of them was recorded."""
    try:
        found = statistics(run, quantity)
    except NoMatch:
        return None
    return found if found.sizes.get(schema.STEP, 0) else None


def of_finite(rows: xr.Dataset, name: str) -> xr.DataArray:
    """Give a statistic where it is of all elements: NaN where some are NaN or infinite, which it would hide."""
    whole: xr.DataArray = rows[name].where(rows["nonfinite"] == 0)
    return whole


def states_or_none(run: xr.DataTree) -> xr.Dataset | None:
    """Give what changed about the parameters while they trained, or ``None`` where no row of it was recorded."""
    return group_or_none(run, schema.STATES)


def group_or_none(run: xr.DataTree, group: str) -> xr.Dataset | None:
    """Give a group of rows, or ``None`` where none was recorded; lazily."""
    try:
        found = dataset(run, group)
    except NoMatch:
        return None
    return found if found.sizes.get(schema.STEP, 0) else None


def on_grid(
    values: xr.DataArray, *, steps: Sequence[int] | npt.NDArray[np.int64], names: Sequence[str] | npt.NDArray[np.str_]
) -> npt.NDArray[Any]:
    """Read (step, parameter) at some steps and of some parameters; NaN where it has none of that name.

    Nothing else is read, and nothing is kept: each such array of a long run takes a hundred megabytes.
    """
    at = {
        dim: values.get_index(dim).get_indexer(xr.IndexVariable(dim, np.asarray(wanted)).to_index())
        for dim, wanted in ((schema.STEP, steps), (schema.PARAMETER, names))
    }
    if any((one < 0).any() for one in at.values()):
        lined_up = values.reindex({schema.STEP: steps, schema.PARAMETER: names}).variable
    else:
        lined_up = values.variable.isel({dim: _unbroken(one) for dim, one in at.items()})
    return np.asarray(lined_up.transpose(*at).values)


def _unbroken(at: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Give positions that follow each other as a range, which needs no copy."""
    return slice(int(at[0]), int(at[-1]) + 1) if at.size and (np.diff(at) == 1).all() else at


def weight_groups(run: xr.DataTree) -> dict[str, xr.Dataset]:
    """Give every array of exact weights that has at least one snapshot, by its slug; lazily."""
    if schema.WEIGHTS not in run.children:
        return {}
    nodes = {str(slug): node.to_dataset(inherit=False) for slug, node in run[schema.WEIGHTS].children.items()}
    return {slug: node for slug, node in nodes.items() if schema.VALUE in node and node.sizes.get(schema.STEP, 0)}


def stored_weights(run: xr.DataTree, *, at_once: int = 0) -> dict[str, xr.DataArray]:
    """Give the exact snapshots (step, *stored axes) of each full name that holds values of its own; lazily.

    Up to `at_once` bytes are read here: whoever wants every matrix at every step spares thousands of small readings.
    """
    found: dict[str, xr.DataArray] = {}
    for group in weight_groups(run).values():
        values = group[schema.VALUE]
        if values.nbytes <= at_once:
            at_once -= values.nbytes
            values = values.compute()
        for number, name in enumerate(group.attrs[schema.ATTRIBUTES]["names"]):
            found[name] = values.isel({schema.LAYER: number}) if schema.LAYER in values.dims else values
    return found
