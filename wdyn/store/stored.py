"""How does a stored array look to xarray, without a value of it having been read?"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xarray.backends import BackendArray
from xarray.core import indexing

from wdyn import schema
from wdyn.errors import DamagedRun, WdynError
from wdyn.store import metadata
from wdyn.store.bounds import check_size
from wdyn.store.dtypes import BITS_OF, widen
from wdyn.store.gathering import AS_FILE, DamagedFile, gather
from wdyn.store.layout import Layout
from wdyn.store.metadata import Node
from wdyn.store.pieces import Wanted
from wdyn.store.root import read_root
from wdyn.store.tables import LONGEST

MISSING = "missing_value"
"""Array attribute that names the integer which stands where nothing was recorded."""

_LARGE = 2**20
"""Bytes of a file from which on it is not read just to be compared."""


class StoredArray(BackendArray):
    """An array of a run, read when it is indexed; it holds paths only, so that it can go to another process.

    Values show as what they mean: stored bits as float32, an integer that stands for nothing as NaN among float64, and
    strings as numpy's fixed ones, which xarray's selection knows. Their dtype is that of objects where it is not known
    how long they are before they are read.

    Parameters
    ----------
    place
        The run.
    name
        The array's path within the run, such as ``weights/h-ln-1-weight-0002/value``.
    node
        Its metadata, from the root of the run.
    size_limit
        Bytes that one reading may take; default: the memory of this machine.
    """

    def __init__(self, place: Path, name: str, node: Node, *, size_limit: int | None = None) -> None:
        self.shape = tuple(node["shape"])
        self._place, self._name, self._node = place, name, node
        self._size_limit = size_limit
        self._bits_of: str = node["attributes"].get(BITS_OF, "")
        self._missing: int | None = node["attributes"].get(MISSING)
        self.dtype = self._shown_as()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> npt.NDArray[Any]:
        read = indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)
        return np.asarray(read)

    def read(self) -> npt.NDArray[Any]:
        """Read all of it.

        Raises
        ------
        DamagedRun
            A file cannot be read back.
        """
        return self._read((slice(None),) * len(self.shape))

    def files(self) -> tuple[bytes, ...] | None:
        """Give what the files of an array with one axis hold, in order and undecoded.

        None where one is large, or where something is wrong, which `read` then tells.
        """
        try:
            (length,), (chunk,) = self.shape, metadata.chunk_shape(self._node)
            folder = f"{self._place}/{self._name}"
            return tuple(_content(f"{folder}/{metadata.chunk_key(number)}") for number in range(-(-length // chunk)))
        except (ArithmeticError, OSError, TypeError, ValueError):
            return None

    def _shown_as(self) -> np.dtype[Any]:
        if self._node["data_type"] == "string":
            longest = self._node["attributes"].get(LONGEST)
            return np.dtype(object) if longest is None else np.dtype((np.str_, max(1, longest)))
        if self._bits_of:
            return np.dtype(np.float32)
        return np.dtype(self._node["data_type"] if self._missing is None else np.float64)

    @cached_property
    def _layout(self) -> Layout:
        # Not before it is needed: of all arrays of a run few are read.
        try:
            layout = Layout.of(self._node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DamagedRun(f"{self._name} cannot be read back: its metadata is damaged: {error!r}") from error
        if layout is None:
            raise DamagedRun(f"{self._name} cannot be read back: it is encoded in a way that no run is")
        return layout

    def _read(self, wanted: tuple[Wanted, ...]) -> npt.NDArray[Any]:
        values = self._stored(wanted)
        if self._node["data_type"] == "string":
            return self._texts(values)
        if self._bits_of:
            return widen(values, bits_of=self._bits_of)
        if self._missing is None:
            return values
        shown = np.array(values, dtype=np.float64)  # also of a single count, which cannot be changed in place
        shown[values == self._missing] = np.nan
        return shown

    def _texts(self, strings: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
        held = np.asarray(strings, dtype=object)  # also of a single one
        longest = max(map(len, held.flat), default=0)
        check_size(self._name, 4 * max(longest, self.dtype.itemsize // 4) * held.size, limit=self._size_limit)
        texts = np.array(held.tolist(), dtype=np.str_)
        # Never as short as was told where one is longer after all: numpy would cut it without a word.
        return texts if self.dtype.hasobject else texts.astype(np.promote_types(texts.dtype, self.dtype), copy=False)

    def _stored(self, wanted: tuple[Wanted, ...]) -> npt.NDArray[Any]:
        try:
            return gather(f"{self._place}/{self._name}", self._layout, wanted, size_limit=self._size_limit)
        except DamagedFile as error:
            where = self._steps(error.place, self._layout)
            raise DamagedRun(
                f"{self._name} cannot be read back{where}: {error.reason}. The file is {error.file}"
            ) from error

    def _steps(self, place: tuple[int, ...], layout: Layout) -> str:
        """Tell of which steps a file is."""
        if self._node["dimension_names"][:1] != [schema.STEP]:
            return ""
        rows = layout.chunk[0] * layout.per_file[0]
        name = f"{self._name.rpartition('/')[0]}/{schema.STEP}"
        with suppress(WdynError, DamagedFile, KeyError):
            step = StoredArray(self._place, name, read_root(self._place).nodes[name])
            if self._name != name:
                held = step.read()[place[0] * rows : (place[0] + 1) * rows].tolist()
                return f" at step {held[0]}" if len(held) == 1 else f" at steps {held[0]} to {held[-1]}"
        return ""


def _content(path: str) -> bytes:
    handle = os.open(path, AS_FILE)
    try:
        size = os.fstat(handle).st_size
        if size > _LARGE:
            raise ValueError(f"{path} has {size} bytes")
        return os.read(handle, size)
    finally:
        os.close(handle)
