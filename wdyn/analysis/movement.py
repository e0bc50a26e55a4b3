"""Did frozen stay frozen, and did tuned move?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import movement_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import group_or_none, states_or_none, stored_weights
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Role

COHORTS = ("frozen", "tuned", "embeddings", "norms")
"""Groups of parameters whose movement is summed: what was frozen throughout, then the rest by what it is."""

_EMBEDDINGS = frozenset(
    {
        Role.EMBEDDING,
        Role.POS_EMBEDDING,
        Role.TYPE_EMBEDDING,
        Role.PATCH_EMBEDDING,
        Role.VALUE_EMBEDDING,
        Role.UNEMBEDDING,
    }
)
_COPIED = ("role", "kind", "stack", "layer", "path", "tied_to", "trainable", "in_optimizer", "dtype", "numel")
_BLOCK = 2**20  # values compared at once, so that the float64 copies stay small

Floats = npt.NDArray[np.float64]


@analyzer(
    family="FRZ",
    question="Did frozen stay frozen, and did tuned move?",
    check=movement_check.check,
    codes=movement_check.CODES,
)
def movement(run: xr.DataTree) -> xr.Dataset:
    """Did frozen stay frozen, and did tuned move?

    Compares every snapshot with the first one, in float64, one matrix at a time. Buffers are left out, and so are
    names that share the memory of another (``tied_to``): the other name tells.

    Returns
    -------
    Dataset
        Over ``step`` (snapshots), ``parameter`` and ``cohort``; NaN where no snapshot was taken, and where a weight is
        NaN or infinite.

        - ``change`` : (step, parameter), unitless. ||W_t - W_first||, the Frobenius norm.
        - ``norm`` : (step, parameter), unitless. ||W_t||, the Frobenius norm.
        - ``relative`` : (step, parameter), unitless. change / ||W_first||; NaN where that is 0.
        - ``scale`` : (step, parameter), unitless. c of the least-squares fit W_t = c W_first; NaN where that is 0.
        - ``off_scale`` : (step, parameter), 0 to 1. ||W_t - c W_first|| / change: the share of the change that is no
          scaling; near 0 for weights that only decayed; NaN where nothing changed.
        - ``nonfinite`` : (step, parameter). Count of NaN and infinite values.
        - ``frozen`` : (step, parameter), bool. Never trainable at any recorded step up to this one.
        - ``partner_trains`` : (parameter), bool. Another name of the same memory is trainable.
        - ``lr_zero`` : (parameter), bool. The learning rate of its group was 0 at every recorded step.
        - ``cohort_change``, ``cohort_relative`` : (step, cohort). The same norms over all parameters of a cohort
          together; NaN for an empty one.

        Coordinates role, kind, stack, layer, path, tied_to, trainable, in_optimizer, dtype, numel and ``of_cohort``
        (parameter): "frozen", "tuned", "embeddings" or "norms".
    """
    weights = _judged_weights(run)
    if not weights:
        return skip("no snapshots of the weights were recorded", remedy=_REMEDY)
    steps = np.unique(np.concatenate([values[schema.STEP].values for values in weights.values()]))
    if len(steps) < 2:
        return skip(f"only one snapshot was recorded, at step {steps[0]}", remedy=_REMEDY)
    table = parameters(run).sel({schema.PARAMETER: list(weights)})
    result = _compared(weights, steps).assign_coords({name: table[name].variable for name in _COPIED})
    result["frozen"] = _frozen(table, steps, states_or_none(run))
    result["partner_trains"] = _partner_trains(parameters(run), list(weights))
    result["lr_zero"] = _lr_zero(run, table, steps)
    result = result.assign_coords(of_cohort=(schema.PARAMETER, _cohorts(result)))
    return result.assign(_by_cohort(result))


_REMEDY = "take two snapshots or more: wdyn.watch(..., snapshots=wdyn.every(100))"


def _judged_weights(run: xr.DataTree) -> dict[str, xr.DataArray]:
    """Give the snapshots of each parameter that holds values of its own, in the order of the table."""
    table, stored = parameters(run), stored_weights(run)
    names = table[schema.PARAMETER].values[table["kind"].values != Kind.BUFFER]
    return {str(name): stored[name] for name in names if name in stored}


def _compared(weights: Mapping[str, xr.DataArray], steps: npt.NDArray[np.int64]) -> xr.Dataset:
    columns = ("change", "norm", "relative", "scale", "off_scale", "nonfinite")
    numbers = np.full((len(columns), len(steps), len(weights)), np.nan)
    for number, values in enumerate(weights.values()):
        rows = np.searchsorted(steps, values[schema.STEP].values)
        first = values.isel({schema.STEP: 0}).values
        for at, row in enumerate(rows):
            numbers[:, row, number] = compare(first, values.isel({schema.STEP: at}).values)
    data = {name: ((schema.STEP, schema.PARAMETER), numbers[at]) for at, name in enumerate(columns)}
    return xr.Dataset(data, {schema.STEP: steps, schema.PARAMETER: list(weights)})


def compare(first: npt.NDArray[Any], later: npt.NDArray[Any]) -> tuple[float, ...]:
    """Give change, norm, relative change, scale, off_scale and nonfinite of two arrays of one shape."""
    changed = along = start = norm = 0.0
    nonfinite = 0
    one, other = first.reshape(-1), later.reshape(-1)
    for at in range(0, one.size, _BLOCK):
        before, after = _exact(one[at : at + _BLOCK]), _exact(other[at : at + _BLOCK])
        nonfinite += int(after.size - np.isfinite(after).sum())
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is what shall be seen
            moved = after - before
        changed += _inner(moved, moved)
        along += _inner(moved, before)
        start += _inner(before, before)
        norm += _inner(after, after)
    change, size = math.sqrt(changed) if math.isfinite(changed) else math.nan, math.sqrt(norm)
    if start == 0 or math.isnan(change):
        return change, size if math.isfinite(size) else math.nan, math.nan, math.nan, math.nan, nonfinite
    # From the change, not from the weights: the difference of two norms of W would cancel to rounding noise.
    off_scale = math.sqrt(max(changed - along**2 / start, 0.0) / changed) if changed else math.nan
    return change, size, change / math.sqrt(start), 1 + along / start, off_scale, nonfinite


def _exact(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)


def _inner(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.vdot(one, other).real)


def _frozen(table: xr.Dataset, steps: npt.NDArray[np.int64], states: xr.Dataset | None) -> xr.DataArray:
    """Whether each parameter had been frozen throughout, up to each snapshot and to the row that follows it."""
    at_start = ~table["trainable"].astype(bool).drop_vars(set(table.coords) - {schema.PARAMETER})
    frozen = at_start.expand_dims({schema.STEP: steps})
    if states is None:
        return frozen
    rows = states[schema.STEP].values
    trainable = states[schema.TRAINABLE].reindex({schema.PARAMETER: table[schema.PARAMETER].values}) > 0
    thawed = np.maximum.accumulate(trainable.transpose(schema.STEP, schema.PARAMETER).values, axis=0)
    # Between two rows nobody looked: a weight that the next row shows trainable may have been so at this snapshot.
    following = np.minimum(np.searchsorted(rows, steps), len(rows) - 1)
    return frozen & xr.DataArray(~thawed[following], frozen.coords, dims=(schema.STEP, schema.PARAMETER))


def _partner_trains(table: xr.Dataset, names: list[str]) -> xr.DataArray:
    everyone = table[schema.PARAMETER].values.tolist()
    roots = {name: to or name for name, to in zip(everyone, table["tied_to"].values.tolist(), strict=True)}
    tuned = [name for name, trains in zip(everyone, table["trainable"].values.tolist(), strict=True) if trains]
    trains = [any(roots[other] == roots[name] and other != name for other in tuned) for name in names]
    return xr.DataArray(trains, {schema.PARAMETER: names}, dims=schema.PARAMETER)


def _lr_zero(run: xr.DataTree, table: xr.Dataset, steps: npt.NDArray[np.int64]) -> xr.DataArray:
    names = table[schema.PARAMETER]
    nothing = xr.zeros_like(names, dtype=bool)
    scalars = group_or_none(run, schema.SCALARS)
    if scalars is None or "lr" not in scalars:
        return nothing
    used = scalars["lr"].sel({schema.STEP: slice(steps[0] + 1, steps[-1])})
    idle = ((used == 0).any(schema.STEP) & ~(used > 0).any(schema.STEP)).values
    return nothing.copy(data=[0 <= group < len(idle) and bool(idle[group]) for group in table["group"].values.tolist()])


def _cohorts(result: xr.Dataset) -> npt.NDArray[np.str_]:
    last = result["frozen"].isel({schema.STEP: -1}).values
    roles = result["role"].values
    names = ["frozen" if still else _cohort_of_role(str(role)) for still, role in zip(last, roles, strict=True)]
    return np.array(names, dtype=np.str_)


def _cohort_of_role(role: str) -> str:
    return "embeddings" if role in _EMBEDDINGS else "norms" if role == Role.NORM else "tuned"


def _by_cohort(result: xr.Dataset) -> dict[str, xr.DataArray]:
    """Add the squares up: the Frobenius norm of all parameters of a cohort as one long vector."""
    first = result["norm"].isel({schema.STEP: 0}, drop=True)
    changes, starts = [], []
    for cohort in COHORTS:
        # Chosen rather than weighted by 0 or 1: a NaN is then seen in its own cohort, and in no other.
        members = {schema.PARAMETER: np.flatnonzero(result["of_cohort"].values == cohort)}
        changes.append(_long_norm(result["change"].isel(members)))
        starts.append(_long_norm(first.isel(members)))
    index = xr.IndexVariable("cohort", np.array(COHORTS, dtype=np.str_))
    change, start = xr.concat(changes, index), xr.concat(starts, index)
    relative = change / start.where(start > 0)
    return {
        "cohort_change": change.transpose(schema.STEP, "cohort"),
        "cohort_relative": relative.transpose(schema.STEP, "cohort"),
    }


def _long_norm(norms: xr.DataArray) -> xr.DataArray:
    """Norm of vectors laid end to end; NaN when there is none, or one is NaN."""
    squares: xr.DataArray = (norms**2).sum(schema.PARAMETER, skipna=False)
    if norms.sizes[schema.PARAMETER] == 0:
        squares = xr.full_like(squares, np.nan)
    return squares**0.5
