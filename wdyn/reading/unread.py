"""How are the axes of an array put in another order, or split in two, before it is read?

xarray does both to what it has not read by making an index of every element, which for a weight takes a hundred times
as long as to read it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing


def reordered(values: xr.DataArray, *dims: str) -> xr.DataArray:
    """Give `values` with its axes in the order `dims`; what was not read stays unread."""
    if values.chunks is not None:
        return values.transpose(*dims)
    return values.transpose(*dims).copy(data=_lazy(_Reordered(values.variable, dims)))


def split(values: xr.DataArray, axis: str, lengths: dict[str, int]) -> xr.DataArray:
    """Give `values` with `axis` as two, the outer one first; what was not read stays unread.

    Parameters
    ----------
    values
        Its `axis` has no labels, and is as long as the product of `lengths`.
    axis
        The axis to be split.
    lengths
        The names of the two axes and how long they are.
    """
    at = list(values.dims).index(axis)
    dims = (*values.dims[:at], *lengths, *values.dims[at + 1 :])
    coordinates: dict[Any, Any] = dict(values.coords) | {name: np.arange(length) for name, length in lengths.items()}
    outer, inner = lengths.values()
    if values.chunks is not None:
        shape = (*values.shape[:at], outer, inner, *values.shape[at + 1 :])
        return xr.DataArray(values.data.reshape(shape), coordinates, dims, values.name, values.attrs)
    variable = xr.Variable(dims, _lazy(_Split(values.variable, axis, outer, inner)), values.attrs)
    return xr.DataArray(variable, coordinates, name=values.name)


def _lazy(array: BackendArray) -> Any:
    # Indices add up until values are asked for, and what is read belongs to whoever asked.
    lazy: Any = indexing.LazilyIndexedArray(array)
    return indexing.CopyOnWriteArray(lazy)


class _Reordered(BackendArray):
    """A variable with its axes in another order."""

    def __init__(self, variable: xr.Variable, dims: tuple[str, ...]) -> None:
        self._variable, self._dims = variable, dims
        self.shape = tuple(variable.sizes[dim] for dim in dims)
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        )

    def _read(self, wanted: tuple[Any, ...]) -> npt.NDArray[Any]:
        part = self._variable.isel(dict(zip(self._dims, wanted, strict=True)))
        return part.values.transpose([part.dims.index(dim) for dim in self._dims if dim in part.dims])


class _Split(BackendArray):
    """A variable with one axis as two."""

    def __init__(self, variable: xr.Variable, axis: str, outer: int, inner: int) -> None:
        self._variable, self._axis, self._outer, self._inner = variable, axis, outer, inner
        self._at = variable.dims.index(axis)
        self.shape = (*variable.shape[: self._at], outer, inner, *variable.shape[self._at + 1 :])
        self.dtype = variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        return np.asarray(
            indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        )

    def _read(self, wanted: tuple[Any, ...]) -> npt.NDArray[Any]:
        at = self._at
        outer, inner = np.arange(self._outer)[wanted[at]], np.arange(self._inner)[wanted[at + 1]]
        flat = np.add.outer(outer * self._inner, inner)
        keys = (*wanted[:at], flat.ravel(), *wanted[at + 2 :])
        part = self._variable.isel(dict(zip(self._variable.dims, keys, strict=True)))
        here = part.dims.index(self._axis)
        return part.values.reshape((*part.shape[:here], *flat.shape, *part.shape[here + 1 :]))
