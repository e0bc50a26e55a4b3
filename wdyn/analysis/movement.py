"""Did frozen stay frozen, and did tuned move?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis import movement_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.comparing import compare
from wdyn.analysis.freezing import READ, Mask, Steps, anchors, frozen_at, strayed
from wdyn.analysis.inputs import group_or_none, states_or_none, statistics_or_none, stored_weights
from wdyn.analysis.movement_cohorts import by_cohort, cohorts, update_counts
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters
from wdyn.schema import Kind

_COPIED = ("role", "kind", "stack", "layer", "path", "tied_to", "trainable", "in_optimizer", "dtype", "numel")
_AT_ONCE = 2**28
"""Bytes of snapshots that are read at once."""
_CELLS = 2**22
"""Rows times columns of the statistics that are looked at together."""


@analyzer(
    family="FRZ",
    question="Did frozen stay frozen, and did tuned move?",
    check=movement_check.check,
    codes=movement_check.CODES,
)
def movement(run: xr.DataTree) -> xr.Dataset:
    """Did frozen stay frozen, and did tuned move?

    Compares every snapshot with the first one, in float64, one matrix at a time; what happened between snapshots is
    told by the statistics. Buffers are left out, and so are names that share the memory of another (``tied_to``): the
    other name tells.

    Returns
    -------
    Dataset
        Over ``step``, ``parameter`` and ``cohort``. Steps are those of the snapshots, the first and the last recorded
        one, and those at which the statistics of a weight first tell that it is NaN, or moved while frozen. NaN where
        no snapshot was taken, and where a weight is NaN or infinite.

        - ``change`` : (step, parameter), unitless. ||W_t - W_first||, the Frobenius norm.
        - ``norm`` : (step, parameter), unitless. ||W_t||, the Frobenius norm.
        - ``relative`` : (step, parameter), unitless. change / ||W_first||; NaN where that is 0.
        - ``scale`` : (step, parameter), unitless. c of the least-squares fit W_t = c W_first; NaN where that is 0.
        - ``off_scale`` : (step, parameter), 0 to 1. ||W_t - c W_first|| / change: the share of the change that is no
          scaling; near 0 for weights that only decayed; NaN where nothing changed.
        - ``nonfinite`` : (step, parameter). Count of NaN and infinite values, by the snapshot, else by the statistics.
        - ``frozen`` : (step, parameter), bool. Not trainable by the recorded rows on both sides of this step.
        - ``frozen_change`` : (step, parameter), unitless. ||W_t - W_s||, s being the first snapshot since it froze; NaN
          while it is trainable.
        - ``frozen_moved`` : (step, parameter), bool. It has left the values at which it froze, by its snapshots, its
          statistics or its updates.
        - ``snapshot`` : (step), bool. A snapshot was taken.
        - ``rows`` : (parameter). Count of recorded rows of its statistics.
        - ``updates``, ``update_rows`` : (parameter). Count of recorded rows whose update is not 0, and of all rows with
          an update; NaN where updates were not recorded.
        - ``partner_trains`` : (parameter), bool. Another name of the same memory is trainable.
        - ``lr_zero`` : (parameter), bool. The learning rate of its group was 0 at every recorded step.
        - ``cohort_change``, ``cohort_relative`` : (step, cohort). The same norms over all parameters of a cohort
          together; NaN for an empty one.
        - ``cohort_size``, ``cohort_updates``, ``cohort_update_rows`` : (cohort). Count of its parameters, and the sums
          of ``updates`` and ``update_rows`` over them.

        Coordinates role, kind, stack, layer, path, tied_to, trainable, in_optimizer, dtype, numel and ``of_cohort``
        (parameter): "frozen" (never trainable at any recorded step), else "adapters" (LoRA and the
        like, by name), "embeddings", "norms" or "tuned".
    """
    weights, recorded, states = _judged_weights(run), statistics_or_none(run), states_or_none(run)
    table = _judged_table(parameters(run), weights, recorded)
    steps = _steps(*weights.values(), recorded)
    if len(steps) < 2:
        seen = f"only one step was recorded, step {steps[0]}" if len(steps) else "no weight was recorded"
        return skip(seen, remedy=_REMEDY)
    looked = steps if states is None else np.union1d(steps, states[schema.STEP].values)
    coordinates = {schema.STEP: looked, schema.PARAMETER: table[schema.PARAMETER].values}
    frozen = xr.DataArray(frozen_at(looked, table, states), coordinates, dims=list(coordinates))
    told = _told(run, recorded, frozen)
    found = _compared(weights, frozen).assign_coords({name: table[name].variable for name in _COPIED})
    found = found.assign_coords(of_cohort=(schema.PARAMETER, cohorts(table, frozen.all(schema.STEP).values)))
    own = found.sel({schema.PARAMETER: list(weights)})
    result = _with_what_rows_tell(found.assign(by_cohort(own)), told, steps)
    result["frozen"] = frozen.sel({schema.STEP: result[schema.STEP].values})
    result["partner_trains"] = _partner_trains(parameters(run), table[schema.PARAMETER].values.tolist())
    result["lr_zero"] = _lr_zero(run, table, steps)
    return result.assign(update_counts(statistics_or_none(run, schema.Quantity.UPDATES), result["of_cohort"]))


_REMEDY = "record statistics and two snapshots or more: wdyn.watch(..., every=10, snapshots=wdyn.every(100))"


def _judged_weights(run: xr.DataTree) -> dict[str, xr.DataArray]:
    """Give the snapshots of each parameter that holds values of its own, in the order of the table."""
    table, stored = parameters(run), stored_weights(run, at_once=_AT_ONCE)
    names = table[schema.PARAMETER].values[table["kind"].values != Kind.BUFFER]
    return {str(name): stored[name] for name in names if name in stored}


def _judged_table(table: xr.Dataset, weights: Mapping[str, xr.DataArray], recorded: xr.Dataset | None) -> xr.Dataset:
    """Keep the rows of what has snapshots, or statistics that are its own."""
    names = table[schema.PARAMETER].values
    measured = np.isin(names, recorded[schema.PARAMETER].values if recorded is not None else [])
    own = measured & (table["tied_to"].values == "") & (table["kind"].values != Kind.BUFFER)
    return table.isel({schema.PARAMETER: own | np.isin(names, list(weights))})


def _steps(*recorded: xr.DataArray | xr.Dataset | None) -> Steps:
    held = [one[schema.STEP].values for one in recorded if one is not None]
    return np.unique(np.concatenate(held)) if held else np.array([], dtype=np.int64)


def _told(run: xr.DataTree, recorded: xr.Dataset | None, frozen: xr.DataArray) -> xr.Dataset:
    """Read what the statistics tell at every recorded step: ``nonfinite``, ``moved`` and ``rows``."""
    dims = frozen.dims
    if recorded is None:
        nothing = frozen.astype(np.float64).copy(data=np.full(frozen.shape, np.nan))
        moved, rows = xr.zeros_like(frozen), frozen.isel({schema.STEP: 0}, drop=True).astype(np.int64) * 0
        return xr.Dataset({"nonfinite": nothing, "moved": moved, "rows": rows})
    updates = statistics_or_none(run, schema.Quantity.UPDATES)
    moved = frozen.copy(data=_strayed(recorded, None if updates is None else updates["l2"], frozen))
    plain = recorded["nonfinite"].load().reindex_like(frozen).transpose(*dims)
    plain = plain.drop_vars(set(plain.coords) - set(dims))
    return xr.Dataset({"nonfinite": plain, "moved": moved, "rows": plain.notnull().sum(schema.STEP)})


def _strayed(recorded: xr.Dataset, norms: xr.DataArray | None, frozen: xr.DataArray) -> Mask:
    """Look where anything was ever frozen, at some columns at a time: (step, parameter)."""
    moved = np.zeros(frozen.shape, dtype=bool)
    ever = np.flatnonzero(frozen.values.any(axis=0))
    width = max(1, _CELLS // max(1, len(frozen)))
    for first in range(0, ever.size, width):
        at = ever[first : first + width]
        part = frozen.isel({schema.PARAMETER: at})
        read = recorded[list(READ)].reindex_like(part)
        moved[:, at] = strayed(read, None if norms is None else norms.reindex_like(part), part.values)
    return moved


def _compared(weights: Mapping[str, xr.DataArray], frozen: xr.DataArray) -> xr.Dataset:
    """Compare each snapshot with the first one, and with the first one since the weight froze."""
    columns = ("change", "norm", "relative", "scale", "off_scale", "nonfinite", "frozen_change")
    names, looked = frozen[schema.PARAMETER].values.tolist(), frozen[schema.STEP].values
    steps = _steps(*weights.values())
    numbers = np.full((len(columns), len(steps), len(names)), np.nan)
    taken_of = {name: np.searchsorted(looked, values[schema.STEP].values) for name, values in weights.items()}
    have = np.zeros(frozen.shape, dtype=bool)
    for name, rows in taken_of.items():
        have[rows, names.index(name)] = True
    froze_at = anchors(frozen.values, have)
    for name, labelled in weights.items():
        taken, column = labelled[schema.STEP].values, names.index(name)
        since = froze_at[taken_of[name], column]
        values = labelled.variable  # labels would cost more than the numbers, of small weights
        first = base = values.isel({schema.STEP: 0}).values
        begun = 0
        for at, row in enumerate(np.searchsorted(steps, taken)):
            later = values.isel({schema.STEP: at}).values
            numbers[:-1, row, column] = compare(first, later)
            if since[at] < 0:
                continue
            anchor = int(np.searchsorted(taken, looked[since[at]]))
            if anchor != begun:
                base, begun = values.isel({schema.STEP: anchor}).values, anchor
            numbers[-1, row, column] = numbers[0, row, column] if begun == 0 else compare(base, later)[0]
    data = {name: ((schema.STEP, schema.PARAMETER), numbers[at]) for at, name in enumerate(columns)}
    return xr.Dataset(data, {schema.STEP: steps, schema.PARAMETER: names})


def _with_what_rows_tell(found: xr.Dataset, told: xr.Dataset, steps: Steps) -> xr.Dataset:
    """Add the steps at which statistics first tell what no snapshot shows, and what they tell there."""
    events = [_firsts(told["nonfinite"] > 0), _firsts(told["moved"])]
    taken = found[schema.STEP].values
    kept = np.unique(np.concatenate([taken, steps[[0, -1]], *events]))
    result, rows = found.reindex({schema.STEP: kept}), told.sel({schema.STEP: kept})
    return result.assign(
        nonfinite=result["nonfinite"].fillna(rows["nonfinite"]),
        frozen_moved=(result["frozen_change"] > 0) | rows["moved"],
        snapshot=(schema.STEP, np.isin(kept, taken)),
        rows=rows["rows"],
    )


def _firsts(seen: xr.DataArray) -> Steps:
    """Give the first step at which each parameter shows something."""
    first: Steps = seen[schema.STEP].values[seen.values.argmax(axis=0)[seen.values.any(axis=0)]]
    return first


def _partner_trains(table: xr.Dataset, names: list[str]) -> xr.DataArray:
    everyone = table[schema.PARAMETER].values.tolist()
    roots = {name: to or name for name, to in zip(everyone, table["tied_to"].values.tolist(), strict=True)}
    tuned = [name for name, trains in zip(everyone, table["trainable"].values.tolist(), strict=True) if trains]
    trains = [any(roots[other] == roots[name] and other != name for other in tuned) for name in names]
    return xr.DataArray(trains, {schema.PARAMETER: names}, dims=schema.PARAMETER)


def _lr_zero(run: xr.DataTree, table: xr.Dataset, steps: Steps) -> xr.DataArray:
    names = table[schema.PARAMETER]
    nothing = xr.zeros_like(names, dtype=bool)
    scalars = group_or_none(run, schema.SCALARS)
    if scalars is None or "lr" not in scalars:
        return nothing
    used = scalars["lr"].sel({schema.STEP: slice(steps[0] + 1, steps[-1])})
    idle = ((used == 0).any(schema.STEP) & ~(used > 0).any(schema.STEP)).values
    return nothing.copy(data=[0 <= group < len(idle) and bool(idle[group]) for group in table["group"].values.tolist()])
