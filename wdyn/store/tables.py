"""How does the table of parameters lie on disk? Columns over `parameter`, which may grow at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from wdyn import schema
from wdyn.store import encoding, files, metadata

_CHUNK = 1024
_FILLS: dict[str, Any] = {"string": "", "int64": -1, "bool": False}


def write_column(
    folder: Path, values: npt.NDArray[Any], *, dim: str = schema.PARAMETER
) -> tuple[metadata.Node, list[Path]]:
    """Write a column of strings, integers or booleans; return its metadata and the files.

    Growing a column rewrites its last chunk by rename, with the earlier values unchanged at its front.
    """
    dtype = "string" if values.dtype.kind in "UOT" else values.dtype.name
    node = metadata.array(shape=values.shape, chunk=(_CHUNK,), dims=(dim,), dtype=dtype, fill=_FILLS[dtype])
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / metadata.FILE]
    for number, start in enumerate(range(0, len(values), _CHUNK)):
        path = folder / metadata.chunk_key(number)
        files.replace(path, *_chunk(values[start : start + _CHUNK], dtype))
        written.append(path)
    files.replace(folder / metadata.FILE, metadata.encode(node))
    return node, written


def write_table(folder: Path, columns: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, metadata.Node], list[Path]]:
    """Write every column; return the metadata of each, and the files."""
    members: dict[str, metadata.Node] = {}
    written: list[Path] = []
    for name, values in columns.items():
        members[name], paths = write_column(folder / name, values)
        written += paths
    return members, written


def read_names(folder: Path, *, length: int) -> npt.NDArray[np.str_]:
    """Read the first `length` values of a column of strings."""
    column = zarr.open_array(str(folder), mode="r")
    return np.array(np.asarray(column[:length]).tolist(), dtype=np.str_)


def _chunk(values: npt.NDArray[Any], dtype: str) -> list[bytes | memoryview]:
    if dtype == "string":
        return encoding.string_chunk([str(value) for value in values], length=_CHUNK)
    padded = np.full(_CHUNK, _FILLS[dtype], dtype=dtype)
    padded[: len(values)] = values
    return encoding.chunk(padded)
