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


def union(tables: Iterable[xr.Dataset]) -> list[str]:
    """All names, in the order in which the tables tell them."""
    return list(dict.fromkeys(str(name) for table in tables for name in table[schema.PARAMETER].values))


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
        _agree(each, column)
    apart = [_filled(table[list(_DIFFERING)], names).assign({PRESENT: _present(table, names)}) for table in each]
    joined = xr.concat(apart, xr.IndexVariable(schema.RUN, np.array(list(tables), dtype=np.str_)))
    common = {str(column): _first(each, str(column), names) for column in each[0].data_vars if column not in _DIFFERING}
    held = np.array([arrays.get(name, "") for name in names], dtype=np.str_)
    return joined.assign({**common, schema.WEIGHTS: (schema.PARAMETER, held)})


def split_table(table: xr.Dataset, label: str) -> xr.Dataset:
    """One run's share of a joined table."""
    one = table.sel({schema.RUN: label}, drop=True)
    return one.isel({schema.PARAMETER: np.flatnonzero(one[PRESENT].values)}).drop_vars(PRESENT)


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


def _present(table: xr.Dataset, names: Sequence[str]) -> xr.DataArray:
    return xr.DataArray(np.isin(names, table[schema.PARAMETER].values), dims=schema.PARAMETER)


def _filled(table: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    fills: dict[str, object] = {str(name): _fill(values.dtype) for name, values in table.data_vars.items()}
    return table.reindex({schema.PARAMETER: list(names)}, fill_value=fills)


def _fill(dtype: np.dtype[np.generic]) -> object:
    return "" if dtype.kind in "UO" else False if dtype.kind == "b" else dtype.type(-1)


def _first(tables: Sequence[xr.Dataset], column: str, names: Sequence[str]) -> xr.DataArray:
    """Values of a column, each from the first run that has the parameter."""
    known = {name: value for table in reversed(tables) for name, value in _pairs(table, column)}
    return xr.DataArray(np.array([known[name] for name in names]), dims=schema.PARAMETER)


def _pairs(table: xr.Dataset, column: str) -> list[tuple[str, object]]:
    return list(zip(table[schema.PARAMETER].values.tolist(), table[column].values.tolist(), strict=True))


def _agree(tables: Sequence[xr.Dataset], column: str) -> None:
    known: dict[str, object] = {}
    for table in tables:
        for name, value in _pairs(table, column):
            if known.setdefault(name, value) != value:
                raise InvalidArgument(
                    f"The runs disagree on what {name} is: {column} {known[name]!r} in one, {value!r} in another. "
                    f"Join runs of one architecture"
                )
