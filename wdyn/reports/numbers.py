"""Which numbers stand behind a figure or a sentence, as tables short enough to read?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema


@dataclass(frozen=True)
class Table:
    """Some rows of a result.

    Attributes
    ----------
    caption
        What they are of, and how many are left out.
    columns
        Their headings.
    rows
        Cells, already written for people.
    numeric
        For each column, whether it holds numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def tables(result: xr.Dataset, *, limit: int = 40) -> tuple[Table, ...]:
    """Write a result as one table for each set of dimensions; of a history, its last step.

    Parameters
    ----------
    result
        Any measurement, or the evidence of a finding.
    limit
        How many rows a table may have.
    """
    return tuple(_table(part, limit) for part in _parts(result))


def cell(value: object) -> str:
    """Write one value: four digits of a number, NaN as itself."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "NaN" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def _parts(result: xr.Dataset) -> Iterator[xr.Dataset]:
    """Split by dimensions: variables of the same ones make one table."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, variable in result.data_vars.items():
        groups.setdefault(tuple(map(str, variable.dims)), []).append(str(name))
    for names in groups.values():
        yield result[names]


def _table(part: xr.Dataset, limit: int) -> Table:
    over = [str(dim) for dim in part.dims if dim != schema.STEP]
    said = [f"for each {' and '.join(over)}" if over else "overall"]
    if schema.STEP in part.dims and part.sizes[schema.STEP]:
        part = part.isel({schema.STEP: -1})
        said.append(f"at step {part[schema.STEP].item()}, the last")
        part = part.drop_vars(schema.STEP)
    columns = _columns(part)
    count = len(next(iter(columns.values())))
    if count > limit:
        said.append(f"the first {limit} of {count} rows")
    cut = (column[:limit] for column in columns.values())
    rows = tuple(tuple(cell(value) for value in row) for row in zip(*cut, strict=True))
    numeric = tuple(column.dtype.kind in "iuf" for column in columns.values())
    return Table(", ".join(said).capitalize(), tuple(columns), rows, numeric)


def _columns(part: xr.Dataset) -> dict[str, npt.NDArray[Any]]:
    """Flatten to columns of equal length: dimensions, then what describes them, then the values."""
    dims = [str(dim) for dim in part.dims]
    described = [str(name) for name in part.coords if name not in part.dims]
    names = [*dims, *described, *map(str, part.data_vars)]
    whole = xr.broadcast(*(part[name] for name in names))
    flat = (np.atleast_1d(array.transpose(*dims).values.ravel()) for array in whole)
    return dict(zip(names, flat, strict=True))
