"""How are the values of each role spread, layer by layer, and how has that changed?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from wdyn import bins, schema
from wdyn.analysis import distribution_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.binned_distances import in_pieces, largest_gap, occupied, transport
from wdyn.analysis.binned_kernels import folded, quantiles, share_beyond
from wdyn.analysis.distribution_reading import Floats, Integers, Key, Table, added, counts_at, moments, tables
from wdyn.analysis.skipping import skip
from wdyn.errors import StepNotRecorded
from wdyn.reading.tables import parameters

_FAR = 4.0  # rms beyond which a value counts as far out
_QUARTILES = np.array([0.25, 0.75])
_SPECIAL_BINS = {
    "zeros": [bins.ZERO],
    "underflow": [bins.NEGATIVE_UNDERFLOW, bins.POSITIVE_UNDERFLOW],
    "overflow": [bins.NEGATIVE_OVERFLOW, bins.POSITIVE_OVERFLOW],
}
_OF_MOMENTS = ("count", "mean", "std", "kurtosis")
_OF_COUNTS = ("iqr", "tail_weight", *_SPECIAL_BINS, "nans", "clusters", "wasserstein", "ks")


@analyzer(
    family="DIS",
    question="How are the values of each role spread, and how has that changed?",
    check=distribution_check.check,
    codes=distribution_check.CODES,
)
def distribution(
    run: xr.DataTree, *, reference: int | None = None, rows: int = 64, by_layer: bool = False
) -> xr.Dataset:
    """How are the values of each role spread, layer by layer, and how has that changed?

    Reads the histograms and statistics of the weights, and those of q, k, v and other parts where they were recorded:
    never the weights themselves. Several matrices of one role in one layer are pooled: their counts are added, on the
    grid that all histograms share. Biases, buffers, and names that share the memory of another are left out.

    Parameters
    ----------
    run
        A run with histograms of ``weights``.
    reference
        The recorded step that every row is compared with; default: the first one.
    rows
        Rows that are read at most, evenly among the recorded ones: a histogram is large.
    by_layer
        Whether ``histogram`` is kept for each layer apart, which takes as many times the memory.

    Returns
    -------
    Dataset
        Over ``step``, ``role`` and ``layer`` (-1: outside blocks); with ``stack`` too where blocks stand in several
        towers. NaN where a layer lacks a role, or nothing was recorded. What is estimated from bins (iqr, clusters,
        wasserstein, ks) is NaN too where abs(mean) > std, as of the gains of norms: such values lie in one or two bins,
        that are wider than what there is to see.

        - ``std``, ``mean`` : (step, role, layer), units of the weights. Population standard deviation and mean.
        - ``iqr`` : (step, role, layer), units of the weights. Upper minus lower quartile; see `wdyn.quantile` for its
          error, 25 % at worst.
        - ``std_ratio``, ``iqr_ratio`` : (step, role, layer), unitless. Over that of the reference; NaN where that is 0.
        - ``kurtosis`` : (step, role, layer), unitless. E(x - mean)^4 / std^4: 3 for a normal distribution, 6 for a
          Laplace one; exact.
        - ``tail_weight`` : (step, role, layer), 0 to 1. Share of abs(x) > 4 rms, rms being that of the same row; 6e-5
          for a normal distribution, up to 2e-4 as estimated from bins: see `wdyn.tail_weight`.
        - ``zeros``, ``underflow``, ``overflow`` : (step, role, layer), 0 to 1. Share of values that are 0, that are not
          but are below 2^-126 in magnitude, and that are infinite or beyond 2^128; exact.
        - ``nans`` : (step, role, layer). How many values are NaN; they are left out of all the rest.
        - ``clusters`` : (step, role, layer). exp of the entropy of the shares by bin, of values other than 0: in how
          many bins, 25 % wide, they practically are; about 20 for a normal distribution with mean 0 (Hill 1973, order
          1).
        - ``wasserstein`` : (step, role, layer), units of the weights. W1 to the reference: how far a value has moved on
          average, if all keep their rank. See `wdyn.wasserstein`.
        - ``ks`` : (step, role, layer), 0 to 1. Kolmogorov-Smirnov distance to the reference. See
          `wdyn.kolmogorov_smirnov`.
        - ``histogram`` : (step, role, bin), counts over all layers; (step, role, layer, bin) with `by_layer`.
          Coordinates ``lower`` and ``upper`` (bin).
        - ``count`` : (role, layer). How many values there are; 0 where the layer lacks the role.
        - ``fused`` : (role), bool. Its parts are roles of this result themselves.

        The attribute ``reference`` is the step compared with. Any two steps, layers or runs compare by their counts::

            d = wdyn.distribution(run, by_layer=True).histogram.sel(role="q")
            wdyn.wasserstein(d.sel(step=100), d.sel(step=900))
            wdyn.wasserstein(d.sel(layer=0), d.sel(layer=5))

    Raises
    ------
    StepNotRecorded
        The reference has no row; the message names the nearest ones.
    """
    keys, read = tables(run, rows=max(2, rows), reference=reference)
    if not read:
        return skip("no histogram of the weights was recorded", remedy=_REMEDY)
    steps = read[0].values[schema.STEP].values
    base = int(steps[0]) if reference is None else reference
    if base not in steps:
        recorded = ", ".join(map(str, sorted(sorted(steps.tolist(), key=lambda at: abs(at - base))[:3])))
        raise StepNotRecorded(f"No row of histograms at step {base}; the nearest are at {recorded}")
    pools = keys if by_layer else list(dict.fromkeys((stack, role) for stack, role, _ in keys))
    numbers, counts = _measured(keys, read, steps, base=base, pools=pools)
    result = xr.Dataset({name: _laid(keys, values.T, (schema.STEP,)) for name, values in numbers.items()})
    result = _against(result.assign_coords({schema.STEP: steps}), base).assign(histogram=_histogram(pools, counts))
    result["fused"] = _fused(run, read, result["role"])
    result = result.transpose("stack", schema.STEP, "role", schema.LAYER, schema.BIN, missing_dims="ignore")
    return (result.squeeze("stack") if result.sizes["stack"] == 1 else result).assign_attrs(reference=base)


_REMEDY = "a watch with statistics of the weights records them: wdyn.watch(..., every=10)"


def _measured(
    keys: list[Key], read: list[Table], steps: Integers, *, base: int, pools: Sequence[tuple[object, ...]]
) -> tuple[dict[str, Floats], Floats]:
    """Give each measure (step, cell), and the counts of each pool of cells (step, pool, bin)."""
    size = len(keys)
    numbers = {name: np.full((steps.size, size), np.nan) for name in (*_OF_MOMENTS, *_OF_COUNTS)}
    for table in read:
        for name, values in moments(table, steps, size).items():
            numbers[name] = np.where(np.isnan(values), numbers[name], values)
    rms = np.hypot(numbers["std"], numbers["mean"])
    pool = np.array([pools.index(key[: len(pools[0])]) for key in keys])
    pooled = np.zeros((steps.size, len(pools), bins.COUNT))
    first = counts_at(read, base, size)
    for at, step in enumerate(steps.tolist()):
        counts = counts_at(read, step, size)
        pooled[at] = added(counts, pool)
        for name, values in _of_counts(counts, first, rms[at]):
            numbers[name][at] = values
    _mask_unclear(numbers, int(np.searchsorted(steps, base)))
    return numbers, pooled


def _mask_unclear(numbers: dict[str, Floats], base: int) -> None:
    """Give no estimate where all values lie to one side of 0, as gains of norms around 1: in one or two wide bins."""
    unclear = np.abs(numbers["mean"]) > numbers["std"]
    for name in ("iqr", "clusters"):
        numbers[name][unclear] = np.nan
    for name in ("wasserstein", "ks"):
        numbers[name][unclear | unclear[base]] = np.nan


def _of_counts(counts: Floats, first: Floats, rms: Floats) -> Iterator[tuple[str, Floats]]:
    """Measure one row: (cell, bin), (cell, bin), (cell,) -> a number for each cell, by name."""
    low, high = quantiles(counts, shares=_QUARTILES).T
    yield "iqr", high - low
    yield "tail_weight", share_beyond(folded(counts), _FAR * rms)
    total = counts[:, : bins.NAN].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 where nothing but NaN was counted
        for name, among in _SPECIAL_BINS.items():
            yield name, counts[:, among].sum(axis=-1) / total
    yield "nans", counts[:, bins.NAN]
    yield "clusters", _clusters(counts)
    kept = occupied(first, counts)
    yield "wasserstein", in_pieces(transport, first, counts, kept=kept)
    yield "ks", in_pieces(largest_gap, first, counts, kept=kept)


def _clusters(counts: Floats) -> Floats:
    """exp(-sum p log p) over the bins of values other than 0: (..., bin) -> (...); NaN where there are none."""
    others = np.delete(counts[..., : bins.NAN], bins.ZERO, axis=-1)
    # An empty bin adds nothing, and most are empty; the first one stays, to tell of what was not recorded.
    others = others[..., np.append(True, (others[..., 1:] > 0).reshape(-1, others.shape[-1] - 1).any(axis=0))]
    with np.errstate(invalid="ignore"):  # 0/0 where there is nothing but zeros
        share = others / others.sum(axis=-1, keepdims=True)
    logs = np.log(np.where(share == 0, 1.0, share))  # an empty bin adds nothing: p log p goes to 0 with p
    number: Floats = np.exp(-(share * logs).sum(axis=-1))
    return number


def _laid(pools: Sequence[tuple[object, ...]], values: Floats, rest: tuple[str, ...]) -> xr.DataArray:
    """Lay cells out over the labels that number them: (cell, ...) -> (stack, role[, layer], ...); NaN where none is."""
    columns = list(zip(*pools, strict=True))
    labels = [list(dict.fromkeys(column)) for column in columns[:2]] + [sorted(set(column)) for column in columns[2:]]
    at = tuple(np.array([known.index(one) for one in column]) for known, column in zip(labels, columns, strict=True))
    laid = np.full((*map(len, labels), *values.shape[1:]), np.nan)
    laid[at] = values
    dims = ("stack", "role", schema.LAYER)[: len(columns)]
    return xr.DataArray(laid, dict(zip(dims, labels, strict=True)), dims=(*dims, *rest))


def _histogram(pools: Sequence[tuple[object, ...]], counts: Floats) -> xr.DataArray:
    lower, upper = bins.edges()
    laid = _laid(pools, counts.swapaxes(0, 1), (schema.STEP, schema.BIN))
    return laid.assign_coords({schema.LOWER: (schema.BIN, lower), schema.UPPER: (schema.BIN, upper)})


def _against(result: xr.Dataset, base: int) -> xr.Dataset:
    """Add how wide each is beside the reference, and how many values it is of."""
    first = result.sel({schema.STEP: base}, drop=True)
    ratios = {f"{name}_ratio": result[name] / first[name].where(first[name] > 0) for name in ("std", "iqr")}
    return result.assign(ratios | {"count": result["count"].max(schema.STEP).fillna(0)})


def _fused(run: xr.DataTree, read: list[Table], roles: xr.DataArray) -> xr.DataArray:
    """Say which roles are wholes whose parts stand beside them."""
    of_parts = [table.values[schema.PARAMETER][table.columns].values for table in read if schema.PART in table.values]
    wholes = [parameters(run)["role"].sel({schema.PARAMETER: names}).values for names in of_parts]
    return roles.isin(np.concatenate([np.empty(0, np.str_), *wholes]))
