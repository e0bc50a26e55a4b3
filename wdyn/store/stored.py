"""How does a stored array look to xarray, without a value of it having been read?"""

from __future__ import annotations

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
from wdyn.store.dtypes import BITS_OF, widen
from wdyn.store.gathering import DamagedFile, gather
from wdyn.store.layout import Layout
from wdyn.store.metadata import Node
from wdyn.store.pieces import Wanted
from wdyn.store.root import read_root
from wdyn.store.tables import LONGEST

MISSING = "missing_value"
"""Array attribute that names the integer which stands where nothing was recorded."""


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
    """

    def __init__(self, place: Path, name: str, node: Node) -> None:
        self.shape = tuple(node["shape"])
        self._place, self._name, self._node = place, name, node
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

    def _shown_as(self) -> np.dtype[Any]:
        if self._node["data_type"] == "string":
            longest = self._node["attributes"].get(LONGEST)
            return np.dtype(object) if longest is None else np.dtype((np.str_, max(1, longest)))
        if self._bits_of:
            return np.dtype(np.float32)
        return np.dtype(self._node["data_type"] if self._missing is None else np.float64)

    @cached_property
    def _layout(self) -> Layout | None:
        # Not before it is needed: of all arrays of a run few are read.
        try:
            return Layout.of(self._node)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DamagedRun(f"{self._name} cannot be read back: its metadata is damaged: {error!r}") from error

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
        texts = np.array(np.asarray(strings).tolist(), dtype=np.str_)
        # Never as short as was told where one is longer after all: numpy would cut it without a word.
        return texts if self.dtype.hasobject else texts.astype(np.promote_types(texts.dtype, self.dtype), copy=False)

    def _stored(self, wanted: tuple[Wanted, ...]) -> npt.NDArray[Any]:
        if self._layout is None:
            return self._through_zarr(wanted)
        try:
            return gather(f"{self._place}/{self._name}", self._layout, wanted)
        except DamagedFile as error:
            where = self._steps(error.place, self._layout)
            raise DamagedRun(
                f"{self._name} cannot be read back{where}: {error.reason}. The file is {error.file}"
            ) from error

    def _through_zarr(self, wanted: tuple[Wanted, ...]) -> npt.NDArray[Any]:
        """Read what is encoded in a way that is not known here."""
        import zarr  # takes longer to import than most runs take to be read

        try:
            # By the root, which tells the committed length; the array's own metadata follows at close only.
            array: Any = zarr.open_group(str(self._place), mode="r", use_consolidated=True)[self._name]
            return np.asarray(array.oindex[wanted])
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise DamagedRun(f"{self._name} cannot be read back from {self._place}: {error}") from error

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
