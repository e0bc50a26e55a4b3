"""Which facts and tables does a person read of the differences between two models?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.difference import WAYS, everything, summed
from wdyn.analysis.likeness_notes import retied
from wdyn.analysis.likeness_words import number
from wdyn.reports.numbers import Table
from wdyn.schema import NO_GROUP, State

_ROWS = 20
_NOT_THERE = "–"
_COLUMNS = {
    "relative": "change / norm of a",
    "change": "norm of the change",
    "max_abs": "largest",
    "ulps": "ulps",
    "cosine": "cosine",
    "stable_rank": "stable rank",
    "rank": "rank",
    "changed_share": "elements changed",
}


def facts(result: xr.Dataset) -> dict[str, str]:
    """Say what was compared, and what it adds up to."""
    sums, states = everything(result), result["state"].values.tolist()
    counts = [f"{states.count(state)} {state}" for state in map(str, State) if state in states]
    told = {"a": str(result.attrs["a"]), "b": str(result.attrs["b"]), "Names": ", ".join(counts) or "none"}
    if sums["parameters"]:
        told["Compared"] = (
            f"{sums['parameters']} parameters, {sums['numel']:,} values, {sums['changed']:,} of them changed"
        )
    if sums["changed"]:
        told["Change"] = (
            f"{number(sums['relative'])} of the norm of a, cosine {number(sums['cosine'])}, "
            f"at most {number(sums['max_abs'])} and {_ulps(sums['ulps'])} ulps"
        )
    return told


def tables(result: xr.Dataset) -> tuple[Table, ...]:
    """Lay out names that differ, the sums by role, layer and group, and the parameters that changed most."""
    return (*_names(result), *_sums(result), *_most(result))


def _names(result: xr.Dataset) -> Iterator[Table]:
    tied = retied(result)
    told = ~np.isin(result["state"].values, (State.EQUAL, State.CAST, State.CHANGED)) | (
        result["renamed_by"].values != ""
    )
    at = np.flatnonzero(told | tied)
    if not at.size:
        return
    listed = result.isel({schema.PARAMETER: at[:_ROWS]})
    names = listed[schema.PARAMETER].values.tolist()
    columns = {str(name): its.values.tolist() for name, its in listed.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    cells = tuple((name, *_told(row, tie)) for name, row, tie in zip(names, rows, tied[at].tolist(), strict=False))
    yield Table(
        _caption("Names, shapes and ties that differ", at.size), ("parameter", "what", "a", "b"), cells, (False,) * 4
    )


def _told(row: dict[str, str], tied: bool) -> tuple[str, str, str]:
    if row["state"] in (State.MISSING, State.EXTRA, State.LEFT_OUT, State.RESHAPED):
        shares = row["tied_a"] or row["tied_b"]
        what = f"left out, tied to {shares}" if row["state"] == State.LEFT_OUT and shares else row["state"]
        return what, row["shape_a"] or _NOT_THERE, row["shape_b"] or _NOT_THERE
    if tied:
        return "tied otherwise", row["tied_a"] or "its own", row["tied_b"] or "its own"
    return f"renamed, by {row['renamed_by']}", "", row["name_b"]


def _sums(result: xr.Dataset) -> Iterator[Table]:
    if not everything(result)["changed"]:
        return
    for way in WAYS:
        sums = summed(result, by=way)
        if way == "group" and sums["group"].values.tolist() == [str(NO_GROUP)]:
            continue
        labels = [_label(label, way) for label in sums[way].values.tolist()]
        rows = tuple((label, *row) for label, row in zip(labels, _cells(sums), strict=True))
        caption = _caption(f"By {way}" + (" of the optimizer" if way == "group" else ""), len(rows), limit=len(rows))
        yield Table(caption, (way, "parameters", *_heads(sums)), rows, (False, *[True] * (len(_heads(sums)) + 1)))


def _label(label: str, way: str) -> str:
    return "none" if way == "group" and label == str(NO_GROUP) else label


def _most(result: xr.Dataset) -> Iterator[Table]:
    counted = result.isel({schema.PARAMETER: np.flatnonzero(result["counted"].values & (result["changed"].values > 0))})
    if not counted.sizes[schema.PARAMETER]:
        return
    # A NaN is the first thing to see; of what was zero, as new biases are, any change is infinite.
    size = np.nan_to_num(counted["relative"].values, nan=np.inf, posinf=-1.0)
    first = np.argsort(-size, kind="stable")[:_ROWS]
    shown = _with_nonfinite(counted.isel({schema.PARAMETER: first}))
    names = shown[schema.PARAMETER].values.tolist()
    pairs = zip(shown["dtype_a"].values.tolist(), shown["dtype_b"].values.tolist(), strict=True)
    dtypes = [a if a == b else f"{a} → {b}" for a, b in pairs]
    rows = tuple((*row[:2], *row[2]) for row in zip(names, dtypes, _cells(shown, counts=False), strict=True))
    caption = _caption("The parameters that changed most", len(counted[schema.PARAMETER]))
    heads = _heads(shown)
    yield Table(caption, ("parameter", "dtype", *heads), rows, (False, False, *[True] * len(heads)))


def _with_nonfinite(table: xr.Dataset) -> xr.Dataset:
    return table.assign({f"nonfinite_{side}": table[f"nans_{side}"] + table[f"infs_{side}"] for side in ("a", "b")})


def _heads(table: xr.Dataset) -> tuple[str, ...]:
    return (*_COLUMNS.values(), *(("NaN, inf in a", "NaN, inf in b") if _has_nonfinite(table) else ()))


def _cells(table: xr.Dataset, *, counts: bool = True) -> list[tuple[str, ...]]:
    """Write rows: NaN where values are none, and a dash where there is nothing to measure."""
    names = [*(["parameters"] if counts else []), *_COLUMNS]
    struck = (table["nonfinite_a"].values > 0) | (table["nonfinite_b"].values > 0)
    columns = [
        [_cell(name, value, broken) for value, broken in zip(table[name].values.tolist(), struck.tolist(), strict=True)]
        for name in names
    ]
    if _has_nonfinite(table):
        columns += [[f"{count:,}" for count in table[f"nonfinite_{side}"].values.tolist()] for side in ("a", "b")]
    return list(zip(*columns, strict=True))


def _has_nonfinite(table: xr.Dataset) -> bool:
    return bool((table["nonfinite_a"] > 0).any() or (table["nonfinite_b"] > 0).any())


def _cell(name: str, value: float, struck: bool) -> str:
    if isinstance(value, float) and np.isnan(value):
        return "NaN" if struck else _NOT_THERE
    match name:
        case "parameters" | "rank":
            return f"{value:.0f}"
        case "ulps":
            return _ulps(value)
        case "changed_share":
            return "100 %" if value == 1 else f"{100 * value:.3g} %"
        case _:
            return number(value)


def _ulps(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"


def _caption(words: str, count: int, *, limit: int = _ROWS) -> str:
    return words if count <= limit else f"{words}, the first {limit} of {count}"
