"""How do the weights of several runs differ by layer and role, and are two runs the same one?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.compare_runs_curves import Logged
from wdyn.analysis.comparing import compare
from wdyn.analysis.inputs import of_finite, statistics_or_none, stored_weights
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Quantity

Floats = npt.NDArray[np.float64]

_NAMES = ("std", "l2", "displacement")
_ORDER = [str(role) for role in schema.Role]
_SAME = ("mean", "std", "l1", "l2", "min", "max")
"""Statistics that two runs have alike, to the last bit, where they are the same run."""


def weights_at_end(runs: Mapping[str, xr.DataTree], each: Mapping[str, Logged]) -> xr.Dataset:
    """Give spread, norm and displacement of the matrices at the last point that all runs reached.

    Returns
    -------
    Dataset
        As `compare_runs` describes it; empty where a run has no statistics of its weights.
    """
    rows = {label: statistics_or_none(run) for label, run in runs.items()}
    found = {label: one for label, one in rows.items() if one is not None}
    if len(found) < len(rows):
        return xr.Dataset()
    position = {label: _position(one, each[label]) for label, one in found.items()}
    end = min(at[-1] for at in position.values())
    end += 1e-9 * abs(end)  # sums of one and the same rate differ by rounding
    row = {label: max(0, int(np.searchsorted(at, end, side="right")) - 1) for label, at in position.items()}
    numbers = {label: _of_parameters(runs[label], one, row[label]) for label, one in found.items()}
    pooled = {label: _pooled(one, ("role", schema.LAYER)) for label, one in numbers.items()}
    whole = xr.concat(list(pooled.values()), xr.Variable(schema.RUN, list(pooled)), join="outer")
    whole = whole.sel(role=sorted(whole["role"].values.tolist(), key=_ORDER.index))
    by_role = xr.concat(
        [_pooled(one, ("role",))["relative"] for one in numbers.values()], whole[schema.RUN], join="outer"
    )
    first = whole.isel({schema.RUN: 0}, drop=True)
    apart = xr.Dataset({f"{name}_difference": whole[name] - first[name] for name in _NAMES})
    return (
        whole[list(_NAMES)]
        .merge(apart)
        .assign(
            moved=by_role.sel(role=whole["role"]),
            moved_in_all=(schema.RUN, [float(_total(one)) for one in numbers.values()]),
            compared_at=(schema.RUN, [int(found[label][schema.STEP].values[row[label]]) for label in found]),
        )
    )


def twins(runs: Mapping[str, xr.DataTree]) -> list[str]:
    """Name for each run an earlier one whose weights have the same statistics at all steps of both; "" for none.

    A weight must have moved meanwhile: runs that only begin alike are no twins.
    """
    known = {label: statistics_or_none(run) for label, run in runs.items()}
    rows = {label: one[list(_SAME)].load() if one is not None else None for label, one in known.items()}
    labels = list(rows)
    return [
        next((other for other in labels[:at] if _same(rows[label], rows[other])), "") for at, label in enumerate(labels)
    ]


def same_start(runs: Mapping[str, xr.DataTree]) -> list[bool]:
    """Whether the statistics of each run's first weights are those of the first run, to the last bit."""
    rows = [statistics_or_none(run) for run in runs.values()]
    begun = [one[list(_SAME)].isel({schema.STEP: 0}, drop=True).load() if one is not None else None for one in rows]
    return [one is not None and begun[0] is not None and _equal(one, begun[0]) for one in begun]


def _same(one: xr.Dataset | None, other: xr.Dataset | None) -> bool:
    if one is None or other is None:
        return False
    steps = np.intersect1d(one[schema.STEP].values, other[schema.STEP].values)
    if steps.size < 2:
        return False
    mine, theirs = (run.sel({schema.STEP: steps}) for run in (one, other))
    return _equal(mine, theirs) and bool(
        (mine["l2"].isel({schema.STEP: 0}) != mine["l2"].isel({schema.STEP: -1})).any()
    )


def _equal(one: xr.Dataset, other: xr.Dataset) -> bool:
    return all(
        one[name].shape == other[name].shape and np.array_equal(one[name].values, other[name].values, equal_nan=True)
        for name in _SAME
    )


def _position(rows: xr.Dataset, logged: Logged) -> Floats:
    """Tell how far a run was at each row of its statistics; by the step where nothing was logged that would tell."""
    steps = rows[schema.STEP].values
    known = logged.at(steps)
    # Before anything was logged a run had come nowhere yet.
    return np.where(np.isnan(known), -np.inf, known) if not np.isnan(known).all() else steps.astype(np.float64)


def _of_parameters(run: xr.DataTree, rows: xr.Dataset, at: int) -> xr.Dataset:
    """Statistics of each matrix that has memory of its own, at one row: (parameter)."""
    table = parameters(run).sel({schema.PARAMETER: rows[schema.PARAMETER].values})
    own = np.flatnonzero(((table["kind"] == Kind.WEIGHT) & (table["tied_to"] == "") & (table["numel"] > 0)).values)
    read = rows[["count", "mean", "std", "l2", "nonfinite"]].isel({schema.PARAMETER: own})
    now, begun = (read.isel({schema.STEP: row}).load() for row in (at, 0))
    moved = _displacement(run, int(now[schema.STEP]), now[schema.PARAMETER].values.tolist())
    kept = now[["count", "mean"]].assign({name: of_finite(now, name) for name in ("std", "l2")})
    start = of_finite(begun, "l2").drop_vars(schema.STEP)
    return kept.drop_vars(schema.STEP).assign(start=start, displacement=(schema.PARAMETER, moved))


def _displacement(run: xr.DataTree, step: int, names: list[str]) -> Floats:
    """Give ||W_t - W_first|| as it was recorded, else from exact weights, else NaN."""
    recorded = statistics_or_none(run, Quantity.DISPLACEMENT)
    if recorded is not None and step in recorded[schema.STEP].values:
        row = recorded[["l2", "nonfinite"]].sel({schema.STEP: step}).load()
        return np.asarray(of_finite(row, "l2").reindex({schema.PARAMETER: names}).values)
    kept = stored_weights(run)
    return np.array([_between(kept[name], step) if name in kept else np.nan for name in names])


def _between(weights: xr.DataArray, step: int) -> float:
    steps = weights[schema.STEP].values
    if step not in steps:
        return np.nan
    first, later = (weights.isel({schema.STEP: at}).values for at in (0, int(np.flatnonzero(steps == step)[0])))
    return compare(first, later)[0]


def _pooled(numbers: xr.Dataset, over: tuple[str, ...]) -> xr.Dataset:
    """Take the matrices of one role (in one layer) together, as if they were one."""
    keys = list(zip(*(numbers[name].values.tolist() for name in over), strict=True))
    axes = [sorted(set(column)) for column in zip(*keys, strict=True)] if keys else [[] for _ in over]
    shape = tuple(map(len, axes))
    found = {name: np.full(shape, np.nan) for name in (*_NAMES, "relative")}
    for key in set(keys):
        group = numbers.isel({schema.PARAMETER: [at for at, one in enumerate(keys) if one == key]})
        place = tuple(axis.index(label) for axis, label in zip(axes, key, strict=True))
        count, mean = group["count"].values, group["mean"].values
        middle = (count * mean).sum() / count.sum()
        found["std"][place] = np.sqrt((count * (group["std"].values ** 2 + (mean - middle) ** 2)).sum() / count.sum())
        found["l2"][place] = _norm(group["l2"])
        found["displacement"][place] = _norm(group["displacement"])
        found["relative"][place] = _total(group)
    return xr.Dataset({name: (over, values) for name, values in found.items()}, dict(zip(over, axes, strict=True)))


def _norm(values: xr.DataArray) -> float:
    return float(np.sqrt((values.values**2).sum()))


def _total(numbers: xr.Dataset) -> float:
    """Displacement of all matrices together, as a share of their first norm; NaN where that is 0."""
    start = _norm(numbers["start"])
    return _norm(numbers["displacement"]) / start if start else np.nan
