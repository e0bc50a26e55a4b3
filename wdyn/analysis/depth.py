"""Do the layers widen alike, or does growth depend on depth?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import depth_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.inputs import states_or_none, statistics_or_none, stored_weights
from wdyn.analysis.layers import half_step, log_slope, rank_correlation
from wdyn.analysis.skipping import skip
from wdyn.reading.parts import take_part
from wdyn.reading.tables import parameters
from wdyn.schema import Kind, Role, parts_from_json

Floats = npt.NDArray[np.float64]
Key = tuple[str, str, int]
"""(stack, role, layer)"""

_ORDER = [str(role) for role in Role]


@dataclass(frozen=True)
class _Series:
    """Spread over time of all values of one role in one layer: steps, count, mean and std, each (step,)."""

    steps: npt.NDArray[np.int64]
    count: Floats
    mean: Floats
    std: Floats


@analyzer(
    family="DEP",
    question="Do the layers widen alike, or does growth depend on depth?",
    check=depth_check.check,
    codes=depth_check.CODES,
)
def depth_growth(run: xr.DataTree) -> xr.Dataset:
    """Do the layers widen alike, or does growth depend on depth?

    Reads the statistics of every matrix that stands in a block; q, k, v and other parts of fused weights come from the
    snapshots, and so exist at fewer steps. Several matrices of one role in one layer (experts, say) are pooled.

    Returns
    -------
    Dataset
        Over ``step``, ``role`` and ``layer``; with ``stack`` too where blocks stand in several towers. NaN where a
        layer lacks a role, or nothing was recorded.

        - ``std`` : (step, role, layer), unitless. Population standard deviation of all values of the role in the layer.
        - ``growth`` : (step, role, layer), unitless. std / std at the first recorded step; NaN where that is 0.
        - ``change`` : (step, role, layer), unitless. std minus std at the first recorded step.
        - ``zero_start`` : (role, layer), bool. The first std is 0, so that only ``change`` tells.
        - ``slope`` : (step, role), 1/layer. Least-squares slope of log(growth) against layer; 0.1 means that each
          layer widens about 10 % more than the one before.
        - ``correlation`` : (step, role), -1 to 1. Spearman's rank correlation of growth with layer.
        - ``half_step`` : (role, layer), steps. Where |log(growth)| first passed half of its final value, between the
          recorded steps by a straight line; NaN for layers that hardly moved (1 %).
        - ``count`` : (role, layer). How many values the std is of; 0 where the layer lacks the role.
        - ``trainable`` : (role, layer), bool. One of its matrices was trainable at some recorded step.
        - ``source`` : (role), "statistics" or "snapshots".
    """
    series = _all_series(run)
    if not series:
        return skip(
            "no matrix stands in a numbered block, or no statistics of one were recorded",
            remedy="record a model with repeated blocks (see wdyn.describe(model)): wdyn.watch(..., every=10)",
        )
    std, count, source = _arrange(series)
    if std.sizes[schema.LAYER] < 2:
        return skip("only one layer was recorded", remedy="depth needs two blocks or more")
    result = xr.Dataset(
        {"std": std, **_growth(std), "count": count, "source": source, "trainable": _trainable(run, std)}
    )
    return result.squeeze("stack") if result.sizes["stack"] == 1 else result


def _all_series(run: xr.DataTree) -> dict[tuple[Key, str], _Series]:
    """Give the spread of each role in each layer, by where it was read."""
    table = _matrices(parameters(run))
    members: dict[tuple[Key, str], list[_Series]] = {}
    for source, found in (("statistics", _from_statistics(run, table)), ("snapshots", _from_snapshots(run, table))):
        for key, one in found:
            members.setdefault((key, source), []).append(one)
    return {key: _pooled(several) for key, several in members.items()}


def _matrices(table: xr.Dataset) -> xr.Dataset:
    """Keep the rows of weights that stand in a block."""
    return table.isel({schema.PARAMETER: (table["kind"] == Kind.WEIGHT).values & (table["layer"] >= 0).values})


def _from_statistics(run: xr.DataTree, table: xr.Dataset) -> Iterator[tuple[Key, _Series]]:
    recorded = statistics_or_none(run)
    if recorded is None:
        return
    read = recorded[["count", "nonfinite", "mean", "std"]].transpose(schema.STEP, schema.PARAMETER).load()
    steps = read[schema.STEP].values
    for name, key in _keys(table):
        if name in read.indexes[schema.PARAMETER]:
            one = read.sel({schema.PARAMETER: name})
            if one["std"].notnull().any():
                count = (one["count"] - one["nonfinite"]).values
                yield key, _Series(steps, count, one["mean"].values, one["std"].values)


def _from_snapshots(run: xr.DataTree, table: xr.Dataset) -> Iterator[tuple[Key, _Series]]:
    """Give the parts of fused weights, one matrix in memory at a time."""
    weights = stored_weights(run)
    parts = table["parts"].to_series()
    for name, (stack, _, layer) in _keys(table):
        fused = parts_from_json(parts[name])
        if fused is None or name not in weights:
            continue
        values = weights[name]
        dims = tuple(str(dim) for dim in values.dims if dim != schema.STEP)
        for part in fused.names:
            yield (stack, part, layer), _measured(take_part(values, fused, part, weight_dims=dims))


def _measured(values: xr.DataArray) -> _Series:
    rows = [_moments(values.isel({schema.STEP: at}).values) for at in range(values.sizes[schema.STEP])]
    count, mean, std = np.array(rows, dtype=np.float64).T
    return _Series(values[schema.STEP].values, count, mean, std)


def _moments(values: npt.NDArray[np.generic]) -> tuple[float, float, float]:
    """Count, mean and population std of the finite values, in float64, as the recorded statistics are."""
    exact = values.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    return (finite.size, float(finite.mean()), float(finite.std())) if finite.size else (0, np.nan, np.nan)


def _keys(table: xr.Dataset) -> list[tuple[str, Key]]:
    columns = (table[column].values.tolist() for column in (schema.PARAMETER, "stack", "role", "layer"))
    return [(name, (stack, role, layer)) for name, stack, role, layer in zip(*columns, strict=True)]


def _pooled(several: list[_Series]) -> _Series:
    """Merge the moments of several matrices exactly (Chan, Golub and LeVeque 1983)."""
    if len(several) == 1:
        return several[0]
    steps = np.unique(np.concatenate([one.steps for one in several]))
    count, mean, std = (
        np.stack([_on(steps, one.steps, getattr(one, name)) for one in several]) for name in ("count", "mean", "std")
    )
    total = count.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (count * mean).sum(axis=0) / total
        variance = (count * (std**2 + (mean - centre) ** 2)).sum(axis=0) / total
    return _Series(steps, total, centre, np.sqrt(variance))


def _on(steps: npt.NDArray[np.int64], have: npt.NDArray[np.int64], values: Floats) -> Floats:
    placed = np.full(len(steps), np.nan)
    placed[np.searchsorted(steps, have)] = values
    return placed


def _arrange(series: Mapping[tuple[Key, str], _Series]) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Lay std out as (stack, step, role, layer), with the count of values and where each role was read."""
    sources = {role: source for (_, role, _), source in series}
    roles = sorted(sources, key=lambda role: (_ORDER.index(role) if role in _ORDER else len(_ORDER), role))
    stacks = list(dict.fromkeys(stack for (stack, _, _), _ in series))
    layers = sorted({layer for (_, _, layer), _ in series})
    steps = np.unique(np.concatenate([one.steps for one in series.values()]))
    values = np.full((len(stacks), len(steps), len(roles), len(layers)), np.nan)
    counts = np.zeros((len(stacks), len(roles), len(layers)))
    for ((stack, role, layer), source), one in series.items():
        if source == sources[role]:  # a role that is fused in some layers only is shown from the snapshots
            at = stacks.index(stack), roles.index(role), layers.index(layer)
            values[at[0], :, at[1], at[2]] = _on(steps, one.steps, one.std)
            counts[at] = np.nanmax(one.count)
    coordinates = {"stack": stacks, schema.STEP: steps, "role": roles, schema.LAYER: layers}
    std = xr.DataArray(values, coordinates, dims=list(coordinates))
    count = std.isel({schema.STEP: 0}, drop=True).copy(data=counts)
    return std, count, xr.DataArray([sources[role] for role in roles], {"role": roles}, dims="role")


def _trainable(run: xr.DataTree, std: xr.DataArray) -> xr.DataArray:
    table, states = parameters(run), states_or_none(run)
    ever = table["trainable"].to_series().astype(bool)
    if states is not None:
        thawed = (states[schema.TRAINABLE] > 0).any(schema.STEP).to_series()
        ever |= thawed.reindex(ever.index, fill_value=False)
    trains = xr.zeros_like(std.isel({schema.STEP: 0}, drop=True), dtype=bool)
    parts = table["parts"].to_series()
    for name, (stack, role, layer) in _keys(_matrices(table)):
        fused = parts_from_json(parts[name])
        for one in (role, *(fused.names if fused else ())):
            if ever[name] and one in trains["role"]:
                trains.loc[{"stack": stack, "role": one, schema.LAYER: layer}] = True
    return trains


def _growth(std: xr.DataArray) -> dict[str, xr.DataArray]:
    first = std.isel({schema.STEP: std.notnull().argmax(schema.STEP)}).drop_vars(schema.STEP)
    growth = std / first.where(first > 0)
    return {
        "growth": growth,
        "change": std - first,
        "zero_start": first == 0,
        "slope": _over_layers(log_slope, growth),
        "correlation": _over_layers(rank_correlation, growth),
        "half_step": xr.apply_ufunc(
            half_step, growth, std[schema.STEP], input_core_dims=[[schema.STEP], [schema.STEP]], vectorize=True
        ),
    }


def _over_layers(kernel: Callable[..., float], growth: xr.DataArray) -> xr.DataArray:
    core = [[schema.LAYER], [schema.LAYER]]
    fitted: xr.DataArray = xr.apply_ufunc(kernel, growth, growth[schema.LAYER], input_core_dims=core, vectorize=True)
    return fitted
