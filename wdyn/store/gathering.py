"""How do the values that a selection wants come from the files of an array into memory?

Files are read, not mapped: one that another program cuts short is then an error that can be told, not a signal that
ends the interpreter, and it is no slower. Bytes that need no decoding are read to where they belong in the result.
"""

from __future__ import annotations

import itertools
import math
import os
import stat
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.store import bounds, metadata
from wdyn.store.decoding import check, compare, decode, extended
from wdyn.store.encoding import CHECKSUM_BYTES
from wdyn.store.layout import Layout
from wdyn.store.pieces import Piece, Wanted, cut, lengths

_PAGE = 4096
_THREADS = 4
_MANY_BYTES, _LARGE_CHUNK = 2**26, 2**20
"""Sizes of a result and of its chunks from which on several threads read.

A matrix of 20 MB takes two threads a fifth longer than one, and twice as long where the cores are busy.
"""
_SLICE = 2**20
"""Bytes that are read at once, to be checked while they lie in the processor's cache still."""
AS_FILE = os.O_RDONLY | os.O_NONBLOCK
"""What is no file, such as a pipe, must not keep a reader waiting."""
NEVER_WRITTEN = (2**64 - 1, 2**64 - 1)
"""Offset and length that stand in a shard's index for a chunk that it does not hold."""

Member = tuple[int, tuple[Piece, ...]]
"""Number of a chunk within its file, and what is wanted of it along each axis."""


class DamagedFile(Exception):
    """A file of an array cannot be read back.

    Attributes
    ----------
    file, reason
        Which one, and why.
    place
        Its indices in the grid of files.
    """

    def __init__(self, file: str, reason: str, place: tuple[int, ...]) -> None:
        super().__init__(file, reason, place)
        self.file, self.reason, self.place = file, reason, place


def gather(folder: str, layout: Layout, wanted: Sequence[Wanted], *, size_limit: int | None = None) -> npt.NDArray[Any]:
    """Read what is wanted along each axis of the array in `folder`; a single position drops its axis.

    Every chunk of which anything is wanted is read whole, and its checksum compared.

    Raises
    ------
    DamagedFile
        A file is not as it was written.
    DamagedRun
        More than `size_limit` bytes are claimed (default: what this machine has).
    """
    bounds.check(folder, layout, wanted, limit=size_limit)
    result = empty(lengths(wanted, layout.shape), layout.dtype)
    read = partial(_read_file, folder, layout, result)
    files = _files(layout, wanted) if result.size else {}
    if result.nbytes < _MANY_BYTES or layout.chunk_bytes < _LARGE_CHUNK:
        for place, members in files.items():
            read(place, members)
    else:
        one_by_one = [(place, [member]) for place, members in files.items() for member in members]
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            list(pool.map(read, *zip(*one_by_one, strict=True)))
    return result[tuple(slice(None) if isinstance(one, slice | np.ndarray) else 0 for one in wanted)]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Make an array whose memory begins with a page, where it is large.

    A copy whose target lies a few bytes further within its page than its source takes ten times as long on some
    processors, and that is just how numpy's memory lies to a file's.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _PAGE or dtype.hasobject:
        return np.empty(shape, dtype)
    room = np.empty(size + _PAGE, dtype=np.uint8)
    start = -room.ctypes.data % _PAGE
    return room[start : start + size].view(dtype).reshape(shape)


def _files(layout: Layout, wanted: Sequence[Wanted]) -> dict[tuple[int, ...], list[Member]]:
    """Give the files that a selection touches, by their place in the grid of files."""
    axes = [
        cut(one, length=length, chunk=chunk)
        for one, length, chunk in zip(wanted, layout.shape, layout.chunk, strict=True)
    ]
    files: dict[tuple[int, ...], list[Member]] = defaultdict(list)
    for pieces in itertools.product(*axes):
        number, place = 0, []
        for piece, per_file in zip(pieces, layout.per_file, strict=True):
            file, within = divmod(piece.chunk, per_file)
            number = number * per_file + within
            place.append(file)
        files[tuple(place)].append((number, pieces))
    return files


def _read_file(
    folder: str, layout: Layout, result: npt.NDArray[Any], place: tuple[int, ...], members: list[Member]
) -> None:
    path = f"{folder}/{metadata.chunk_key(*place)}"
    try:
        handle = os.open(path, AS_FILE)
        try:
            spans = spans_of(handle, layout)
            for number, pieces in members:
                _read_chunk(handle, layout, spans[number], pieces, _target(result, pieces))
        finally:
            os.close(handle)
    except FileNotFoundError:
        for _, pieces in members:
            _target(result, pieces)[...] = layout.fill
    except (OSError, ValueError) as error:
        raise DamagedFile(path, getattr(error, "strerror", None) or str(error), place) from error


def _target(result: npt.NDArray[Any], pieces: tuple[Piece, ...]) -> npt.NDArray[Any]:
    places: tuple[slice | EllipsisType, ...] = (*(piece.at for piece in pieces), ...)
    return result[places]  # a view, also where there are no axes


def spans_of(handle: int, layout: Layout) -> list[tuple[int, int]]:
    """Tell where each chunk of a file lies: its offset and its length."""
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no file")
    size = about.st_size
    if not layout.sharded:
        return [(0, size)]
    count = math.prod(layout.per_file)
    length = 16 * count + CHECKSUM_BYTES
    if size < length:
        raise ValueError(f"it has {size} bytes, and its index alone needs {length}")
    index = _read(handle, size - length, length)
    check(index[:-CHECKSUM_BYTES], index[-CHECKSUM_BYTES:].tobytes())
    spans = [tuple(span) for span in index[:-CHECKSUM_BYTES].view("<u8").reshape(count, 2).tolist()]
    if any(sum(span) > size for span in spans if span != NEVER_WRITTEN):  # told before as much memory is taken
        raise ValueError(f"its index tells of more than its {size} bytes")
    return spans


def _read_chunk(
    handle: int, layout: Layout, span: tuple[int, int], pieces: tuple[Piece, ...], target: npt.NDArray[Any]
) -> None:
    """Read one chunk into its place in the result."""
    if span == NEVER_WRITTEN:
        target[...] = layout.fill
    elif layout.is_raw and all(piece.whole for piece in pieces) and target.flags.c_contiguous:
        _read_into(handle, span, target)
    else:
        values = read_chunk(handle, layout, span)
        target[...] = _taken(values, pieces)


def read_chunk(handle: int, layout: Layout, span: tuple[int, int]) -> npt.NDArray[Any]:
    """Read the chunk that lies at (offset, length) of a file, and check it.

    Raises
    ------
    ValueError
        It is not as it was written.
    """
    if span[1] > (most := bounds.most_bytes(layout, file_bytes=span[1])):  # told before as much memory is taken
        raise ValueError(f"it has {span[1]} bytes, and can have {most} at most")
    return decode(_read(handle, *span), layout)


def _read_into(handle: int, span: tuple[int, int], target: npt.NDArray[Any]) -> None:
    offset, length = span
    if length != target.nbytes + CHECKSUM_BYTES:
        raise ValueError(f"it holds {length - CHECKSUM_BYTES} bytes of values, and needs {target.nbytes}")
    data, checksum = target.reshape(-1).view(np.uint8), 0
    for start in range(0, len(data), _SLICE):
        piece = data[start : start + _SLICE]
        _fill(handle, offset + start, piece)
        checksum = extended(checksum, piece)
    compare(checksum, _read(handle, offset + len(data), CHECKSUM_BYTES).tobytes())


def _read(handle: int, offset: int, length: int) -> npt.NDArray[np.uint8]:
    data = empty((length,), np.dtype(np.uint8))
    _fill(handle, offset, data)
    return data


def _fill(handle: int, offset: int, data: npt.NDArray[np.uint8]) -> None:
    if (found := os.preadv(handle, [data.data], offset)) != len(data):
        raise ValueError(f"it ends after {offset + found} bytes, and needs {offset + len(data)}")


def _taken(values: npt.NDArray[Any], pieces: tuple[Piece, ...]) -> npt.NDArray[Any]:
    for axis, piece in enumerate(pieces):
        values = values[(slice(None),) * axis + (piece.inside,)]
    return values
