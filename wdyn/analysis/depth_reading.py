"""How wide is each role in each layer, step by step? From the statistics, or else from the snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.distribution_reading import parts_in_use
from wdyn.analysis.inputs import statistics_or_none, stored_weights
from wdyn.errors import NoMatch
from wdyn.reading.parts import take_part
from wdyn.reading.tables import parameters, statistics
from wdyn.schema import Kind, parts_from_json

Floats = npt.NDArray[np.float64]
Key = tuple[str, str, int]
"""(stack, role, layer)"""

Found = tuple[str, Key, "Series"]
"""A parameter, what it or a part of it is, and how wide that is."""

STATISTICS, SNAPSHOTS = "statistics", "snapshots"
_READ = ("count", "nonfinite", "mean", "std")


@dataclass(frozen=True)
class Series:
    """Spread over time of all values of one role in one layer: steps, count, mean and std, each (step,)."""

    steps: npt.NDArray[np.int64]
    count: Floats
    mean: Floats
    std: Floats

    @property
    def norm(self) -> Floats:
        """The Frobenius norm, (step,)."""
        length: Floats = np.sqrt(self.count * (self.mean**2 + self.std**2))
        return length


def all_series(run: xr.DataTree) -> tuple[dict[tuple[Key, str], Series], dict[Key, set[str]]]:
    """Give the spread of each role in each layer, by where it was read, and the parameters that it is of."""
    table = _matrices(parameters(run))
    divided = _recorded_parts(run)
    members: dict[tuple[Key, str], list[Series]] = {}
    owners: dict[Key, set[str]] = {}
    for source, found in (
        (STATISTICS, _from_statistics(run, table)),
        (STATISTICS, _from_parts(divided)),
        (SNAPSHOTS, _from_snapshots(run, table, divided)),
    ):
        for name, key, one in found:
            members.setdefault((key, source), []).append(one)
            owners.setdefault(key, set()).add(name)
    return {key: _pooled(several) for key, several in members.items()}, owners


def _matrices(table: xr.Dataset) -> xr.Dataset:
    """Keep the rows of weights that stand in a block."""
    return table.isel({schema.PARAMETER: (table["kind"] == Kind.WEIGHT).values & (table["layer"] >= 0).values})


def _from_statistics(run: xr.DataTree, table: xr.Dataset) -> Iterator[Found]:
    recorded = statistics_or_none(run)
    if recorded is None:
        return
    read = recorded[list(_READ)].transpose(schema.STEP, schema.PARAMETER)
    columns = read.get_index(schema.PARAMETER).get_indexer(table.get_index(schema.PARAMETER)).tolist()
    yield from _series_of(read, [(name, key, at) for (name, key), at in zip(_keys(table), columns, strict=True)])


def _series_of(read: xr.Dataset, wanted: Iterable[tuple[str, Key, int]]) -> Iterator[Found]:
    """Take columns of the statistics (step, column) apart; -1, and of what nothing was recorded, is left out."""
    steps, values = read[schema.STEP].values, {name: read[name].values for name in _READ}
    for name, key, at in wanted:
        count, nonfinite, mean, std = (values[statistic][:, at] for statistic in _READ)
        if at >= 0 and not np.isnan(std).all():
            yield name, key, Series(steps, count - nonfinite, mean, std)


def _recorded_parts(run: xr.DataTree) -> xr.Dataset | None:
    """Read the statistics of q, k, v and other parts of what stands in a block; ``None`` where none were recorded."""
    try:
        recorded = statistics(run, parts=True)
    except NoMatch:
        return None
    used = parts_in_use(recorded, run)
    inside = used[recorded["layer"].values[used] >= 0]
    return recorded[list(_READ)].isel({schema.PART: inside}).transpose(schema.STEP, schema.PART).load()


def _from_parts(divided: xr.Dataset | None) -> Iterator[Found]:
    if divided is None:
        return
    columns = (divided[label].values.tolist() for label in (schema.PARAMETER, "stack", "role", "layer"))
    labelled = enumerate(zip(*columns, strict=True))
    yield from _series_of(divided, [(name, (stack, role, layer), at) for at, (name, stack, role, layer) in labelled])


def _undivided(run: xr.DataTree, table: xr.Dataset, divided: xr.Dataset | None) -> dict[str, schema.Parts]:
    """Give the fused weights whose parts only the snapshots tell."""
    told = set() if divided is None else set(divided[schema.PARAMETER].values.tolist())
    kept = stored_weights(run)
    texts = zip(table[schema.PARAMETER].values.tolist(), table["parts"].values, strict=True)
    split = {name: parts_from_json(text) for name, text in texts if name in kept and name not in told}
    return {name: parts for name, parts in split.items() if parts is not None}


def _from_snapshots(run: xr.DataTree, table: xr.Dataset, divided: xr.Dataset | None) -> Iterator[Found]:
    """Give the parts of fused weights, one matrix in memory at a time."""
    weights, known = stored_weights(run), dict(_keys(table))
    for name, fused in _undivided(run, table, divided).items():
        stack, _, layer = known[name]
        values = weights[name]
        dims = tuple(str(dim) for dim in values.dims if dim != schema.STEP)
        for part in fused.names:
            yield name, (stack, part, layer), _measured(take_part(values, fused, part, weight_dims=dims))


def _measured(values: xr.DataArray) -> Series:
    rows = [_moments(values.isel({schema.STEP: at}).values) for at in range(values.sizes[schema.STEP])]
    count, mean, std = np.array(rows, dtype=np.float64).T
    return Series(values[schema.STEP].values, count, mean, std)


def _moments(values: npt.NDArray[np.generic]) -> tuple[float, float, float]:
    """Count, mean and population std of the finite values, in float64, as the recorded statistics are."""
    exact = values.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    return (finite.size, float(finite.mean()), float(finite.std())) if finite.size else (0, np.nan, np.nan)


def _keys(table: xr.Dataset) -> list[tuple[str, Key]]:
    columns = (table[column].values.tolist() for column in (schema.PARAMETER, "stack", "role", "layer"))
    return [(name, (stack, role, layer)) for name, stack, role, layer in zip(*columns, strict=True)]


def _pooled(several: list[Series]) -> Series:
    """Merge the moments of several matrices exactly (Chan, Golub and LeVeque 1983)."""
    if len(several) == 1:
        return several[0]
    steps = np.unique(np.concatenate([one.steps for one in several]))
    count, mean, std = (
        np.stack([on(steps, one.steps, getattr(one, name)) for one in several]) for name in ("count", "mean", "std")
    )
    total = count.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (count * mean).sum(axis=0) / total
        variance = (count * (std**2 + (mean - centre) ** 2)).sum(axis=0) / total
    return Series(steps, total, centre, np.sqrt(variance))


def on(steps: npt.NDArray[np.int64], have: npt.NDArray[np.int64], values: Floats) -> Floats:
    """Place values (step,) among more steps; NaN at the others."""
    placed = np.full(len(steps), np.nan)
    placed[np.searchsorted(steps, have)] = values
    return placed
