"""What do the counts of bins tell of the numbers that were counted? Quantiles, tails and other bins, with their errors.

Within a bin nothing is known but the count: elements are taken to be spread evenly over it. A bin of `wdyn.bins` is at
most a quarter of its smaller edge wide, so a value is known to 25 % at worst, 12.5 % where a bin's middle is meant; a
magnitude below 2^-126 is known to 2^-126. Zero, NaN and the infinities have bins of their own and are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import bins, schema
from wdyn.analysis.binned_kernels import Floats, between, folded, quantiles, share_beyond
from wdyn.errors import InvalidArgument

NANS = "nans"
"""Coordinate of a result: how many elements were NaN, and are left out of it."""


def quantile(counts: xr.DataArray, q: float | Sequence[float]) -> xr.DataArray:
    """Estimate quantiles, as `numpy.quantile` defines them ("linear", definition 7 of Hyndman and Fan 1996).

    The quantile lies between the order statistics of rank floor(q (n - 1)) and the next, each of which is taken from
    its place within its bin.

    Error: each order statistic is known to the width of the bin that holds it, so the quantile is off by at most 25 %
    of the larger of the two magnitudes between which it lies, or 2^-126 if that is more; 0 and infinities are exact.
    A value beyond 2^128, which only float64 has, counts as infinite.

    Parameters
    ----------
    counts
        A histogram with the dimension ``bin``, as ``statistics(run, quantity, histogram=True)["histogram"]``. That of
        the magnitudes is `absolute` of it.
    q
        Shares in [0, 1], one or several.

    Returns
    -------
    DataArray
        ``(quantile, ...)``, without ``quantile`` as a dimension for a single `q`; in units of the values. NaN where
        nothing was recorded, or nothing but NaN. The coordinate ``nans`` counts the NaN, which are left out.

    Raises
    ------
    InvalidArgument
        `counts` is no histogram on wdyn's bins, or a `q` lies outside [0, 1].
    """
    shares = np.asarray(q, dtype=np.float64)
    if shares.ndim > 1 or not np.all((shares >= 0) & (shares <= 1)):
        raise InvalidArgument(f"q={q!r}: needed are one or several shares between 0 and 1")
    found = _by_row(quantiles, counts, name="quantile", size=shares.size, shares=np.atleast_1d(shares))
    found = found.transpose("quantile", ...).assign_coords(quantile=np.atleast_1d(shares))
    return found if shares.ndim else found.isel(quantile=0)


def tail_weight(counts: xr.DataArray, *, beyond: float | xr.DataArray) -> xr.DataArray:
    """Estimate the share of elements with abs(x) > `beyond`.

    Error: at most the share of elements whose magnitude falls into the bin that holds `beyond`; none at 0. Infinities
    are beyond every finite number, and so is what only float64 holds beyond 2^128.

    Parameters
    ----------
    counts
        A histogram with the dimension ``bin``.
    beyond
        A magnitude, or one for each histogram: ``4 * statistics(run)["rms"]``.

    Returns
    -------
    DataArray
        ``(...)``, in [0, 1]. NaN where nothing was recorded, or nothing but NaN, or `beyond` is NaN. The coordinate
        ``nans`` counts the NaN, which are left out.

    Raises
    ------
    InvalidArgument
        `counts` is no histogram on wdyn's bins.
    """
    share: xr.DataArray = xr.apply_ufunc(
        share_beyond, absolute(counts), beyond, input_core_dims=[[schema.BIN], []], dask="parallelized",
        output_dtypes=[np.float64], dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    return told(share, counts)


def rebin(counts: xr.DataArray, edges: Sequence[float] | npt.NDArray[Any]) -> xr.DataArray:
    """Count in other bins, [edge, next edge) as in `numpy.histogram`; the last one holds its upper edge too.

    Error: in each new bin at most the counts of the two bins that its edges cut. Counts are not rounded to integers;
    in all they are kept: the new bins, ``below``, ``above`` and ``nans`` add up to what was counted.

    Parameters
    ----------
    counts
        A histogram with the dimension ``bin``.
    edges
        At least two rising numbers; the outer ones may be infinite.

    Returns
    -------
    DataArray
        ``(..., bin)``, one bin fewer than edges; NaN where nothing was recorded. Coordinates: ``lower`` and ``upper``
        (bin), the edges of each; ``below``, ``above`` and ``nans``, how many elements are in none.

    Raises
    ------
    InvalidArgument
        `counts` is no histogram on wdyn's bins, or `edges` do not rise.
    """
    at = np.asarray(edges, dtype=np.float64)
    if at.ndim != 1 or len(at) < 2 or not np.all(np.diff(at) > 0):
        raise InvalidArgument(f"edges={edges!r}: needed are at least two numbers, each larger than the one before")
    found = _by_row(between, counts, name="target", size=len(at) + 1, edges=at).rename(target=schema.BIN)
    outside = {"below": found.isel({schema.BIN: 0}), "above": found.isel({schema.BIN: -1})}
    limits = {schema.LOWER: (schema.BIN, at[:-1]), schema.UPPER: (schema.BIN, at[1:])}
    return found.isel({schema.BIN: slice(1, -1)}).assign_coords(
        limits | {name: values.drop_vars(NANS) for name, values in outside.items()}
    )


def absolute(counts: xr.DataArray) -> xr.DataArray:
    """Count the magnitudes: the histogram of abs(x), exactly, on the same bins.

    Returns
    -------
    DataArray
        Like `counts`, with nothing in the bins of negative numbers.

    Raises
    ------
    InvalidArgument
        `counts` is no histogram on wdyn's bins.
    """
    check_counts(counts)
    both: xr.DataArray = xr.apply_ufunc(
        folded, counts, input_core_dims=[[schema.BIN]], output_core_dims=[[schema.BIN]], dask="parallelized",
        output_dtypes=[counts.dtype], dask_gufunc_kwargs={"allow_rechunk": True}, keep_attrs=True,
    )  # fmt: skip
    return both.transpose(*counts.dims)


def check_counts(counts: xr.DataArray) -> None:
    """Refuse what is no histogram on the bins of `wdyn.bins`.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    sizes = counts.sizes if isinstance(counts, xr.DataArray) else {}
    if sizes.get(schema.BIN) != bins.COUNT:
        found = f"one over {dict(sizes)}" if isinstance(counts, xr.DataArray) else f"a {type(counts).__name__}"
        raise InvalidArgument(
            f"Needed is a DataArray of counts over {bins.COUNT} bins ({schema.BIN!r}), not {found}; "
            'take it from wdyn.statistics(run, "weights", histogram=True)["histogram"]'
        )


def told(result: xr.DataArray, *counts: xr.DataArray) -> xr.DataArray:
    """Say beside a result how many NaN were left out of it."""
    nans = sum(one.isel({schema.BIN: bins.NAN}, drop=True) for one in counts)
    return result.assign_coords({NANS: nans})


def _by_row(
    kernel: Callable[..., Floats], counts: xr.DataArray, *, name: str, size: int, **fixed: Floats
) -> xr.DataArray:
    """Apply a kernel (..., bin) -> (..., `name`) to labelled counts."""
    check_counts(counts)
    found: xr.DataArray = xr.apply_ufunc(
        kernel, counts, kwargs=fixed, input_core_dims=[[schema.BIN]], output_core_dims=[[name]], dask="parallelized",
        output_dtypes=[np.float64], dask_gufunc_kwargs={"allow_rechunk": True, "output_sizes": {name: size}},
    )  # fmt: skip
    return told(found, counts)
