"""Where in the run are the weights that a person names by role, path, layer and step?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import AmbiguousSelection, NoMatch
from wdyn.naming import examples
from wdyn.reading.matching import Table, Wanted, matching
from wdyn.reading.parts import split_heads, take_part
from wdyn.reading.tables import dataset, no_snapshot, of_one
from wdyn.reading.unread import reordered
from wdyn.schema import Quantity, parts_from_json

Labels = int | Iterable[int] | None
_NOT_OF_A_WEIGHT = (schema.RUN, schema.STEP, schema.LAYER)
_ABOUT = ("role", "parts", "heads", "kv_heads", "head_dim")
"""Columns that tell how a weight comes apart."""


def select(
    run: xr.DataTree,
    quantity: str = Quantity.WEIGHTS,
    *,
    role: str | None = None,
    path: str | None = None,
    kind: str = "weight",
    stack: str | None = None,
    layer: Labels = None,
    step: Labels | slice = None,
    heads: bool = False,
) -> xr.DataArray:
    """Give the weights of one role or path as a labelled array, lazily.

    Parameters
    ----------
    run
        A run, or several joined.
    quantity
        Only ``weights`` are kept as arrays; see `statistics` for the rest.
    role, path, kind, stack
        What to look for. `role` also finds parts of fused weights: ``q`` in ``qkv``; of an adapted matrix it finds
        the matrix, and ``path="*q_proj.lora_A*"`` the factors of its adapter. `path` is a path, a full name,
        or a pattern with ``*`` where it is neither, of any kind.
    layer, step
        One, several, or all that were recorded; a single one drops its dimension.
    heads
        Split the axis that runs over heads into (head, head_dim): fan_out of q, k and v, fan_in of o.

    Returns
    -------
    DataArray
        (step, layer, fan_out, fan_in), also where the model stores (fan_in, fan_out). With `heads` it is
        (step, layer, head, head_dim, fan_in), and of o (step, layer, fan_out, head, head_dim). The ``layer`` coordinate
        lists the layers that have the role; ``parameter`` beside it gives their full names.

    Raises
    ------
    NoMatch, AmbiguousSelection
        Nothing fits, or several arrays do; the message lists them.
    StepNotRecorded
        No snapshot was taken at `step`; the message names the nearest.
    """
    if quantity != Quantity.WEIGHTS:
        raise NoMatch(f"Arrays are kept of weights only, not of {quantity!r}; see wdyn.statistics(run, {quantity!r})")
    table = of_one(dataset(run, schema.PARAMETERS)).variables
    layer, step = _labels(layer), step if isinstance(step, slice) else _labels(step)
    rows = matching(table, Wanted(role, path, kind, stack, layer))
    values = _array(run, _holders(table, rows), step)
    about = {name: table[name].values[rows[0]] for name in _ABOUT}
    meant = role or str(about["role"])
    if meant != about["role"]:
        values = _part(values, about, meant)
    values = _conventional(values)
    if heads:
        values = _heads(values, about, meant)
    return _at_step(_at_layer(values, layer), step)


def _labels(wanted: Labels) -> int | list[int] | None:
    """Read one label or several, of whatever kind of number and collection."""
    if wanted is None or isinstance(wanted, int | np.integer):
        return None if wanted is None else int(wanted)
    return [int(one) for one in wanted]


def _holders(table: Table, rows: npt.NDArray[np.intp]) -> set[str]:
    """Give the names under which the values of these parameters were kept: of a tied one, that of its leader."""
    columns = (table[name].values[rows].tolist() for name in (schema.PARAMETER, schema.WEIGHTS, "tied_to"))
    return {name if slug or not leader else leader for name, slug, leader in zip(*columns, strict=True)}


def _array(run: xr.DataTree, holders: set[str], step: int | list[int] | slice | None) -> xr.DataArray:
    """Find the one array that holds the values of these parameters."""
    groups = run.children[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}
    held = [name for name, node in groups.items() if holders & set(node.attrs[schema.ATTRIBUTES]["names"])]
    if len(held) > 1 and isinstance(step, int):
        held = [name for name in held if step in groups[name].to_dataset()[schema.STEP].values] or held
    if not held:
        raise NoMatch(f"No weights were kept of {examples(sorted(holders))}. Keep them with watch(..., snapshots=...)")
    if len(held) > 1:
        about = [groups[name].attrs[schema.ATTRIBUTES] for name in held]
        raise AmbiguousSelection(
            f"{len(held)} arrays fit: {'; '.join(_told(one) for one in about)}. "
            f"Say which with path=, stack=, layer= or step=, as in select(run, path={about[0]['path']!r})"
        )
    values = _named(dataset(run, f"{schema.WEIGHTS}/{held[0]}"))
    if schema.LAYER not in values.dims:
        return values
    kept = [at for at, name in enumerate(values[schema.PARAMETER].values.tolist()) if name in holders]
    unbroken = kept[-1] - kept[0] + 1 == len(kept)  # as a range, which is quicker to read than a list
    return values.isel({schema.LAYER: slice(kept[0], kept[-1] + 1) if unbroken else kept})


def _told(about: dict[str, object]) -> str:
    return (
        f"{about['path']} (stack {about['stack']}, layers {about['layers']}, shape {about['shape']}, {about['dtype']})"
    )


def _named(group: xr.Dataset) -> xr.DataArray:
    """Give the values of a group with the names of the parameters beside its layers."""
    values = group[schema.VALUE].copy(deep=False)
    names = np.array(group.attrs[schema.ATTRIBUTES]["names"], dtype=np.str_)
    beside = xr.Variable(schema.LAYER, names) if schema.LAYER in values.dims else xr.Variable((), names[0])
    coordinates = {**values.coords.variables, schema.PARAMETER: beside}
    # xarray's own shortcut: `assign_coords` lines up what fits, and takes longer than all else that is done here.
    return xr.DataArray(values.variable, coordinates, name=values.name, indexes=dict(values.xindexes), fastpath=True)


def _part(values: xr.DataArray, about: Mapping[str, Any], role: str) -> xr.DataArray:
    parts = parts_from_json(str(about["parts"]))
    assert parts is not None  # `matching` found the role among them
    weight_dims = tuple(str(dim) for dim in values.dims if dim not in _NOT_OF_A_WEIGHT)
    return take_part(values, parts, role, weight_dims=weight_dims).assign_attrs(part=role)


def _heads(values: xr.DataArray, about: Mapping[str, Any], role: str) -> xr.DataArray:
    of_keys = role.removeprefix("cross_") in ("k", "v")
    count = int(about["kv_heads" if of_keys else "heads"]) or int(about["heads"])
    return split_heads(values, role=role, heads=count, head_dim=int(about["head_dim"]))


def _conventional(values: xr.DataArray) -> xr.DataArray:
    """Put fan_out before fan_in, where the two stand the other way round."""
    dims = list(values.dims)
    if schema.FAN_OUT in dims and schema.FAN_IN in dims:
        out, into = dims.index(schema.FAN_OUT), dims.index(schema.FAN_IN)
        if into < out:
            dims[out], dims[into] = dims[into], dims[out]
            return reordered(values, *map(str, dims))
    return values


def _at_layer(values: xr.DataArray, layer: int | list[int] | None) -> xr.DataArray:
    if layer is None or schema.LAYER not in values.dims:
        return values
    have = values[schema.LAYER].values.tolist()
    missing = [one for one in np.atleast_1d(layer).tolist() if one not in have]
    if missing:
        raise NoMatch(f"No layer {missing} here; the layers that have this weight: {have}")
    return values.sel({schema.LAYER: layer})


def _at_step(values: xr.DataArray, step: int | list[int] | slice | None) -> xr.DataArray:
    if step is None:
        return values
    have = values[schema.STEP].values.tolist()
    for one in () if isinstance(step, slice) else np.atleast_1d(step).tolist():
        if one not in have:
            raise no_snapshot(one, have=have)
    return values.sel({schema.STEP: step})
