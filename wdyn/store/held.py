"""What did the run hold that is continued: its tables and arrays, its first weights, and its row at the seam?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.rows import Before, Counts, Row, Values
from wdyn.schema import Quantity
from wdyn.store.place import last_step, opened
from wdyn.store.series import MISSING_COUNT

if TYPE_CHECKING:
    import xarray as xr

_TABLES = (
    schema.STATISTICS,
    schema.HISTOGRAMS,
    f"{schema.PARTS}/{schema.STATISTICS}",
    f"{schema.PARTS}/{schema.HISTOGRAMS}",
)
_OF_A_STEP = (
    schema.RELATIONS,
    schema.SCALARS,
    *(f"{table}/{quantity}" for table in _TABLES for quantity in (Quantity.UPDATES, Quantity.GRADIENTS)),
)
"""Groups that tell of the step that led to a row, rather than of the model as it is there."""


def held_before(
    place: Path, arrays: Mapping[str, WeightArray], *, attempt: int, step: int, first_weights: bool = False
) -> Before | None:
    """Give what the run held that is continued after `step`; None for a run that starts.

    Parameters
    ----------
    place
        The run.
    arrays
        Its arrays of weights, by slug.
    attempt
        The number of the attempt that continues it.
    first_weights
        Whether the weights at its first row are to be read.
    """
    if attempt == 0:
        return None
    run = opened(place)
    return Before(
        table=_columns(run.children.get(schema.PARAMETERS)),
        parts=_columns(run.children.get(schema.PARTS)),
        arrays=tuple(arrays.values()),
        last_step=last_step(place),
        statistics=_weights_at(run, step),
        reached={row.group: row for group in _OF_A_STEP if (row := _row_at(run, group, step)) is not None},
        first=_first_weights(run, arrays) if first_weights else {},
    )


def _columns(table: xr.DataTree | None) -> dict[str, npt.NDArray[Any]]:
    if table is None:
        return {}
    return {str(name): np.asarray(values.values) for name, values in table.to_dataset(inherit=False).variables.items()}


def _first_weights(run: xr.DataTree, arrays: Mapping[str, WeightArray]) -> dict[str, npt.NDArray[Any]]:
    """Read what was kept of the weights at the first row of the lineage."""
    states = run.children.get(schema.STATES)
    if states is None or not states[schema.STEP].size:
        return {}
    step = int(states[schema.STEP].min())
    found: dict[str, npt.NDArray[Any]] = {}
    for slug, array in arrays.items():
        kept = run.children[schema.WEIGHTS].children[slug].to_dataset(inherit=False)
        if step in kept[schema.STEP].values:
            values = np.asarray(kept[schema.VALUE].sel({schema.STEP: step}).values)
            found |= dict(zip(array.names, values if array.layers else [values], strict=True))
    return found


def _weights_at(run: xr.DataTree, step: int) -> dict[str, npt.NDArray[np.float64]]:
    row = _selected(run, f"{schema.STATISTICS}/{Quantity.WEIGHTS}", step)
    if row is None:
        return {}
    return {name: np.asarray(row[name].values, dtype=np.float64) for name in ("std", "l1") if name in row}


def _row_at(run: xr.DataTree, group: str, step: int) -> Row | None:
    """Read a row as it was given to be written."""
    row = _selected(run, group, step)
    if row is None:
        return None
    names = {str(name): str(values.attrs["long_name"]) for name, values in row.items() if "long_name" in values.attrs}
    return Row(group, step, {str(name): _as_given(values) for name, values in row.items()}, names)


def _selected(run: xr.DataTree, group: str, step: int) -> xr.Dataset | None:
    if f"/{group}" not in run.groups:
        return None
    rows = cast("xr.DataTree", run[group]).to_dataset(inherit=False)
    return rows.sel({schema.STEP: step}) if step in rows[schema.STEP].values else None


def _as_given(values: xr.DataArray) -> Values | Counts:
    shown = np.asarray(values.values)
    if values.encoding.get("missing_value") is None:
        return shown
    whole = np.where(np.isnan(shown), MISSING_COUNT, shown).astype(np.int64)
    return whole if whole.ndim < 2 else Counts.of(whole, absent=np.flatnonzero(whole[:, 0] == MISSING_COUNT))
