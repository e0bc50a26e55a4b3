"""How do the tables of several runs become one, and how does each come out again?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.reading.tables import ADDRESS_COORDINATES

PRESENT = "present"
"""Variable (run, parameter) of a joined table: whether the run has the parameter."""

_DIFFERING = ("shape", "dims", "dtype", "numel", "trainable", "tied_to", "in_optimizer", schema.GROUP)
"""Columns of the table that may differ between runs."""


def union(tables: Iterable[xr.Dataset], dim: str = schema.PARAMETER) -> list[str]:
    """All names along `dim`, in the order in which the tables tell them."""
    return list(dict.fromkeys(str(name) for table in tables for name in table[dim].values))


def join_tables(tables: Mapping[str, xr.Dataset], arrays: Mapping[str, str]) -> xr.Dataset:
    """Join tables: a column that may differ has a dimension `run`, the address of a parameter has none.

    Parameters
    ----------
    tables
        By the label of the run.
    arrays
        For each name the array that holds its weights in the joined run.

    Raises
    ------
    InvalidArgument
        The runs disagree on what a parameter is.
    """
    each, names = list(tables.values()), union(tables.values())
    for column in ADDRESS_COORDINATES:
        _agree(each, column, schema.PARAMETER)
    present = _present(tables, names, schema.PARAMETER)
    apart = [_filled(table[list(_DIFFERING)], names) for table in each]
    joined = xr.concat(apart, present[schema.RUN]).assign({PRESENT: present})
    common = {
        str(column): _first(each, str(column), names, schema.PARAMETER)
        for column in each[0].data_vars
        if column not in _DIFFERING
    }
    held = np.array([arrays.get(name, "") for name in names], dtype=np.str_)
    return joined.assign({**common, schema.WEIGHTS: (schema.PARAMETER, held)})


def join_parts(tables: Mapping[str, xr.Dataset], runs: Iterable[str]) -> xr.Dataset:
    """Join tables of parts, of the runs that have one: what a part is has no dimension `run`, only whether it is there.

    Raises
    ------
    InvalidArgument
        The runs disagree on what a part is.
    """
    each, labels = list(tables.values()), union(tables.values(), schema.PART)
    columns = [str(column) for column in each[0].data_vars]
    for column in columns:
        _agree(each, column, schema.PART)
    common = {column: _first(each, column, labels, schema.PART) for column in columns}
    nothing = each[0].isel({schema.PART: []})
    present = _present({run: tables.get(run, nothing) for run in runs}, labels, schema.PART)
    return xr.Dataset({**common, PRESENT: present}, {schema.PART: labels})


def split_table(table: xr.Dataset, label: str, dim: str = schema.PARAMETER) -> xr.Dataset:
    """One run's share of a joined table."""
    one = table.sel({schema.RUN: label}, drop=True)
    return one.isel({dim: np.flatnonzero(one[PRESENT].values)}).drop_vars(PRESENT)


def renumbered(states: xr.Dataset, *, before: Sequence[str], after: Sequence[str]) -> xr.Dataset:
    """Let ``shares_with`` count in the table `after` instead of the table `before`."""
    position = {name: at for at, name in enumerate(after)}
    moved = np.array([position.get(name, np.nan) for name in before])

    def move(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        known = numbers >= 0  # neither NaN nor -1: not recorded
        return np.where(known, moved[np.where(known, numbers, 0).astype(np.int64)], np.nan)

    shares = xr.apply_ufunc(
        move, states[schema.SHARES_WITH], dask="parallelized", output_dtypes=[np.float64], keep_attrs=True
    )
    return states.assign({schema.SHARES_WITH: shares})


def _present(tables: Mapping[str, xr.Dataset], names: Sequence[str], dim: str) -> xr.DataArray:
    there = np.array([np.isin(names, table[dim].values) for table in tables.values()], dtype=bool)
    runs = np.array(list(tables), dtype=np.str_)
    return xr.DataArray(there.reshape(len(runs), len(names)), {schema.RUN: runs}, (schema.RUN, dim))


def _filled(table: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    fills: dict[str, object] = {str(name): _fill(values.dtype) for name, values in table.data_vars.items()}
    return table.reindex({schema.PARAMETER: list(names)}, fill_value=fills)


def _fill(dtype: np.dtype[np.generic]) -> object:
    return "" if dtype.kind in "UO" else False if dtype.kind == "b" else dtype.type(-1)


def _first(tables: Sequence[xr.Dataset], column: str, names: Sequence[str], dim: str) -> xr.DataArray:
    """Values of a column, each from the first run that has the row."""
    known = {name: value for table in reversed(tables) for name, value in _pairs(table, column, dim)}
    return xr.DataArray(np.array([known[name] for name in names]), dims=dim)


def _pairs(table: xr.Dataset, column: str, dim: str) -> list[tuple[str, object]]:
    return list(zip(table[dim].values.tolist(), table[column].values.tolist(), strict=True))


def _agree(tables: Sequence[xr.Dataset], column: str, dim: str) -> None:
    known: dict[str, object] = {}
    for table in tables:
        for name, value in _pairs(table, column, dim):
            if known.setdefault(name, value) != value:
                raise InvalidArgument(
                    f"The runs disagree on what {name} is: {column} {known[name]!r} in one, {value!r} in another. "
                    f"Join runs of one architecture"
                )
