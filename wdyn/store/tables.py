"""How does a table lie on disk? As columns over one dimension, which may grow at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.errors import DamagedRun
from wdyn.store import encoding, metadata
from wdyn.store.disk import Disk
from wdyn.store.files import Piece

LONGEST = "longest"
"""Array attribute of strings: the length of the longest one, by which a reader knows their type before it reads any."""

_CHUNK = 1024
_FILLS: dict[str, Any] = {"string": "", "int64": -1, "bool": False, "float64": np.nan}


def write_column(folder: Path, values: npt.NDArray[Any], *, disk: Disk, dim: str) -> metadata.Node:
    """Write a column of strings, integers, booleans or float64; return its metadata.

    Growing a column rewrites its last chunk by rename, with the earlier values unchanged at its front.
    """
    dtype = "string" if values.dtype.kind in "UOT" else values.dtype.name
    attributes = {LONGEST: max((len(str(value)) for value in values), default=0)} if dtype == "string" else {}
    for number, start in enumerate(range(0, len(values), _CHUNK)):
        path = f"{folder}/{metadata.chunk_key(number)}"
        disk.write(path, _chunk(values[start : start + _CHUNK], dtype))
    fill = "NaN" if dtype == "float64" else _FILLS[dtype]
    return metadata.array(
        shape=values.shape, chunk=(_CHUNK,), dims=(dim,), dtype=dtype, fill=fill, attributes=attributes
    )


def write_table(
    folder: Path, columns: Mapping[str, npt.NDArray[Any]], *, disk: Disk, dim: str
) -> dict[str, metadata.Node]:
    """Write every column; return the metadata of each."""
    return {name: write_column(folder / name, values, disk=disk, dim=dim) for name, values in columns.items()}


def read_names(folder: Path, *, length: int) -> npt.NDArray[np.str_]:
    """Read the first `length` values of a column of strings.

    Raises
    ------
    DamagedRun
        A chunk of it cannot be read back.
    """
    names: list[str] = []
    for number in range(-(-length // _CHUNK)):
        path = folder / metadata.chunk_key(number)
        try:
            names += encoding.decode_string_chunk(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedRun(f"{path} cannot be read back: {error}. Record into a new run instead") from error
    return np.array(names[:length], dtype=np.str_)


def _chunk(values: npt.NDArray[Any], dtype: str) -> list[Piece]:
    if dtype == "string":
        return encoding.string_chunk([str(value) for value in values], length=_CHUNK)
    padded = np.full(_CHUNK, _FILLS[dtype], dtype=dtype)
    padded[: len(values)] = values
    return encoding.chunk(padded)
