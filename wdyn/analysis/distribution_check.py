"""Which changes of a distribution deserve a word?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    # Both are estimated, each with a variance of 24 / n where values are normal (Fisher 1930).
    grew = last["kurtosis"] - first["kurtosis"] > (4 * np.sqrt(2 * 24 / last["count"])).clip(min=0.3)
    swollen = (last["kurtosis"] >= heavy) & (last["kurtosis"] >= 2 * first["kurtosis"])
    swollen |= (last["tail_weight"] >= far) & (last["tail_weight"] >= 2 * first["tail_weight"])
    centred = np.abs(last["mean"]) < last["std"]  # a narrow distribution away from 0 fills few bins as well
    gathered = (last["clusters"] <= few) & (first["clusters"] >= 2 * few)
    found = {
        "DIS001": enough & grew & (last["std_ratio"] >= widened),
        "DIS002": enough & grew & swollen,
        "DIS003": enough & centred & gathered,
        "DIS004": last["zeros"] - first["zeros"] >= zeros,
        "DIS005": last["overflow"] > 0,
        "DIS006": last["underflow"] - first["underflow"] >= underflow,
    }
    for code, where in found.items():
        if where.any():
            yield _finding(result, ends, where, code)


def _ends(result: xr.Dataset) -> xr.Dataset:
    """Keep the first row and the last one, of every role that is no whole of others: cells of (stack, role, layer)."""
    shown = result.isel(role=~result["fused"].values, step=[0, -1]).drop_vars(["histogram", "fused"])
    return shown if "stack" in shown.dims else shown.expand_dims("stack")


@dataclass(frozen=True)
class _Told:
    """How a code is told of: its proof, the measure whose largest (or smallest) value is named, and the words.

    In `words`, braces hold ``roles``, ``weights`` and ``worst``, and measures: first and last, or ``last[measure]``.
    """

    severity: Severity
    shown: tuple[str, ...]
    words: str
    advice: str
    smallest: bool = False


_TOLD = {
    "DIS001": _Told(
        Severity.INFO,
        ("std_ratio", "kurtosis"),
        "{roles} widened, with longer tails, in {weights}: most in {worst}, std ×{last[std_ratio]}, kurtosis "
        "{kurtosis} (normal: 3)",
        "Usual of weights that learn from a narrow start: most move a little and some much. Look at it where one role "
        "or layer goes far beyond the others.",
    ),
    "DIS002": _Told(
        Severity.WARNING,
        ("kurtosis", "tail_weight"),
        "Tails of {roles} grew heavy in {weights}: most in {worst}, kurtosis {kurtosis}, share beyond 4 rms "
        "{tail_weight}",
        "A few weights carry most of the norm: rounding to fewer bits will lose the others. Look for rows of rare "
        "tokens, for gradient spikes, and at whether clipping and weight decay reach these weights.",
    ),
    "DIS003": _Told(
        Severity.WARNING,
        ("clusters",),
        "Values of {roles} collapsed to a few in {weights}: in {worst} they fill {clusters} bins of 25 % width in "
        "effect, where a normal distribution fills 20",
        "Quantized or clamped weights look like this, and so does an update by its sign alone with nothing else. "
        "Where none of it is meant, look at what writes to the weights after the step.",
        smallest=True,
    ),
    "DIS004": _Told(
        Severity.WARNING,
        ("zeros",),
        "Weights of {roles} became exactly zero in {weights}: share {zeros} in {worst}",
        "Pruning means to do this. Else look for a mask or clamp, an L1 step, or values too small for the format of "
        "the weights.",
    ),
    "DIS005": _Told(
        Severity.ERROR,
        ("overflow",),
        "Weights of {roles} are infinite or beyond 2^128 in {weights}: share {overflow} in {worst}",
        "Go back to a row before it, and look at the gradient norm and the learning rate there.",
    ),
    "DIS006": _Told(
        Severity.WARNING,
        ("underflow",),
        "Weights of {roles} fell below 2^-126, the smallest normal float32, in {weights}: share {underflow} in {worst}",
        "Weight decay without any gradient takes weights there, where arithmetic is inexact and may be slow. Find out "
        "why no gradient reaches them, or leave them out of the decay.",
    ),
}


def _finding(result: xr.Dataset, ends: xr.Dataset, where: xr.DataArray, code: str) -> Finding:
    told, roles = _TOLD[code], _holding(where)
    cell = _most(ends[told.shown[0]], where, smallest=told.smallest)
    pairs = {name: [f"{float(value):.3g}" for value in ends[name].sel(cell).values] for name in told.shown}
    count = int(where.sum())
    words = told.words.format(
        roles=examples(roles, 6),
        weights=f"{count} weight{'' if count == 1 else 's'}",
        worst=_name(cell, ends),
        last={name: values[-1] for name, values in pairs.items()},
        **{name: " → ".join(values) for name, values in pairs.items()},
    )
    proof = result[list(told.shown)].isel({schema.STEP: [0, -1]}).sel(role=roles)
    line = sel_line(f"wdyn.distribution(run).isel(step=[0, -1])[{list(told.shown)!r}]", role=roles)
    return Finding(code, told.severity, words, proof, told.advice, line)


Cell = dict[str, object]


def _most(values: xr.DataArray, where: xr.DataArray, *, smallest: bool) -> Cell:
    """Give the cell in which the last row has the most, or the least, among those that count."""
    last = values.isel({schema.STEP: -1}, drop=True).where(where)
    ranked = -last if smallest else last
    at = ranked.fillna(-np.inf).argmax(...)
    return {str(dim): last[dim].values[int(number)].item() for dim, number in at.items()}


def _holding(where: xr.DataArray) -> list[str]:
    held = where.any([dim for dim in where.dims if dim != "role"])
    roles: list[str] = where["role"].values[held.values].tolist()
    return roles


def _name(cell: Cell, ends: xr.Dataset) -> str:
    tower = f" of the {cell['stack']}" if ends.sizes["stack"] > 1 else ""
    layer = f" of layer {cell[schema.LAYER]}" if cell[schema.LAYER] != schema.NO_LAYER else ""
    return f"{cell['role']}{layer}{tower}"
