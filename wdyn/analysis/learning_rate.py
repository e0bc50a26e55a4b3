"""What did the learning rate do, and what came of it?"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import learning_rate_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.gradient_norm import gradient_norms
from wdyn.analysis.inputs import group_or_none, of_finite, statistics_or_none
from wdyn.analysis.schedule_shapes import Shape, recognise
from wdyn.analysis.skipping import REMEDY, SKIPPED, skip
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Quantity

Floats = npt.NDArray[np.float64]

_LR = "lr"
_DIGITS = 12  # to which two groups have one schedule
_NUMBERS = tuple(one.name for one in fields(Shape) if one.name not in ("name", "fitted"))
_UNITS = {"residual": "1", "peak": "lr", "floor": "lr", "cycles": "1", "factor": "1"}
_EVERY = "wdyn.watch(..., every=1, what=('weights', 'updates', 'gradients'))"


@analyzer(
    family="SCH",
    question="What did the learning rate do?",
    check=learning_rate_check.check,
    codes=learning_rate_check.CODES,
)
def learning_rate(run: xr.DataTree, *, tolerance: float = 1e-3) -> xr.Dataset:
    """What did the learning rate do, and what came of it?

    The schedule of each parameter group is recognised from the recorded rates alone: of the kinds below, the simplest
    that goes through all rows. Steps are counted as made: ``warmup`` is how many were made with less than the peak.
    The row at step s holds the rate of the step that led there.

    Parameters
    ----------
    run
        A run, or several joined.
    tolerance
        Share of the largest rate by which a row may miss a schedule; beyond it, the schedule is "other".

    Returns
    -------
    Dataset
        Over ``step`` (rows of ``scalars``), ``group`` (of parameters in the optimizer) and ``parameter``.

        - ``lr`` : (step, group). As recorded.
        - ``fitted`` : (step, group). What the schedule gives; NaN where none was recognised.
        - ``schedule`` : (group). "constant", "linear", "step", "exponential", "inverse_sqrt", "cosine",
          "cosine_restarts", "one_cycle", "other"; "" where no rate was recorded.
        - ``residual`` : (group), unitless. Largest |lr - fitted| / largest lr.
        - ``warmup``, ``hold`` : (group), steps. On the line up to the peak, and at the peak before it falls.
        - ``peak``, ``floor`` : (group). Highest and lowest rate of the schedule; a falling line goes to 0 unless its
          floor was seen.
        - ``horizon`` : (group), steps. When the floor is first reached, seen or not.
        - ``cycles`` : (group). C of lr_min + (lr_max - lr_min) / 2 (1 + cos(2 pi C t / T)), t from the peak and T up to
          the last step: 1/2 for plain decay. With restarts, the count of falls.
        - ``period`` : (group), steps. Of the whole cosine, between the first restarts, or between drops.
        - ``factor`` : (group). Of each drop, of each step of an exponential, or of the period at each restart.
        - ``lr_sum`` : (step, group). Sum of the rates so far; NaN from the first step on whose rate is not known.
        - ``update_norm`` : (step, group). ||W_t - W_{t-1}|| over all parameters of the group together; NaN where an
          update is not finite.
        - ``path_length`` : (step, group). Sum of ``update_norm`` so far; NaN from the first step on without a row.
        - ``displacement`` : (step, group). ||W_t - W_0||, the way as the crow flies.
        - ``path_off`` : (group), 0 to 1. Largest distance between the share of the path and the share of the sum of
          rates that lie behind a step: 0 where each step was as long as its rate says. As far as the path is known.
        - ``grad_norm``, ``clip_coefficient`` : (step). As logged; the norm of the gradient at the weights of this row.
        - ``norm_nonfinite`` : (step), bool. The gradient norm is infinite, or a gradient holds NaN or infinity.
        - ``clipped_share``, ``coefficient`` : (). Share of the logged steps with a coefficient below 1, and the median
          coefficient of those.
        - ``norm_share`` : (parameter), 0 to 1. Mean share of the squared gradient norm, after clipping.
        - ``weight_bound``, ``gradient_bound`` : (parameter). Largest absolute value at any recorded step, and
          ``weight_bound_step``, ``gradient_bound_step`` where; infinite where one was NaN or infinite.
        - ``ended`` : (), bool. The recording was closed in order.

        Coordinates role, kind, stack, layer, path, of_group over parameter, and attempt over step. What was not
        recorded is NaN, and its variable says why in its attributes ``skipped`` and ``remedy``.
    """
    scalars = group_or_none(run, schema.SCALARS)
    if scalars is None or _LR not in scalars or not scalars[_LR].notnull().any():
        return skip("no learning rate was recorded", remedy="give the optimizer to wdyn.watch(model, optimizer, ...)")
    lr = scalars[_LR].transpose(schema.STEP, schema.GROUP)
    lr = lr.assign_coords({schema.GROUP: np.arange(lr.sizes[schema.GROUP])})
    table = _own(parameters(run))
    result = xr.Dataset({_LR: lr}).assign(_schedules(lr, tolerance)).assign(_ways(run, lr, table))
    result = result.assign(gradient_norms(run, scalars, table)).assign(_bounds(run, table))
    result["ended"] = bool(run.attrs.get(schema.ATTRIBUTES, {}).get("closed", True))
    address = {name: table[name].variable for name in ("role", "kind", "stack", "layer", "path")}
    return result.assign_coords(address | {"of_group": table[schema.GROUP].variable})


def _own(table: xr.Dataset) -> xr.Dataset:
    """Keep what may be trained and holds values of its own."""
    own = (table["tied_to"] == "") & (table["kind"] != Kind.BUFFER)
    return table.isel({schema.PARAMETER: np.flatnonzero(own.values)})


def _schedules(lr: xr.DataArray, tolerance: float) -> xr.Dataset:
    shapes: dict[bytes, Shape] = {}
    fitted = np.full(lr.shape, np.nan)
    found: list[Shape] = []
    for at, rates in enumerate(lr.values.T):
        known = np.flatnonzero(np.isfinite(rates))
        scale = float(np.abs(rates[known]).max(initial=0.0)) or 1.0
        key = known.tobytes() + np.round(rates[known] / scale, _DIGITS).tobytes()
        if key not in shapes:  # the groups of a model mostly share one
            shapes[key] = recognise(lr[schema.STEP].values[known].astype(np.float64), rates[known] / scale,
                                    tolerance=tolerance)  # fmt: skip
        fitted[known, at] = shapes[key].fitted * scale
        found.append(shapes[key] if known.size else Shape("", np.array([]), np.nan, np.nan, np.nan))
    numbers = {
        name: xr.DataArray([getattr(one, name) for one in found], dims=schema.GROUP, attrs={"units": unit})
        for name in _NUMBERS
        for unit in [_UNITS.get(name, "steps")]
    }
    largest = lr.max(schema.STEP)  # where nothing was recorded there is no largest
    for name in ("peak", "floor"):
        numbers[name] = numbers[name] * largest.where(largest != 0, 1.0)
    names = xr.DataArray([one.name for one in found], dims=schema.GROUP)
    return xr.Dataset({"schedule": names, "fitted": lr.copy(data=fitted), **numbers})


def _ways(run: xr.DataTree, lr: xr.DataArray, table: xr.Dataset) -> xr.Dataset:
    """Give how far each group went, by its updates, beside the sum of its rates."""
    updates = _norm_by_group(run, Quantity.UPDATES, lr, table)
    result = xr.Dataset(
        {
            "lr_sum": _sum_without_gaps(lr),
            "update_norm": updates,
            "path_length": _sum_without_gaps(updates),
            "displacement": _norm_by_group(run, Quantity.DISPLACEMENT, lr, table),
        }
    )
    path, total = (result[name].dropna(schema.STEP, how="all") for name in ("path_length", "lr_sum"))
    path, total = xr.align(path, total)
    if path.sizes[schema.STEP] < 2:
        why = {SKIPPED: "updates were not recorded at every step", REMEDY: f"record them all: {_EVERY}"}
        result["path_length"].attrs.update(why)
        return result.assign(path_off=lr.isel({schema.STEP: 0}, drop=True).astype(float) * np.nan)
    # Nothing is skipped: a group whose sum breaks off has no share.
    apart = path / path.max(schema.STEP, skipna=False) - total / total.max(schema.STEP, skipna=False)
    return result.assign(path_off=abs(apart).max(schema.STEP, skipna=False))


def _norm_by_group(run: xr.DataTree, quantity: str, lr: xr.DataArray, table: xr.Dataset) -> xr.DataArray:
    """Frobenius norm over the parameters of each group together, at the rows of `lr`: (step, group)."""
    norms, recorded = np.full(lr.shape, np.nan), statistics_or_none(run, quantity)
    if recorded is not None:
        l2 = of_finite(recorded[["l2", "nonfinite"]].load(), "l2").reindex({schema.STEP: lr[schema.STEP].values})
        there = np.isin(table[schema.PARAMETER].values, l2[schema.PARAMETER].values)
        group = table[schema.GROUP].values
        for at in range(lr.sizes[schema.GROUP]):
            names = table[schema.PARAMETER].values[there & (group == at)]
            if names.size:
                norms[:, at] = np.sqrt((l2.sel({schema.PARAMETER: names}).values ** 2).sum(axis=1))
    return xr.DataArray(norms, lr.coords, lr.dims)


def _sum_without_gaps(values: xr.DataArray) -> xr.DataArray:
    """Sum along `step`, 0 at the first row; NaN from the first step without a value on: with gaps it is too small."""
    steps = values[schema.STEP].values
    follows = np.r_[True, np.diff(steps) == 1]
    terms = np.where(follows[:, None], values.values, np.nan)
    terms[0] = 0.0
    return values.copy(data=np.cumsum(terms, axis=0))


def _bounds(run: xr.DataTree, table: xr.Dataset) -> xr.Dataset:
    found: dict[str, tuple[str, Floats]] = {}
    for quantity, name in ((Quantity.WEIGHTS, "weight_bound"), (Quantity.GRADIENTS, "gradient_bound")):
        size, at = np.full(table.sizes[schema.PARAMETER], np.nan), np.full(table.sizes[schema.PARAMETER], np.nan)
        recorded = statistics_or_none(run, quantity)
        if recorded is not None:
            rows = recorded[["abs_max", "nonfinite"]].load().reindex({schema.PARAMETER: table[schema.PARAMETER].values})
            largest = np.where(rows["nonfinite"] > 0, np.inf, rows["abs_max"])  # no bound holds for what is no number
            seen = ~np.isnan(largest).all(axis=0)
            top = np.where(np.isnan(largest), -np.inf, largest).argmax(axis=0)
            size[seen] = largest[top, np.arange(len(top))][seen]
            at[seen] = recorded[schema.STEP].values[top][seen]
        found |= {name: (schema.PARAMETER, size), f"{name}_step": (schema.PARAMETER, at)}
    return xr.Dataset(found, {schema.PARAMETER: table[schema.PARAMETER].values})
