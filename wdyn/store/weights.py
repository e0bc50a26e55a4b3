"""How does one snapshot of an array of weights become the file of one chunk, or of one shard of chunks?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.store import encoding, metadata
from wdyn.store.dtypes import BITS_OF, STORED_TYPES
from wdyn.store.files import Piece

_INNER_BYTES = 4 * 2**20
"""Snapshots of an array larger than this are shards, so that one layer can be read alone."""


def nbytes(array: WeightArray) -> int:
    """Size of one snapshot in bytes, without checksums."""
    return math.prod(array.full_shape) * _itemsize(array)


def array_metadata(array: WeightArray, rows: int, *, compressed: bool = False) -> metadata.Node:
    """Describe the array ``value`` at a length of `rows` snapshots."""
    stored, inner = STORED_TYPES[array.dtype], _inner_shape(array)
    return metadata.array(
        shape=(rows, *array.full_shape),
        chunk=(1, *_chunk_shape(array)),
        inner_chunk=None if inner is None else (1, *inner),
        dims=(schema.STEP, *array.full_dims),
        dtype=stored.dtype,
        fill=stored.fill,
        codecs=metadata.packed(_itemsize(array)) if compressed else metadata.RAW,
        attributes={BITS_OF: stored.bits_of} if stored.bits_of else {},
    )


def encode(array: WeightArray, values: npt.NDArray[Any], *, compressed: bool = False) -> Iterable[Piece]:
    """Encode one snapshot: `values` of the array's `full_shape`, in the stored dtype.

    The pieces of a shard are made as they are asked for, so that only one compressed one is held.
    """
    inner = _inner_shape(array)
    if inner is None:
        return encoding.chunk(values, compressed=compressed)
    return encoding.shard(_blocks(array, values, inner), compressed=compressed)


def encoded_bytes(array: WeightArray) -> int:
    """Size of what `encode` gives where it does not compress."""
    inner = _inner_shape(array)
    if inner is None:
        return nbytes(array) + encoding.CHECKSUM_BYTES
    count = math.prod(_chunk_shape(array)) // math.prod(inner)
    return encoding.shard_bytes(count, block_bytes=math.prod(inner) * _itemsize(array))


def _itemsize(array: WeightArray) -> int:
    return np.dtype(STORED_TYPES[array.dtype].dtype).itemsize


def _blocks(array: WeightArray, values: npt.NDArray[Any], inner: tuple[int, ...]) -> Iterator[npt.NDArray[Any]]:
    """Cut a snapshot into what the inner chunks of a shard hold, in their order."""
    axis = _split_axis(array)
    for layer in values if array.layers else [values]:
        for start in range(0, array.shape[0], inner[axis]):
            yield _padded(array, layer[start : start + inner[axis]], inner[axis:])


def _split_axis(array: WeightArray) -> int:
    return 1 if array.layers else 0


def _inner_shape(array: WeightArray) -> tuple[int, ...] | None:
    """Shape of an inner chunk of a shard; None where the snapshot is small enough to be one chunk."""
    if nbytes(array) <= _INNER_BYTES or not array.shape:
        return None
    length, rest = array.shape[0], array.shape[1:]
    one = nbytes(array) // (len(array.layers) or 1)
    pieces = min(length, -(-one // _INNER_BYTES))
    inner = (-(-length // pieces), *rest)
    return (1, *inner) if array.layers else inner


def _chunk_shape(array: WeightArray) -> tuple[int, ...]:
    """Shape of the chunk, or of the shard, which is padded to whole inner chunks."""
    shape, inner = [max(1, length) for length in array.full_shape], _inner_shape(array)
    if inner is not None:
        axis = _split_axis(array)
        shape[axis] = -(-shape[axis] // inner[axis]) * inner[axis]
    return tuple(shape)


def _padded(array: WeightArray, block: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if block.shape == shape:
        return block
    full = np.full(shape, np.nan if block.dtype.kind in "fc" else STORED_TYPES[array.dtype].fill, dtype=block.dtype)
    full[: block.shape[0]] = block
    return full
