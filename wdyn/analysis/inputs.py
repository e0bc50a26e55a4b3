"""Which groups does a run have for an analyzer to read? Absence is ``None`` here, and a skipped result above."""

from __future__ import annotations

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
    """Read a small group of rows, or ``None`` where none was recorded."""
    try:
        found = dataset(run, group)
    except NoMatch:
        return None
    return found.load() if found.sizes.get(schema.STEP, 0) else None


def weight_groups(run: xr.DataTree) -> dict[str, xr.Dataset]:
    """Give every array of exact weights that has at least one snapshot, by its slug; lazily."""
    if schema.WEIGHTS not in run.children:
        return {}
    nodes = {str(slug): node.to_dataset(inherit=False) for slug, node in run[schema.WEIGHTS].children.items()}
    return {slug: node for slug, node in nodes.items() if schema.VALUE in node and node.sizes.get(schema.STEP, 0)}


def stored_weights(run: xr.DataTree) -> dict[str, xr.DataArray]:
    """Give the exact snapshots (step, *stored axes) of each full name that holds values of its own; lazily."""
    found: dict[str, xr.DataArray] = {}
    for group in weight_groups(run).values():
        values = group[schema.VALUE]
        for number, name in enumerate(group.attrs[schema.ATTRIBUTES]["names"]):
            found[name] = values.isel({schema.LAYER: number}) if schema.LAYER in values.dims else values
    return found
