"""Which parameters does a run have, and what was measured of each, or of its parts, at every recorded step?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.errors import InvalidArgument, NoMatch, StepNotRecorded
from wdyn.reading.matching import Wanted, matching

ADDRESS_COORDINATES = ("path", "role", "kind", "stack", "layer")
HISTOGRAM = "histogram"


def parameters(run: xr.DataTree) -> xr.Dataset:
    """Give the table of parameters, tied names too.

    Returns
    -------
    Dataset
        Over ``parameter`` (full names): ``path role kind stack`` (text), ``layer`` (-1 outside blocks), ``shape`` and
        ``dims`` (JSON lists), ``dtype``, ``numel``, ``trainable``, ``tied_to`` ("" or the name it shares its storage
        with), ``in_optimizer``, ``group`` (-1 none), ``module``, ``parts`` (JSON, "" if not fused), ``heads``,
        ``kv_heads``, ``head_dim`` (0 unknown), ``weights`` (its array under ``weights/``).
    """
    return dataset(run, schema.PARAMETERS).load()


def statistics(
    run: xr.DataTree,
    quantity: str = schema.Quantity.WEIGHTS,
    *,
    parts: bool = False,
    histogram: bool = False,
    role: str | None = None,
    path: str | None = None,
    kind: str | None = None,
    stack: str | None = None,
    layer: int | Iterable[int] | None = None,
) -> xr.Dataset:
    """Give every recorded statistic of a quantity, labelled with the address of each parameter; lazily.

    Parameters
    ----------
    run
        A run, or several joined.
    quantity
        ``weights``, ``updates``, ``gradients``, ``displacement``, or a tensor of the optimizer: ``exp_avg``.
    parts
        Of each part of fused weights (q, k and v; gate and up; experts; heads, where they were asked for) instead of
        each parameter.
    histogram
        Add the variable ``histogram`` (step, parameter, bin) with the edges of its bins, ``lower`` and ``upper``. It
        holds some two thousand numbers where a statistic holds one: select before you load it.
    role, path, kind, stack, layer
        What to look for, in the words of `select`; by default everything. With `parts`, a role is that of a part, or
        that of the whole: ``q`` or ``qkv``.

    Returns
    -------
    Dataset
        ``mean std rms min max abs_max l1 l2 skewness kurtosis`` and the counts ``count zeros nonfinite nans infs``,
        each (step, parameter), NaN where not recorded; coordinates ``path role kind stack layer`` over parameter.
        std is the population's; kurtosis is 3 for a normal distribution.

        With `parts` (step, part), and the coordinates ``parameter name role expert head`` (-1: none) over part, beside
        ``path kind stack layer`` of the parameter. Rows by parameter and name::

            statistics(run, parts=True).set_index(part=["parameter", "name"]).unstack("part")

    Raises
    ------
    NoMatch
        The quantity, its histograms or its parts were not recorded, or nothing fits; the message tells what is there.
    """
    dim, prefix = (schema.PART, f"{schema.PARTS}/") if parts else (schema.PARAMETER, "")
    values = dataset(run, _group(run, f"{prefix}{schema.STATISTICS}", quantity))
    if histogram:
        values = _with_histogram(values, dataset(run, _group(run, f"{prefix}{schema.HISTOGRAMS}", quantity)), dim)
    layers = layer if layer is None or isinstance(layer, int) else [int(one) for one in layer]
    wanted = Wanted(role, path, kind, stack, layers, fused=False)
    table = dataset(run, schema.PARAMETERS)  # of which few columns are asked for
    return _parts(run, values, table, wanted) if parts else _parameters(values, table, wanted)


def check_run(run: object) -> None:
    """Refuse what is no opened run, such as its path.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    if not isinstance(run, xr.DataTree):
        raise InvalidArgument(f"Needed is an opened run, not {run!r}; open it with wdyn.open_run(path)")


def dataset(run: xr.DataTree, group: str) -> xr.Dataset:
    """Give one group of a run as a Dataset of its own.

    Raises
    ------
    InvalidArgument
        It is no run, but the path of one, say.
    NoMatch
        The run has no such group.
    """
    check_run(run)
    try:
        node = run[group]
    except KeyError as error:
        raise NoMatch(f"This run has no group {group!r}; it has: {', '.join(map(str, run.children))}") from error
    if not isinstance(node, xr.DataTree):
        raise NoMatch(f"{group!r} is an array, not a group of a run")
    return node.to_dataset()  # with the labels of a table above it, which stand nowhere else in the tree


def with_addresses(values: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Label columns with ``path role kind stack layer`` of the parameters that they are of."""
    own = table[list(ADDRESS_COORDINATES)].load().sel({schema.PARAMETER: values[schema.PARAMETER]})
    return values.assign_coords({name: own[name].variable for name in ADDRESS_COORDINATES})


def recorded(run: xr.DataTree, groups: str) -> dict[str, str]:
    """Give the group of each quantity below `groups`, such as ``statistics``, by the quantity's true name."""
    check_run(run)
    try:
        children = run[groups].children
    except KeyError:
        return {}
    return {
        str(node.attrs.get(schema.ATTRIBUTES, {}).get("quantity", name)): f"{groups}/{name}"
        for name, node in children.items()
    }


def no_snapshot(step: int, *, have: Iterable[int]) -> StepNotRecorded:
    """Make the error for a step at which no snapshot was taken; it names the nearest ones."""
    nearest = sorted(sorted(have, key=lambda at: abs(at - step))[:3])
    return StepNotRecorded(f"No snapshot at step {step}; the nearest are at {', '.join(map(str, nearest))}")


def _group(run: xr.DataTree, groups: str, quantity: str) -> str:
    found = recorded(run, groups)
    if quantity not in found:
        what = groups.replace("/", " and ")
        raise NoMatch(
            f"No {what} of {str(quantity)!r} in this run; it has: {', '.join(found) or 'none'}. "
            f"Record them with watch(..., what=({str(quantity)!r},))"
        )
    return found[quantity]


def _with_histogram(values: xr.Dataset, histograms: xr.Dataset, dim: str) -> xr.Dataset:
    counts = histograms[schema.COUNTED]
    for along in (schema.STEP, dim):
        if not counts.indexes[along].equals(values.indexes[along]):
            # In pieces, since it would all be read otherwise.
            counts = counts.chunk({schema.STEP: 1}).reindex({along: values[along]})
    return values.assign({HISTOGRAM: counts.drop_vars(schema.ATTEMPT, errors="ignore")})


def _parameters(values: xr.Dataset, table: xr.Dataset, wanted: Wanted) -> xr.Dataset:
    labelled = with_addresses(values, table)
    if wanted.anything:
        return labelled
    own = table.sel({schema.PARAMETER: values[schema.PARAMETER]})
    return labelled.isel({schema.PARAMETER: matching(of_one(own).variables, wanted)})


def _parts(run: xr.DataTree, values: xr.Dataset, table: xr.Dataset, wanted: Wanted) -> xr.Dataset:
    own = dataset(run, schema.PARTS).load().sel({schema.PART: values[schema.PART]})
    whole = table.sel({schema.PARAMETER: own[schema.PARAMETER].values})
    address = {name: (schema.PART, whole[name].values) for name in ADDRESS_COORDINATES if name != "role"}
    labelled = values.assign_coords({**address, **{name: its.variable for name, its in own.items() if its.ndim == 1}})
    if wanted.anything:
        return labelled
    fitting = matching(of_one(table).variables, replace(wanted, role=None))
    fits = np.isin(own[schema.PARAMETER].values, table[schema.PARAMETER].values[fitting])
    if wanted.role is not None:
        fits &= (own["role"].values == wanted.role) | (whole["role"].values == wanted.role)
    if not fits.any():
        roles = sorted({*own["role"].values.tolist(), *whole["role"].values.tolist()})
        raise NoMatch(f"No part of a parameter fits. Roles of parts, and of what has parts: {', '.join(roles)}")
    return labelled.isel({schema.PART: np.flatnonzero(fits)})


def of_one(table: xr.Dataset) -> xr.Dataset:
    """The table of one of the runs, where several are joined; the addresses are the same in all."""
    return table.isel({schema.RUN: 0}) if schema.RUN in table.dims else table
