"""How do several runs become one, with a dimension `run`?"""

from __future__ import annotations

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.naming import slug
from wdyn.reading.tables import ADDRESS_COORDINATES, parameters

PRESENT = "present"
"""Variable (run, parameter) of a joined table: whether the run has the parameter."""

_DIFFERING = ("trainable", "tied_to", "in_optimizer", schema.GROUP)
"""Columns of the table that may differ between runs of one architecture."""


def join_runs(**runs: xr.DataTree) -> xr.DataTree:
    """Join runs along a new dimension ``run``, labelled with the names given here; stays lazy through dask.

    Rows, parameters and groups that only some runs have are NaN in the others. A group of weights that has another
    shape in another run cannot be stacked and is left out; the attribute ``left_out`` names it.

    Parameters
    ----------
    **runs
        Runs from `open_run`, by the label each shall have: ``join_runs(sgd=a, adam=b)``.

    Raises
    ------
    InvalidArgument
        No run, or runs that disagree on what a parameter is.
    """
    if not runs:
        raise InvalidArgument("join_runs needs at least one run: join_runs(sgd=open_run(...), adam=open_run(...))")
    labels = list(runs)
    held = {label: _groups(run) for label, run in runs.items()}
    joined: dict[str, xr.Dataset] = {}
    slugs: dict[str, str] = {}
    left_out = []
    for number, key in enumerate(dict.fromkeys(key for groups in held.values() for key in groups)):
        present = {label: groups[key] for label, groups in held.items() if key in groups}
        about = next(iter(present.values())).attrs.get(schema.ATTRIBUTES)
        path = f"/{schema.WEIGHTS}/{slug(about['path'], number)}" if about else key
        if not _same_lengths(list(present.values())):
            left_out.append(key)
            continue
        joined[path] = _concat(present, labels)
        slugs |= {name: path.rpartition("/")[2] for name in (about["names"] if about else ())}
    joined[f"/{schema.PARAMETERS}"] = _table(runs, slugs)
    attributes = {schema.ATTRIBUTES: {label: run.attrs.get(schema.ATTRIBUTES, {}) for label, run in runs.items()}}
    joined["/"] = xr.Dataset(attrs={**attributes, "left_out": left_out})
    return xr.DataTree.from_dict(joined)


def split_runs(run: xr.DataTree) -> dict[str, xr.DataTree]:
    """Undo `join_runs`: each run by its label, with only the rows and parameters that it has."""
    table = run[schema.PARAMETERS].to_dataset(inherit=False)
    parts = {}
    for label in table[schema.RUN].values:
        datasets = {node.path: _one(node.to_dataset(inherit=False), label) for node in run.subtree}
        attributes = run.attrs.get(schema.ATTRIBUTES, {}).get(str(label), {})
        datasets["/"] = xr.Dataset(attrs={schema.ATTRIBUTES: attributes})
        kept = {path: one for path, one in datasets.items() if one.sizes.get(schema.STEP) != 0}
        parts[str(label)] = xr.DataTree.from_dict(kept)
    return parts


def _groups(run: xr.DataTree) -> dict[str, xr.Dataset]:
    """Groups of a run, chunked, each by what makes it the same group in another run.

    That is its path; weights go by their first parameter, since the number in a slug depends on the rest of the model.
    """
    groups: dict[str, xr.Dataset] = {}
    for node in run.subtree:
        if node.has_data and node.path != f"/{schema.PARAMETERS}":
            group = node.to_dataset(inherit=False).chunk()
            about = group.attrs.get(schema.ATTRIBUTES)
            groups[about["names"][0] if about else node.path] = group
    return groups


def _same_lengths(present: list[xr.Dataset]) -> bool:
    """Whether the axes without labels, those of the weights themselves, agree."""
    bare = [
        {dim: size for dim, size in one.sizes.items() if dim not in one.indexes and dim != schema.GROUP}
        for one in present
    ]
    return all(sizes == bare[0] for sizes in bare)


def _concat(present: dict[str, xr.Dataset], labels: list[str]) -> xr.Dataset:
    datasets = list(present.values())
    if any(schema.GROUP in one.dims for one in datasets):  # groups are numbered, not labelled: number them
        datasets = [one.assign_coords({schema.GROUP: np.arange(one.sizes.get(schema.GROUP, 0))}) for one in datasets]
    index = xr.IndexVariable(schema.RUN, np.array(list(present), dtype=np.str_))
    joined = xr.concat(
        datasets, index, join="outer", data_vars="all", coords="minimal", compat="override", combine_attrs="override"
    )
    return joined.reindex({schema.RUN: labels})


def _table(runs: dict[str, xr.DataTree], slugs: dict[str, str]) -> xr.Dataset:
    """One table for all runs: what may differ has a dimension `run`, the address of a parameter has none."""
    tables = {label: parameters(run) for label, run in runs.items()}
    names = list(dict.fromkeys(str(name) for table in tables.values() for name in table[schema.PARAMETER].values))
    for column in ADDRESS_COORDINATES:
        _agree(list(tables.values()), column)
    apart = [_filled(table, names).assign({PRESENT: _present(table, names)}) for table in tables.values()]
    index = xr.IndexVariable(schema.RUN, np.array(list(runs), dtype=np.str_))
    joined = xr.concat([table[[*_DIFFERING, PRESENT]] for table in apart], index)
    common = {
        str(column): _first(list(tables.values()), str(column), names)
        for column in apart[0].data_vars
        if column not in (*_DIFFERING, PRESENT)
    }
    held = np.array([slugs.get(name, "") for name in names], dtype=np.str_)
    return joined.assign(common).assign({schema.WEIGHTS: (schema.PARAMETER, held)})


def _present(table: xr.Dataset, names: list[str]) -> xr.DataArray:
    return xr.DataArray(np.isin(names, table[schema.PARAMETER].values), dims=schema.PARAMETER)


def _filled(table: xr.Dataset, names: list[str]) -> xr.Dataset:
    fills: dict[str, object] = {str(name): _fill(values.dtype) for name, values in table.data_vars.items()}
    return table.reindex({schema.PARAMETER: names}, fill_value=fills)


def _fill(dtype: np.dtype[np.generic]) -> object:
    return "" if dtype.kind in "UO" else False if dtype.kind == "b" else dtype.type(-1)


def _first(tables: list[xr.Dataset], column: str, names: list[str]) -> xr.DataArray:
    """Values of a column, each from the first run that has the parameter."""
    known = {name: value for table in reversed(tables) for name, value in _pairs(table, column)}
    return xr.DataArray(np.array([known[name] for name in names]), dims=schema.PARAMETER)


def _pairs(table: xr.Dataset, column: str) -> list[tuple[str, object]]:
    return list(zip(table[schema.PARAMETER].values.tolist(), table[column].values.tolist(), strict=True))


def _agree(tables: list[xr.Dataset], column: str) -> None:
    known: dict[str, object] = {}
    for table in tables:
        for name, value in _pairs(table, column):
            if known.setdefault(name, value) != value:
                raise InvalidArgument(
                    f"The runs disagree on what {name} is: {column} {known[name]!r} in one, {value!r} in another. "
                    f"Join runs of one architecture"
                )


def _one(dataset: xr.Dataset, label: str) -> xr.Dataset:
    """One run's share; joining padded with NaN what it lacks, and `attempt` and `present` tell what it has."""
    if schema.RUN not in dataset.dims:
        return dataset
    one = dataset.sel({schema.RUN: label}, drop=True)
    if PRESENT in one:
        return one.isel({schema.PARAMETER: np.flatnonzero(one[PRESENT].values)}).drop_vars(PRESENT)
    if schema.ATTEMPT in one.variables:
        return one.isel({schema.STEP: np.flatnonzero(one[schema.ATTEMPT].notnull().values)})
    return one
