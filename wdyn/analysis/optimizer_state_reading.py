"""What was recorded of an optimizer: which moments of each parameter, and which settings of each group?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.inputs import group_or_none, on_grid, states_or_none, statistics_or_none
from wdyn.reading.tables import parameters, recorded
from wdyn.schema import Quantity

Floats = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]

_OF_ALL = ("rms", "l2", "mean")
_EPS, _EPS_OF_ADAGRAD = 1e-8, 1e-10  # torch's defaults, where the run does not tell


@dataclass(frozen=True)
class Recorded:
    """Statistics of gradients, updates and moments on one grid, read one by one as they are asked for.

    Attributes
    ----------
    steps, names
        Labels of the grid: steps at which something was recorded, and parameters.
    moments
        Quantities that the optimizer holds, by its own names.
    rows
        The statistics of each quantity that was recorded; lazily.
    """

    steps: Steps
    names: Sequence[str]
    moments: tuple[str, ...]
    rows: Mapping[str, xr.Dataset]

    def of(self, quantity: str, statistic: str) -> Floats:
        """Read a statistic of a quantity: (step, parameter).

        NaN where nothing was recorded, and for rms, l2 and mean where not all of it is finite. What was not recorded at
        all takes no memory.
        """
        if quantity not in self.rows:
            return np.broadcast_to(np.nan, (len(self.steps), len(self.names)))
        rows = self.rows[quantity]
        values = on_grid(rows[statistic], steps=self.steps, names=self.names)
        if statistic not in _OF_ALL:
            return values
        return np.where(on_grid(rows["nonfinite"], steps=self.steps, names=self.names) == 0, values, np.nan)

    def held(self) -> list[set[str]]:
        """Name the moments that each parameter has at some step."""
        has = {moment: self._ever(moment) for moment in self.moments}
        return [{moment for moment, known in has.items() if known[at]} for at in range(len(self.names))]

    def _ever(self, moment: str) -> npt.NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.of(moment, "nonfinite")).any(axis=0), dtype=np.bool_)

    def before_training(self) -> npt.NDArray[np.bool_]:
        """Say of each parameter whether it had moments before the first step."""
        before = np.zeros(len(self.names), dtype=np.bool_)
        for moment in self.moments:
            before |= (self.of(moment, "rms")[self.steps <= 0] > 0).any(axis=0)
        return before


def read(run: xr.DataTree, names: Sequence[str]) -> Recorded | None:
    """Find what the optimizer used, held and did; None where none of it was recorded."""
    moments = tuple(sorted(set(recorded(run, schema.STATISTICS)) - set(Quantity)))
    rows, steps = {}, np.empty(0, np.int64)
    for quantity in (Quantity.GRADIENTS, Quantity.UPDATES, *moments):
        own = statistics_or_none(run, quantity)
        if own is not None:
            rows[str(quantity)] = own
            every = own[schema.STEP].values
            told = ~np.isnan(on_grid(own["nonfinite"], steps=every, names=names)).all(axis=1)
            steps = np.union1d(steps, every[told])
    return Recorded(steps, names, moments, rows) if steps.size else None


def spread(values: Floats, of_group: Steps) -> Floats:
    """Give each parameter what its group has (..., group) -> (..., parameter); NaN where it has no group."""
    held = np.unique(of_group)
    if held.size == 1 and held[0] >= 0:  # the usual case, which needs no memory
        return np.broadcast_to(values[..., held], (*values.shape[:-1], of_group.size))
    if not values.shape[-1]:
        return np.full((*values.shape[:-1], of_group.size), np.nan)
    return np.where(of_group >= 0, values[..., of_group], np.nan)


def groups_of(run: xr.DataTree, names: Sequence[str]) -> Steps:
    """Give the last group that held each parameter, -1 where no optimizer ever did."""
    told = parameters(run)[schema.GROUP].sel({schema.PARAMETER: list(names)}).values
    states = states_or_none(run)
    if states is None or schema.GROUP not in states:
        return np.asarray(told, dtype=np.int64)
    rows = states[schema.GROUP].reindex({schema.PARAMETER: list(names)}).transpose(schema.STEP, schema.PARAMETER)
    later = _last(rows.where(rows >= 0).values)
    return np.where(np.isnan(later), told, later).astype(np.int64)


def settings(run: xr.DataTree, *, steps: Steps, count: int) -> xr.Dataset:
    """Read the settings of each of `count` parameter groups.

    Returns
    -------
    Dataset
        (step, group): ``lr`` and ``weight_decay``. (group): ``beta1 beta2 momentum`` at the last step that tells,
        ``peak_at``, ``pull``, ``optimizer``, ``eps``, ``nesterov``. NaN, or "", where the run does not tell.
    """
    scalars = group_or_none(run, schema.SCALARS)
    logged = xr.Dataset(coords={schema.STEP: steps}) if scalars is None else scalars
    series = {name: _series(logged, name, count) for name in ("lr", "weight_decay", "beta1", "beta2", "momentum")}
    over = {name: series[name].reindex({schema.STEP: steps}) for name in ("lr", "weight_decay")}
    last = {name: (schema.GROUP, _last(series[name].values)) for name in ("beta1", "beta2", "momentum")}
    known = known_groups(run, count=count)
    said = {
        "optimizer": np.array([str(one.get("name", "")) for one in known], dtype=np.str_),
        "eps": np.array([_eps(one) for one in known]),
        "nesterov": np.array([bool(one.get("nesterov")) for one in known]),
    }
    return xr.Dataset(
        {
            **over,
            **last,
            "peak_at": _peak(series["lr"]),
            "pull": _pull(series["lr"], series["weight_decay"]),
            **{name: (schema.GROUP, values) for name, values in said.items()},
        },
        {schema.GROUP: np.arange(count)},
    )


def _series(logged: xr.Dataset, name: str, count: int) -> xr.DataArray:
    """Give one setting (step, group), with a column for each group."""
    steps = logged[schema.STEP].values
    values = np.full((len(steps), count), np.nan)
    if name in logged and schema.GROUP in logged[name].dims:
        told = logged[name].transpose(schema.STEP, schema.GROUP).values[:, :count]
        values[:, : told.shape[1]] = told
    coordinates = {schema.STEP: steps, schema.GROUP: np.arange(count)}
    return xr.DataArray(values, coordinates, dims=(schema.STEP, schema.GROUP))


def _last(rows: Floats) -> Floats:
    """Give the last value of each column that is not NaN; NaN where there is none."""
    known = ~np.isnan(rows)
    if not rows.size:
        return np.full(rows.shape[1:], np.nan)
    at = len(rows) - 1 - known[::-1].argmax(axis=0)
    return np.where(known.any(axis=0), rows[at, np.arange(rows.shape[1])], np.nan)


def _peak(lr: xr.DataArray) -> xr.DataArray:
    """Give the first step that used the highest learning rate, but for rounding."""
    reached = lr >= lr.max(schema.STEP) * (1 - 1e-9)
    steps = lr[schema.STEP].where(reached)
    return steps.min(schema.STEP)  # skips NaN: the steps that used a lower one


def _pull(lr: xr.DataArray, decay: xr.DataArray) -> xr.DataArray:
    """Sum lr times weight decay over all steps; a row stands for the steps since the row before."""
    steps = lr[schema.STEP]
    since = steps.diff(schema.STEP).reindex({schema.STEP: steps}, fill_value=0)
    # Skips NaN: no step was made to reach the first row, and a rate that could not be read adds nothing.
    whole: xr.DataArray = (lr * decay * since).sum(schema.STEP, min_count=1)
    return whole


def known_groups(run: xr.DataTree, *, count: int) -> list[Mapping[str, Any]]:
    """List what the run's attributes say of each group, numbered on over several optimizers."""
    optimizers = run.attrs.get(schema.ATTRIBUTES, {}).get("optimizers", [])
    known: list[Mapping[str, Any]] = [
        {**group, "name": one.get("name", "")} for one in optimizers for group in one.get("groups", [])
    ]
    return (known + [{}] * count)[:count]


def _eps(group: Mapping[str, Any]) -> float:
    usual = _EPS_OF_ADAGRAD if group.get("name") == "Adagrad" else _EPS
    value = group.get("eps", usual)
    return float(value) if isinstance(value, int | float) else usual
