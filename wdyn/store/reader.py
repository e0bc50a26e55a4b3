"""How is a run opened? Lazily, through xarray and zarr, following the effective lineage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from wdyn import schema
from wdyn.errors import DamagedRun, NoMatch
from wdyn.store.dtypes import BITS_OF, widen
from wdyn.store.root import read_root

PATH = "path"
"""Root attribute of an opened run: where it lies."""


def open_run(
    path: str | os.PathLike[str], *, attempt: int | None = None, chunks: Mapping[str, int] | str | None = None
) -> xr.DataTree:
    """Open a run as a labelled tree of arrays; nothing but coordinates and the parameter table is read yet.

    Parameters
    ----------
    path
        The run's folder.
    attempt
        Show the run as it stood when this attempt was the newest, with rows that later attempts superseded.
        Default: the effective lineage, in which an attempt that starts at step s hides earlier rows with step >= s.
    chunks
        Given to xarray, to get dask arrays: ``{}`` or ``"auto"``, or lengths by dimension.

    Returns
    -------
    DataTree
        Groups ``parameters``, ``weights/<slug>``, ``statistics/<quantity>``, ``states``, ``scalars``, as far as they
        were recorded. bfloat16 and float8 weights show as float32, which holds each of their values.

    Raises
    ------
    NotARun, NewerFormat, DamagedRun
        `path` holds no run, one of a later wdyn, or one that cannot be read.
    NoMatch
        The run has no such attempt.
    """
    place = Path(path)
    root = read_root(place)
    attempts: Sequence[Mapping[str, Any]] = root.attributes["attempts"]
    newest = len(attempts) - 1 if attempt is None else attempt
    if not 0 <= newest < len(attempts):
        raise NoMatch(f"{place} has attempts 0 to {len(attempts) - 1}, not {attempt}")
    try:
        tree = xr.open_datatree(place, engine="zarr", chunks=None)
        datasets = {
            node.path: _readable(node.to_dataset(inherit=False), attempts[: newest + 1]) for node in tree.subtree
        }
    except (OSError, ValueError, KeyError) as error:
        raise DamagedRun(f"{place} cannot be opened: {error}") from error
    run = xr.DataTree.from_dict(datasets)
    run.attrs[PATH] = str(place)
    if chunks is None:
        return run
    lengths = {dim: chunks for node in run.subtree for dim in node.sizes} if isinstance(chunks, str) else chunks
    return run.chunk(lengths)


def _readable(dataset: xr.Dataset, attempts: Sequence[Mapping[str, Any]]) -> xr.Dataset:
    for name, variable in list(dataset.variables.items()):
        if isinstance(variable.dtype, np.dtypes.StringDType):
            # xarray's selection knows numpy's fixed strings, not yet its variable ones.
            dataset = dataset.assign(
                {name: (variable.dims, np.array(variable.values.tolist(), np.str_), variable.attrs)}
            )
        elif BITS_OF in variable.attrs:
            dataset[name] = _widened(variable)
    if schema.ATTEMPT in dataset.variables:
        dataset = _effective(dataset.set_coords(schema.ATTEMPT), attempts)
    return dataset


def _effective(dataset: xr.Dataset, attempts: Sequence[Mapping[str, Any]]) -> xr.Dataset:
    """Hide rows of attempts that a later one superseded."""
    step, by = dataset[schema.STEP].values, dataset[schema.ATTEMPT].values
    kept = by < len(attempts)
    for number, attempt in enumerate(attempts[1:], start=1):
        kept &= (by >= number) | (step < attempt["resumed_from_step"])
    return dataset if kept.all() else dataset.isel({schema.STEP: np.flatnonzero(kept)})


def _widened(variable: xr.Variable) -> xr.Variable:
    bits_of = variable.attrs[BITS_OF]
    attributes = {**variable.attrs, "comment": f"{bits_of} values shown as float32, exactly"}
    data = indexing.LazilyIndexedArray(_Widened(variable, bits_of))
    return xr.Variable(variable.dims, data, attributes, variable.encoding)


class _Widened(BackendArray):
    """Stored bits shown as float32, converted when read."""

    def __init__(self, bits: xr.Variable, bits_of: str) -> None:
        self._bits = bits
        self._bits_of = bits_of
        self.shape = bits.shape
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[np.float32]:
        read = indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        return np.asarray(read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[np.float32]:
        return widen(self._bits[key].values, bits_of=self._bits_of)
