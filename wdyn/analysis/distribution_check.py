"""Which changes of a distribution deserve a word?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "DIS001": "Weights widened, and their tails grew longer.",
    "DIS002": "Tails grew heavy: a few weights are far larger than the rest.",
    "DIS003": "Values collapsed to a few.",
    "DIS004": "Many weights became exactly zero.",
    "DIS005": "Weights are infinite, or beyond what float32 holds.",
    "DIS006": "Weights fell below the smallest normal float32.",
}

_MEASURES = ("std", "std_ratio", "iqr_ratio", "kurtosis", "tail_weight", "zeros", "underflow", "overflow", "clusters")


def check(
    result: xr.Dataset,
    *,
    widened: float = 1.1,
    heavy: float = 12.0,
    far: float = 0.005,
    few: float = 4.0,
    least_values: int = 64,
    zeros: float = 0.01,
    underflow: float = 0.001,
) -> Iterator[Finding]:
    """Judge what `distribution` measured: the last row beside the first.

    Parameters
    ----------
    result
        From `distribution`.
    widened
        Ratio of the std beyond which weights have widened.
    heavy
        Kurtosis beyond which tails are heavy.
    far
        Share of values beyond 4 rms from which on tails are heavy too.
    few
        Count of bins, in effect, at or below which values are a few.
    least_values
        Fewer values than this have no tail and no clusters to speak of.
    zeros
        Share of exact zeros that may arise.
    underflow
        Share of values below the smallest normal float32 that may arise.
    """
    ends = _ends(result)
    first, last = ends.isel({schema.STEP: 0}, drop=True), ends.isel({schema.STEP: -1}, drop=True)
    enough = last["count"] >= least_values
    grew = last["kurtosis"] - first["kurtosis"] > (4 * np.sqrt(24 / last["count"])).clip(min=0.3)
    swollen = (last["kurtosis"] >= heavy) & (last["kurtosis"] >= 2 * first["kurtosis"])
    swollen |= (last["tail_weight"] >= far) & (last["tail_weight"] >= 2 * first["tail_weight"])
    yield from _longer(ends, enough & grew & (last["std_ratio"] >= widened))
    yield from _heavy(ends, enough & grew & swollen)
    centred = np.abs(last["mean"]) < last["std"]  # a narrow distribution away from 0 fills few bins as well
    gathered = (last["clusters"] <= few) & (first["clusters"] >= 2 * few)
    yield from _gathered(ends, enough & centred & gathered)
    yield from _zeros(ends, last["zeros"] - first["zeros"] >= zeros)
    yield from _beyond(ends, last["overflow"] > 0)
    yield from _tiny(ends, last["underflow"] - first["underflow"] >= underflow)


def _ends(result: xr.Dataset) -> xr.Dataset:
    """Keep the first row and the last one, of every role that is no whole of others: cells of (stack, role, layer)."""
    shown = result.isel(role=~result["fused"].values, step=[0, -1]).drop_vars(["histogram", "fused"])
    return shown if "stack" in shown.dims else shown.expand_dims("stack")


def _longer(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(ends["std_ratio"], where)
        yield _finding(
            ends,
            where,
            "DIS001",
            Severity.INFO,
            f"{_roles(where)} widened, with longer tails, in {_cells(where)}: most in {_name(cell, ends)}, std "
            f"×{_last(ends, cell, 'std_ratio')}, kurtosis {_both(ends, cell, 'kurtosis')} (normal: 3)",
            "Usual of weights that learn from a narrow start: most move a little and some much. Look at it where "
            "one role or layer goes far beyond the others.",
        )


def _heavy(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(ends["kurtosis"], where)
        yield _finding(
            ends,
            where,
            "DIS002",
            Severity.WARNING,
            f"Tails of {_roles(where)} grew heavy in {_cells(where)}: most in {_name(cell, ends)}, kurtosis "
            f"{_both(ends, cell, 'kurtosis')}, share beyond 4 rms {_both(ends, cell, 'tail_weight')}",
            "A few weights carry most of the norm: rounding to fewer bits will lose the others. Look for rows of rare "
            "tokens, for gradient spikes, and at whether clipping and weight decay reach these weights.",
        )


def _gathered(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(-ends["clusters"], where)
        yield _finding(
            ends,
            where,
            "DIS003",
            Severity.WARNING,
            f"Values of {_roles(where)} collapsed to a few in {_cells(where)}: in {_name(cell, ends)} they fill "
            f"{_both(ends, cell, 'clusters')} bins of 25 % width in effect, where a normal distribution fills 20",
            "Quantized or clamped weights look like this, and so does an update by its sign alone with nothing else. "
            "Where none of it is meant, look at what writes to the weights after the step.",
        )


def _zeros(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(ends["zeros"], where)
        yield _finding(
            ends,
            where,
            "DIS004",
            Severity.WARNING,
            f"Weights of {_roles(where)} became exactly zero in {_cells(where)}: share {_both(ends, cell, 'zeros')} "
            f"in {_name(cell, ends)}",
            "Pruning means to do this. Else look for a mask or clamp, an L1 step, or values too small for the "
            "format of the weights.",
        )


def _beyond(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(ends["overflow"], where)
        yield _finding(
            ends,
            where,
            "DIS005",
            Severity.ERROR,
            f"Weights of {_roles(where)} are infinite or beyond 2^128 in {_cells(where)}: share "
            f"{_both(ends, cell, 'overflow')} in {_name(cell, ends)}",
            "Go back to a row before it, and look at the gradient norm and the learning rate there.",
        )


def _tiny(ends: xr.Dataset, where: xr.DataArray) -> Iterator[Finding]:
    if where.any():
        cell = _most(ends["underflow"], where)
        yield _finding(
            ends,
            where,
            "DIS006",
            Severity.WARNING,
            f"Weights of {_roles(where)} fell below 2^-126, the smallest normal float32, in {_cells(where)}: share "
            f"{_both(ends, cell, 'underflow')} in {_name(cell, ends)}",
            "Weight decay without any gradient takes weights there, where arithmetic is inexact and may be slow. Find "
            "out why no gradient reaches them, or leave them out of the decay.",
        )


Cell = dict[str, object]


def _most(values: xr.DataArray, where: xr.DataArray) -> Cell:
    """Give the cell in which the last row has the most, among those that count."""
    last = values.isel({schema.STEP: -1}, drop=True).where(where)
    at = last.fillna(-np.inf).argmax(...)
    return {str(dim): last[dim].values[int(number)].item() for dim, number in at.items()}


def _finding(
    ends: xr.Dataset, where: xr.DataArray, code: str, severity: Severity, message: str, advice: str
) -> Finding:
    roles = _holding(where)
    evidence = ends[list(_MEASURES)].sel(role=roles).squeeze()
    line = sel_line(f"wdyn.distribution(run)[{list(_KEY[code])!r}]", where="", role=roles)
    return Finding(code, severity, message, evidence[list(_KEY[code])], advice, line)


_KEY = {
    "DIS001": ("std_ratio", "kurtosis"),
    "DIS002": ("kurtosis", "tail_weight"),
    "DIS003": ("clusters",),
    "DIS004": ("zeros",),
    "DIS005": ("overflow",),
    "DIS006": ("underflow",),
}


def _holding(where: xr.DataArray) -> list[str]:
    held = where.any([dim for dim in where.dims if dim != "role"])
    roles: list[str] = where["role"].values[held.values].tolist()
    return roles


def _roles(where: xr.DataArray) -> str:
    return examples(_holding(where), 6)


def _cells(where: xr.DataArray) -> str:
    return f"{int(where.sum())} {'weight' if int(where.sum()) == 1 else 'weights'}"


def _name(cell: Cell, ends: xr.Dataset) -> str:
    tower = f" of the {cell['stack']}" if ends.sizes["stack"] > 1 else ""
    layer = f" of layer {cell[schema.LAYER]}" if cell[schema.LAYER] != schema.NO_LAYER else ""
    return f"{cell['role']}{layer}{tower}"


def _last(ends: xr.Dataset, cell: Cell, name: str) -> str:
    return f"{float(ends[name].isel({schema.STEP: -1}).sel(cell)):.3g}"


def _both(ends: xr.Dataset, cell: Cell, name: str) -> str:
    return " → ".join(f"{float(value):.3g}" for value in ends[name].sel(cell).values)
