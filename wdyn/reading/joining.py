"""How do several runs become one, with a dimension `run`, and how does each come out again?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute, optimize

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.naming import slug
from wdyn.reading.joined_tables import join_parts, join_tables, renumbered, split_table, union
from wdyn.reading.tables import dataset, parameters

_Key = tuple[object, ...]

_SMALL = 2**24  # bytes of one group of one run
_TABLES = (f"/{schema.PARAMETERS}", f"/{schema.PARTS}")
_HISTOGRAM_ROWS = 16  # of a histogram in one piece


def join_runs(**runs: xr.DataTree) -> xr.DataTree:
    """Join runs along a new dimension ``run``, labelled with the names given here; stays lazy through dask.

    Rows, layers, parameters and groups that only some runs have are NaN in the others. ``states/shares_with`` counts
    in the joined table. An array of weights that has another shape in another run cannot be joined and is left out; the
    attribute ``left_out`` names it.

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
    tables = {label: parameters(run) for label, run in runs.items()}
    parts = {label: dataset(run, schema.PARTS).load() for label, run in runs.items() if schema.PARTS in run.children}
    names, labels = union(tables.values()), union(parts.values(), schema.PART)
    held = {label: _groups(run, tables[label], names, labels) for label, run in runs.items()}
    joined: dict[str, xr.Dataset] = {}
    slugs: dict[str, str] = {}
    left_out = []
    for number, key in enumerate(dict.fromkeys(key for groups in held.values() for key in groups)):
        present = {label: groups[key] for label, groups in held.items() if key in groups}
        about = _about(list(present.values()))
        if not _same_axes(list(present.values())):
            left_out.append(str(about["path"] if about else key[0]))
            continue
        path = f"/{schema.WEIGHTS}/{slug(about['path'], number)}" if about else str(key[0])
        whole = _concat(present, list(runs))
        joined[path] = whole.assign_attrs({schema.ATTRIBUTES: about}) if about else whole
        slugs |= {name: path.rpartition("/")[2] for name in (about["names"] if about else ())}
    joined[f"/{schema.PARAMETERS}"] = join_tables(tables, slugs)
    if parts:
        joined[f"/{schema.PARTS}"] = join_parts(parts, runs)
    attributes = {schema.ATTRIBUTES: {label: run.attrs.get(schema.ATTRIBUTES, {}) for label, run in runs.items()}}
    joined["/"] = xr.Dataset(attrs={**attributes, "left_out": left_out})
    return xr.DataTree.from_dict(joined)


def split_runs(run: xr.DataTree) -> dict[str, xr.DataTree]:
    """Undo `join_runs`: each run by its label, with only the rows, layers and parameters that it has."""
    table = run.children[schema.PARAMETERS].to_dataset(inherit=False)
    return {str(label): _split(run, table, str(label)) for label in table[schema.RUN].values}


def _settled(groups: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Read what is small at once, and free the rest of the tasks of other runs.

    Each read from a joined array walks all tasks of all runs: many small reads would take longer than the data.
    """
    small = {path: group for path, group in groups.items() if group.nbytes <= _SMALL}
    large = {path: group for path, group in groups.items() if path not in small}
    settled: dict[str, xr.Dataset] = {**compute(small)[0], **optimize(large)[0]}  # type: ignore[no-untyped-call]
    return {path: settled[path] for path in groups}


def _groups(run: xr.DataTree, table: xr.Dataset, names: Sequence[str], labels: Sequence[str]) -> dict[_Key, xr.Dataset]:
    """Groups of a run in dask arrays, each by what makes it the same group in another run.

    That is its path; weights go by the parameters that they hold, since the number in a slug depends on the rest of
    the model.
    """
    groups: dict[_Key, xr.Dataset] = {}
    seen: Counter[_Key] = Counter()
    for node in run.subtree:
        if not node.has_data or node.path in _TABLES:
            continue
        group = node.to_dataset()
        if schema.VALUE in group:
            about = group.attrs[schema.ATTRIBUTES]
            of = (about["path"], about["stack"]) if about["layers"] else (about["names"][0],)
            # One matrix a chunk: who goes through the layers one by one then reads each once.
            groups[*of, seen[of]] = group.chunk({schema.STEP: 1, **({schema.LAYER: 1} if about["layers"] else {})})
            seen[of] += 1
            continue
        binned = schema.BIN in group.dims
        # In pieces before anything else, or lining them up would read them all.
        group = group.chunk({schema.STEP: _HISTOGRAM_ROWS} if binned else {})
        for dim, known in ((schema.PARAMETER, names), (schema.PART, labels)):
            if dim in group.dims:
                group = group.reindex({dim: list(known)})
        if schema.SHARES_WITH in group:
            group = renumbered(group, before=table[schema.PARAMETER].values.tolist(), after=names)
        groups[(node.path,)] = group if binned else group.chunk(dict.fromkeys(group.dims, -1))
    return groups


def _about(groups: Sequence[xr.Dataset]) -> dict[str, Any] | None:
    """Tell what an array of weights holds in any of the runs; None for other groups."""
    known = [group.attrs[schema.ATTRIBUTES] for group in groups if schema.VALUE in group]
    if not known or not known[0]["layers"]:
        return dict(known[0]) if known else None
    name_of = {layer: name for about in known for layer, name in zip(about["layers"], about["names"], strict=True)}
    layers = sorted(name_of)
    return {**known[0], "layers": layers, "names": [name_of[layer] for layer in layers]}


def _same_axes(present: Sequence[xr.Dataset]) -> bool:
    """Whether the axes agree: all by name, those without labels, the weights' own, by length."""
    axes = [
        {dim: 0 if dim in one.indexes or dim == schema.GROUP else size for dim, size in one.sizes.items()}
        for one in present
    ]
    return not any(schema.VALUE in one for one in present) or all(own == axes[0] for own in axes)


def _concat(present: Mapping[str, xr.Dataset], labels: Sequence[str]) -> xr.Dataset:
    datasets = list(present.values())
    if any(schema.GROUP in one.dims for one in datasets):  # groups are numbered, not labelled: number them
        datasets = [one.assign_coords({schema.GROUP: np.arange(one.sizes.get(schema.GROUP, 0))}) for one in datasets]
    index = xr.IndexVariable(schema.RUN, np.array(list(present), dtype=np.str_))
    # `attempt` must not be taken from the first run: it tells which rows each of them has.
    apart: list[str] = [schema.ATTEMPT] if all(schema.ATTEMPT in one.coords for one in datasets) else []
    joined = xr.concat(
        datasets, index, join="outer", data_vars="all", coords=apart, compat="override", combine_attrs="override"
    )
    return joined.reindex({schema.RUN: list(labels)})


def _split(run: xr.DataTree, table: xr.Dataset, label: str) -> xr.DataTree:
    own = split_table(table, label)
    names = own[schema.PARAMETER].values.tolist()
    tables = {f"/{schema.PARAMETERS}": own}
    labels = []
    if schema.PARTS in run.children:
        of_parts = split_table(run.children[schema.PARTS].to_dataset(inherit=False), label, schema.PART)
        labels = of_parts[schema.PART].values.tolist()
        tables |= {f"/{schema.PARTS}": of_parts} if labels else {}
    groups = {
        node.path: _one(node.to_dataset(), label, names, labels)
        for node in run.subtree
        if node.has_data and node.path not in _TABLES
    }
    for path, group in groups.items():
        if schema.SHARES_WITH in group:
            groups[path] = renumbered(group, before=table[schema.PARAMETER].values.tolist(), after=names)
    kept = _settled({path: one for path, one in groups.items() if one.sizes.get(schema.STEP) != 0})
    attributes = {schema.ATTRIBUTES: run.attrs.get(schema.ATTRIBUTES, {}).get(label, {})}
    return xr.DataTree.from_dict({**kept, **tables, "/": xr.Dataset(attrs=attributes)})


def _one(group: xr.Dataset, label: str, names: Sequence[str], labels: Sequence[str]) -> xr.Dataset:
    """One run's share of a group; joining padded with NaN what it lacks, and `attempt` tells what rows it has."""
    if schema.RUN not in group.dims:
        return group
    one = group.sel({schema.RUN: label}, drop=True)
    if schema.GROUP in one.dims:
        one = one.drop_vars(schema.GROUP)
    if schema.ATTEMPT in one.variables:
        rows = np.flatnonzero(one[schema.ATTEMPT].notnull().values)
        one = one.isel({schema.STEP: rows}).assign_coords({schema.ATTEMPT: one[schema.ATTEMPT][rows].astype(np.int64)})
    for dim, own in ((schema.PARAMETER, names), (schema.PART, labels)):
        if dim in one.dims:
            one = one.sel({dim: own})
    about = one.attrs.get(schema.ATTRIBUTES) if schema.VALUE in one else None
    if about and about["layers"]:
        layers = [at for at, name in zip(about["layers"], about["names"], strict=True) if name in names]
        held = [name for name in about["names"] if name in names]
        one = one.sel({schema.LAYER: layers})
        one = one.assign_attrs({schema.ATTRIBUTES: {**about, "layers": layers, "names": held}})
    return one
