"""Do processes that should hold the same weights hold the same bits?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import replicas_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import states_or_none
from wdyn.analysis.skipping import skip
from wdyn.reading.tables import parameters
from wdyn.schema import Kind

Floats = npt.NDArray[np.float64]
Attempts = npt.NDArray[np.int64]

_BOTH = (schema.STEP, schema.PARAMETER)
_COPIED = ("role", "kind", "stack", "layer", "path", "trainable", "module")
_STATISTICS = ("running_mean", "running_var")
_REMEDY = "in every process: wdyn.watch(..., check_replicas=True)"


@analyzer(
    family="REP",
    question="Do processes that should hold the same weights hold the same bits?",
    check=replicas_check.check,
    codes=replicas_check.CODES,
)
def replicas(run: xr.DataTree) -> xr.Dataset:
    """Do processes that should hold the same weights hold the same bits?

    Under data parallelism each process trains a copy of the model, and gradients that are averaged over all of them
    keep the copies alike (Li et al. 2020, "PyTorch Distributed"). At each row the bits of each copy were compared with
    those of the first process that holds it, by a number of 64 bits: one flipped bit is a difference, and so is the
    sign of a zero. At rows at which a name shares the memory of another, only the other one counts.

    Returns
    -------
    Dataset
        Over ``step`` (every row at which copies were compared) and ``parameter`` (all that was compared, buffers too).

        - ``differ`` : (step, parameter). Count of processes whose copy is not that of the first; NaN: not compared.
        - ``differing``, ``compared`` : (step). Count of parameters with a copy that differs, and of those compared.
        - ``processes`` : (step). Count of processes that recorded; NaN where it is not known.
        - ``first_at``, ``last_at`` : (parameter), steps. First and last row at which copies differed; NaN: never.
        - ``since`` : (parameter), steps. Row from which on they differed up to the last comparison; NaN: they agree.
        - ``agreed_at`` : (parameter), steps. Last row at which copies agreed; NaN: never.
        - ``at_end`` : (parameter). ``differ`` at the last comparison of this parameter.
        - ``rejoined`` : (parameter). How often copies agreed at a row after one at which they differed.
        - ``own_statistic`` : (parameter), bool. The mean or variance that a batch norm keeps of the batches of its own
          process: one that is not synchronised.
        - ``by_role`` : (step, roles), 0 to 1. Share of the compared parameters of a role that differ; NaN: none was
          compared. Of several towers a role is called "encoder q".
        - ``by_layer`` : (step, layers), 0 to 1. The same of each layer (-1: outside blocks), without buffers.

        Coordinates role, kind, stack, layer, path, trainable and module (parameter), and ``attempt`` (step).
    """
    states = states_or_none(run)
    differ = None if states is None else _compared(states)
    if differ is None:
        return _skipped(run)
    steps, values, attempts = differ[schema.STEP].values, differ.values, _attempts(differ)
    table = parameters(run).sel({schema.PARAMETER: differ[schema.PARAMETER].values})
    weights = (table["kind"] != Kind.BUFFER).values
    roles, by_role = share_by(_roles(table), values)
    layers, by_layer = share_by(table["layer"].values[weights], values[:, weights])
    return xr.Dataset(
        {
            "differ": (_BOTH, values),
            "differing": (schema.STEP, (values > 0).sum(axis=1)),
            "compared": (schema.STEP, (~np.isnan(values)).sum(axis=1)),
            "processes": (schema.STEP, _processes(run, attempts)),
            **{name: (schema.PARAMETER, found) for name, found in history(values, steps).items()},
            "own_statistic": (schema.PARAMETER, _own_statistics(table)),
            "by_role": ((schema.STEP, "roles"), by_role),
            "by_layer": ((schema.STEP, "layers"), by_layer),
        },
        {
            schema.STEP: steps,
            schema.PARAMETER: table[schema.PARAMETER].values,
            "roles": roles,
            "layers": layers,
            schema.ATTEMPT: (schema.STEP, attempts),
            **{name: table[name].variable for name in _COPIED},
        },
    )


def history(values: Floats, steps: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """Tell when copies parted and met, from counts (step, parameter): each (parameter,). NaN is no comparison."""
    rows = np.arange(len(values))[:, None]
    apart, alike = values > 0, values == 0
    first_apart, last_apart = np.where(apart, rows, len(values)).min(axis=0), np.where(apart, rows, -1).max(axis=0)
    last_alike = np.where(alike, rows, -1).max(axis=0)
    since = np.where(apart & (rows > last_alike), rows, len(values)).min(axis=0)
    compared = np.maximum.accumulate(np.where(apart | alike, rows, -1), axis=0)
    at_end = np.take_along_axis(values, compared[-1:], axis=0)[0]
    before = np.take_along_axis(apart, np.maximum(compared[:-1], 0), axis=0)
    return {
        "first_at": _at(first_apart, steps),
        "last_at": _at(last_apart, steps),
        "since": _at(since, steps),
        "agreed_at": _at(last_alike, steps),
        "at_end": at_end,
        "rejoined": (alike[1:] & before).sum(axis=0).astype(np.float64),
    }


def share_by(labels: npt.NDArray[Any], values: Floats) -> tuple[npt.NDArray[Any], Floats]:
    """Give each label once, in order of appearance, and the share of its columns that differ (step, label)."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    member = (place[:, None] == order).astype(np.float64)
    with np.errstate(invalid="ignore"):  # a label of which nothing was compared has no share
        share = ((values > 0) @ member) / (~np.isnan(values) @ member)
    return labels[np.sort(first)], share


def _compared(states: xr.Dataset) -> xr.DataArray | None:
    """Keep what was compared, each memory under one name; None where nothing was."""
    if schema.REPLICAS_DIFFER not in states:
        return None
    held = states[[schema.REPLICAS_DIFFER, schema.SHARES_WITH]].transpose(*_BOTH).load()
    leader, own = held[schema.SHARES_WITH].values, np.arange(held.sizes[schema.PARAMETER])
    differ = held[schema.REPLICAS_DIFFER].where(
        (held[schema.REPLICAS_DIFFER] >= 0) & ((leader == own) | ~(leader >= 0))
    )
    known = differ.notnull().values
    kept = differ.isel({schema.STEP: known.any(axis=1), schema.PARAMETER: known.any(axis=0)})
    return kept if kept.size else None


def _at(rows: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]) -> Floats:
    """Give the steps of rows; NaN for one that is outside."""
    inside = (rows >= 0) & (rows < len(steps))
    return np.where(inside, steps[np.where(inside, rows, 0)], np.nan)


def _own_statistics(table: xr.Dataset) -> npt.NDArray[np.bool_]:
    names, modules = table[schema.PARAMETER].values.tolist(), table["module"].values.tolist()
    told = [name.endswith(_STATISTICS) and "Sync" not in module for name, module in zip(names, modules, strict=True)]
    return np.array(told, dtype=bool)


def _roles(table: xr.Dataset) -> npt.NDArray[np.str_]:
    stacks, roles = table["stack"].values.tolist(), table["role"].values.tolist()
    several = len(set(stacks)) > 1
    labels = [f"{stack} {role}" if several else role for stack, role in zip(stacks, roles, strict=True)]
    return np.array(labels, dtype=np.str_)


def _attempts(differ: xr.DataArray) -> Attempts:
    """Tell which attempt wrote each row; the first where nothing says."""
    told = differ.coords.get(schema.ATTEMPT)
    return np.zeros(differ.sizes[schema.STEP], np.int64) if told is None else told.values.astype(np.int64)


def _told(run: xr.DataTree) -> list[float]:
    """Give the count of processes of each attempt; NaN where it recorded alone, or does not say."""
    attempts = run.attrs.get(schema.ATTRIBUTES, {}).get("attempts", ())
    return [float(one.get("processes", np.nan)) for one in attempts]


def _processes(run: xr.DataTree, attempts: Attempts) -> Floats:
    told = np.array([*_told(run), np.nan])
    return told[np.minimum(attempts, len(told) - 1)]


def _skipped(run: xr.DataTree) -> xr.Dataset:
    several = [count for count in _told(run) if count > 1]
    if several:
        return skip(f"the copies of the {several[-1]:.0f} processes were not compared", remedy=_REMEDY)
    return skip("no second process recorded it", remedy="", concerns=False)
