"""At which points can the curves of several runs be compared, and which of them ends lowest?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import rankdata

from wdyn import schema
from wdyn.analysis.inputs import group_or_none
from wdyn.naming import closest
from wdyn.reading.curves import LOSS, curves, is_loss, silent_after
from wdyn.reading.tables import parameters

Floats = npt.NDArray[np.float64]

STEP, LR = "step", "lr"
AT = "at"
"""Dimension of the points at which curves are compared."""

_POINTS = 1000
_GAP = 2.0  # usual intervals without a value that a line may bridge


class Unaligned(Exception):
    """The runs cannot be brought onto one axis: the reason, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass(frozen=True)
class Logged:
    """What one run logged, and how far it was at each row.

    Attributes
    ----------
    curves
        By name, each (step).
    name
        Under which name it logged the metric; "" where it did not.
    steps, position
        Its rows, and where each stands on the axis that runs share, (step).
    """

    curves: Mapping[str, xr.DataArray]
    name: str
    steps: npt.NDArray[np.int64]
    position: Floats

    @property
    def metric(self) -> xr.DataArray:
        """The metric at the rows that have one; no row where it was not logged."""
        if not self.name:
            return xr.DataArray(np.empty(0), {schema.STEP: np.empty(0, dtype=np.int64)}, dims=schema.STEP)
        return self.curves[self.name].dropna(schema.STEP)

    @property
    def silent_after(self) -> int:
        """The last step with a value of the metric, where recording went on without; else -1."""
        return silent_after(self.curves[self.name]) if self.name else -1

    def at(self, steps: npt.NDArray[np.int64]) -> Floats:
        """Tell how far the run was at steps; on a straight line between its rows, NaN outside them."""
        known = ~np.isnan(self.position)
        if not known.any():
            return np.full(len(steps), np.nan)
        return np.interp(steps, self.steps[known], self.position[known], left=np.nan, right=np.nan)


def logged(runs: Mapping[str, xr.DataTree], *, on: str, metric: str) -> dict[str, Logged]:
    """Read what each run logged, by its label.

    Raises
    ------
    Unaligned
        No run logged the metric (the loss may lack), or not all have what `on` asks for.
    """
    scalars = {label: group_or_none(run, schema.SCALARS) for label, run in runs.items()}
    found = {label: curves(group) if group is not None else {} for label, group in scalars.items()}
    names = {label: _name(known, metric) for label, known in found.items()}
    if metric != LOSS and not any(names.values()):
        raise Unaligned(
            f"no run logged '{metric}'", f"choose {_nearest(metric, found)}; or log it: w.log({metric}=...)"
        )
    each = {}
    for label, run in runs.items():
        steps, position = _positions(run, scalars[label], found[label], on)
        if on != STEP and np.isnan(position).all():
            remedy = "choose on='step', or " + (
                "pass the optimizer to wdyn.watch" if on == LR else f"{_nearest(on, found)}; or log it: w.log({on}=...)"
            )
            raise Unaligned(f"the run '{label}' has no '{on}' to be aligned on", remedy)
        if (np.diff(position[~np.isnan(position)]) < 0).any():
            raise Unaligned(f"'{on}' falls in the run '{label}'", "log a running total: one that never falls")
        each[label] = Logged(found[label], names[label], steps, position)
    return each


def aligned(each: Mapping[str, Logged]) -> xr.DataArray:
    """Bring the metric of all runs to the same points: (run, at)."""
    lines = {label: _line(one) for label, one in each.items()}
    known = np.unique(np.concatenate([x for x, _, _ in lines.values()]))
    points = known if known.size <= _POINTS else np.linspace(known[0], known[-1], _POINTS)
    values = np.array([_interpolated(points, *line) for line in lines.values()]).reshape(len(lines), points.size)
    return xr.DataArray(values, {schema.RUN: list(lines), AT: points}, (schema.RUN, AT))


def ends(each: Mapping[str, Logged], *, last: int) -> xr.Dataset:
    """Tell first and last values of the metric, and who is lowest at the end: over run."""
    rows = []
    for one in each.values():
        values, silent = one.metric.values, one.silent_after
        first, final = (values[0], values[-1]) if values.size else (np.nan, np.nan)
        sound = values.size and silent < 0
        lowest = values.min() if values.size else np.nan
        rows.append((first, final, lowest, float(np.median(values[-last:])) if sound else np.nan, silent))
    names = ("metric_first", "metric_last", "metric_lowest", "score", "silent_after")
    table = xr.Dataset(
        {name: (schema.RUN, np.array(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)},
        {schema.RUN: list(each)},
    )
    # What has no number at its end comes after everything that has one.
    rank = rankdata(table["score"].fillna(np.inf), method="min").astype(np.int64)
    return table.assign(
        rank=(schema.RUN, rank),
        steps=(schema.RUN, np.array([one.steps[-1] if one.steps.size else -1 for one in each.values()])),
    )


def finals(each: Mapping[str, Logged]) -> xr.DataArray:
    """Give the last value of everything that was logged, of the learning rates too: (run, logged)."""
    names = list(dict.fromkeys(name for one in each.values() for name in one.curves))
    values = np.full((len(each), len(names)), np.nan)
    for row, one in enumerate(each.values()):
        for name, curve in one.curves.items():
            known = curve.values[~np.isnan(curve.values)]  # not all is logged at every step
            if known.size:
                values[row, names.index(name)] = known[-1]
    return xr.DataArray(
        values, {schema.RUN: list(each), "logged": np.array(names, dtype=np.str_)}, (schema.RUN, "logged")
    )


def summed_rate(run: xr.DataTree, scalars: xr.Dataset) -> Floats:
    """Sum the learning rate up to each row, the mean over groups by their trainable elements: (step).

    A row holds the rate of the step that led to it; steps without a row are taken to have had that of the next.
    """
    rate = scalars[LR].values
    table = parameters(run)
    own = ((table["tied_to"] == "") & table["trainable"]).values
    held = table[schema.GROUP].values[own]
    sizes = np.bincount(held[held >= 0], table["numel"].values[own][held >= 0], minlength=rate.shape[1])[
        : rate.shape[1]
    ]
    weights = sizes if sizes.sum() else np.ones(rate.shape[1])
    used: Floats = np.where(weights > 0, rate, 0.0) @ (weights / weights.sum())
    if np.isnan(used).all():
        return used
    gaps = np.diff(scalars[schema.STEP].values, prepend=scalars[schema.STEP].values[0])
    terms = np.where(gaps == 0, 0.0, used * gaps)  # nothing led to the first row
    return np.asarray(np.cumsum(terms))


def _positions(
    run: xr.DataTree, scalars: xr.Dataset | None, known: Mapping[str, xr.DataArray], on: str
) -> tuple[npt.NDArray[np.int64], Floats]:
    if scalars is None:
        return np.empty(0, dtype=np.int64), np.empty(0)
    steps = scalars[schema.STEP].values
    if on == STEP:
        return steps, steps.astype(np.float64)
    if on == LR:
        return steps, summed_rate(run, scalars) if LR in scalars else np.full(len(steps), np.nan)
    return steps, known[on].values.astype(np.float64) if on in known else np.full(len(steps), np.nan)


def _name(known: Mapping[str, xr.DataArray], metric: str) -> str:
    if metric in known:
        return metric
    return next((name for name in known if is_loss(name)), "") if metric == LOSS else ""


def _nearest(name: str, found: Mapping[str, Mapping[str, xr.DataArray]]) -> str:
    names = sorted({one for known in found.values() for one in known})
    return "one of what was logged: " + (", ".join(closest(name, names) or names[:8]) or "nothing")


def _line(one: Logged) -> tuple[Floats, Floats, Floats]:
    """Give positions, values and steps of the metric."""
    metric = one.metric
    steps = metric[schema.STEP].values
    position = one.at(steps)
    there = ~np.isnan(position)
    return position[there], metric.values[there], steps[there].astype(np.float64)


def _interpolated(points: Floats, x: Floats, y: Floats, steps: Floats) -> Floats:
    """Straight lines between neighbours; NaN outside, and where a metric was silent for long: a NaN is not bridged."""
    if not x.size:
        return np.full(points.size, np.nan)
    values = np.interp(points, x, y, left=np.nan, right=np.nan)
    gaps = np.diff(steps)
    for at in np.flatnonzero(gaps > _GAP * np.median(gaps)) if gaps.size else ():
        values[(points > x[at]) & (points < x[at + 1])] = np.nan
    return values
