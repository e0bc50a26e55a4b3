"""What was recorded of the first values, of each parameter and of each part of the fused ones?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.fitting import Floats, Observation
from wdyn.errors import NoMatch
from wdyn.reading.tables import HISTOGRAM, statistics

_READ = ("mean", "std", "min", "max", "kurtosis", "count", "zeros", "nonfinite")
_COPIED = ("role", "kind", "stack", "layer", "path", "tied_to")


def first_row(recorded: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Read step 0 of each parameter; a tied name without statistics of its own shows those of its partner."""
    row = recorded[list(_READ)].isel({schema.STEP: 0}).load()
    have = row["count"].dropna(schema.PARAMETER).indexes[schema.PARAMETER]
    names = table[schema.PARAMETER].values
    sources = [name if name in have else tied for name, tied in zip(names, table["tied_to"].values, strict=True)]
    values = row.drop_vars([name for name in row.coords if name != schema.PARAMETER]).reindex(
        {schema.PARAMETER: sources}
    )
    return values.assign_coords({schema.PARAMETER: names, **{name: table[name].variable for name in _COPIED}})


def observed(run: xr.DataTree, row: xr.Dataset) -> dict[str, Observation]:
    """Give what was seen of each parameter in the first row, by name."""
    counts = _counts(run, schema.PARAMETER)
    names = [str(name) for name in row[schema.PARAMETER].values]
    pairs = zip(names, row["tied_to"].values.tolist(), strict=True)
    return dict(
        zip(names, _observations(row, [counts.get(name, counts.get(tied)) for name, tied in pairs]), strict=True)
    )


def observed_parts(run: xr.DataTree) -> dict[str, dict[str, Observation]]:
    """Give what was seen at step 0 of each part of the fused parameters, by full name and by part; heads left out."""
    try:
        recorded = statistics(run, parts=True)
    except NoMatch:
        return {}
    row = recorded.isel({schema.STEP: slice(1), schema.PART: np.flatnonzero(recorded[schema.HEAD].values < 0)}).load()
    if not row.sizes[schema.STEP]:
        return {}
    counts = _counts(run, schema.PART)
    labels = [str(label) for label in row[schema.PART].values]
    seen = _observations(row.isel({schema.STEP: 0}), [counts.get(label) for label in labels])
    parts: dict[str, dict[str, Observation]] = {}
    for whole, label, one in zip(row[schema.PARAMETER].values, labels, seen, strict=True):
        parts.setdefault(str(whole), {})[label] = one
    return parts


def _counts(run: xr.DataTree, dim: str) -> dict[str, Floats]:
    """Read the histograms of step 0 of all parameters, or of all parts, that hold anything but NaN."""
    try:
        found = statistics(run, parts=dim == schema.PART, histogram=True)[HISTOGRAM]
    except NoMatch:
        return {}
    held = found.isel({schema.STEP: slice(1)}).transpose(schema.STEP, dim, schema.BIN).values
    labels = found[dim].values.tolist()
    return {str(label): one for row in held for label, one in zip(labels, row, strict=True) if one[:-1].sum() > 0}


def _observations(row: xr.Dataset, counts: Sequence[Floats | None]) -> list[Observation]:
    columns = {name: row[name].values.tolist() for name in _READ}
    each = zip(*columns.values(), strict=True)
    return [_observation(dict(zip(columns, one, strict=True)), own) for one, own in zip(each, counts, strict=True)]


def _observation(numbers: dict[str, float], counts: Floats | None) -> Observation:
    std, mean = numbers["std"], numbers["mean"]
    farthest = max(numbers["max"] - mean, mean - numbers["min"])
    return Observation(
        mean=mean,
        std=std,
        reach=farthest / std if std > 0 else math.nan,
        kurtosis=numbers["kurtosis"],
        count=numbers["count"] - numbers["nonfinite"],
        counts=counts,
    )
