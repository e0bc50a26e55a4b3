"""Which columns of the recorded rows belong together, by stack, role and layer, and what do they hold together?

Counts on one fixed grid add up, and so do moments about a common mean: several matrices of one role in one layer are
pooled exactly, without their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import bins, schema
from wdyn.errors import NoMatch
from wdyn.reading.tables import HISTOGRAM, parameters, statistics
from wdyn.schema import Kind

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Key = tuple[str, str, int]
"""(stack, role, layer)"""

_READ = ("count", "nonfinite", "mean", "std", "skewness", "kurtosis")


@dataclass(frozen=True)
class Table:
    """Rows over parameters, or over parts: the columns in use, and the cell that each belongs to, in order of cells."""

    values: xr.Dataset
    columns: Integers
    cells: Integers


def tables(run: xr.DataTree, *, rows: int, reference: int | None) -> tuple[list[Key], list[Table]]:
    """Give the cells of a run, and the tables that hold their rows, thinned; none where there are no histograms."""
    found: list[tuple[xr.Dataset, Integers]] = []
    for parts in (False, True):
        try:
            values = statistics(run, parts=parts, histogram=True)
        except NoMatch:
            continue
        used = parts_in_use(values, run) if parts else _weights_in_use(values, run)
        if values.sizes[schema.STEP] and used.size:
            found.append((values, used))
    keys = sorted({key for values, used in found for key in _keys(values, used)}, key=_in_order)
    number = {key: at for at, key in enumerate(keys)}
    steps = _thinned(found[0][0][schema.STEP].values, rows, reference) if found else np.empty(0, np.int64)
    return keys, [_table(values, used, number, steps) for values, used in found]


def _table(values: xr.Dataset, used: Integers, number: Mapping[Key, int], steps: Integers) -> Table:
    cells = np.array([number[key] for key in _keys(values, used)], dtype=np.int64)
    order = np.argsort(cells, kind="stable")
    return Table(values.isel({schema.STEP: np.isin(values[schema.STEP].values, steps)}), used[order], cells[order])


def _weights_in_use(values: xr.Dataset, run: xr.DataTree) -> Integers:
    """Leave out biases and buffers, and names that share the memory of another, which tells for them."""
    tied = parameters(run)["tied_to"].sel({schema.PARAMETER: values[schema.PARAMETER]}).values != ""
    return np.flatnonzero((values["kind"].values == Kind.WEIGHT) & ~tied)


def parts_in_use(values: xr.Dataset, run: xr.DataTree) -> Integers:
    """Keep the parts that are something else than their whole: q of qkv, but no head of q and no expert."""
    whole = parameters(run).sel({schema.PARAMETER: values[schema.PARAMETER].values})
    own = values["role"].values != whole["role"].values
    tied = whole["tied_to"].values != ""
    single = (values[schema.HEAD].values < 0) & (values[schema.EXPERT].values < 0)
    return np.flatnonzero(own & single & ~tied & (values["kind"].values == Kind.WEIGHT))


def _keys(values: xr.Dataset, used: Integers) -> Iterator[Key]:
    columns = (values[name].values[used].tolist() for name in ("stack", "role", "layer"))
    yield from zip(*columns, strict=True)


_ROLES = [str(role) for role in schema.Role]


def _in_order(key: Key) -> tuple[str, int, str, int]:
    stack, role, layer = key
    return stack, _ROLES.index(role) if role in _ROLES else len(_ROLES), role, layer


def _thinned(steps: Integers, rows: int, reference: int | None) -> Integers:
    """Keep at most so many steps, evenly among those recorded, the first, the last and the reference among them."""
    kept = np.unique(np.linspace(0, steps.size - 1, min(rows, steps.size)).round().astype(np.int64))
    return steps[np.union1d(kept, np.flatnonzero(steps == reference))]


def moments(table: Table, steps: Integers, size: int) -> Mapping[str, Floats]:
    """Pool count, mean, std and kurtosis of the finite values: each (step, cell), NaN for cells of other tables.

    The moments of each column about the common mean follow from the binomial theorem, and add up.
    """
    read = table.values[list(_READ)].load().transpose(schema.STEP, ...).reindex({schema.STEP: steps})
    columns = {name: values.values[:, table.columns] for name, values in read.items()}
    n, mean, std = columns["count"] - columns["nonfinite"], columns["mean"], columns["std"]
    # What has no spread has no skewness or kurtosis, and its moments are 0.
    third, fourth = (np.where(std == 0, 0.0, columns[name]) * std**p for name, p in (("skewness", 3), ("kurtosis", 4)))
    total = _added(n, table.cells, size)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 of cells without a finite value, or without spread
        centre = _added(n * mean, table.cells, size) / total
        off = mean - centre[:, table.cells]
        second = _added(n * (std**2 + off**2), table.cells, size) / total
        power = fourth + 4 * off * third + 6 * off**2 * std**2 + off**4
        kurtosis = _added(n * power, table.cells, size) / total / second**2
    return {"count": total, "mean": centre, "std": np.sqrt(second), "kurtosis": kurtosis}


def _added(values: Floats, cells: Integers, size: int) -> Floats:
    """Add up the columns of each cell: (step, column) -> (step, cell); NaN where it has none."""
    total = np.full((values.shape[0], size), np.nan)
    total[:, cells] = 0
    np.add.at(total.T, cells, values.T)
    return total


def counts_at(found: Iterable[Table], step: int, size: int) -> Floats:
    """Read one row of counts and add up the columns of each cell: (cell, bin); NaN where nothing was recorded."""
    total = np.zeros((size, bins.COUNT))
    for table in found:
        at = np.flatnonzero(table.values[schema.STEP].values == step)
        if at.size:
            rows = table.values[HISTOGRAM].isel({schema.STEP: int(at[0])}).values[table.columns]
            total[np.unique(table.cells)] += added(rows, table.cells)
        else:
            total[table.cells] = np.nan
    return total


def added(rows: Floats, numbers: Integers) -> Floats:
    """Add up rows of one number, which stand together: (row, bin) -> (number, bin)."""
    sums: Floats = np.add.reduceat(rows, np.flatnonzero(np.diff(numbers, prepend=-1)), axis=0)
    return sums
