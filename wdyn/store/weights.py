"""How does one snapshot of a array of weights become the file of one chunk, or of one shard of chunks?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.store import encoding, metadata
from wdyn.store.dtypes import BITS_OF, STORED_TYPES

_INNER_BYTES = 4 * 2**20
"""Snapshots of a array larger than this are shards, so that one layer can be read alone."""


def nbytes(array: WeightArray) -> int:
    """Size of one snapshot in bytes, without checksums."""
    return math.prod(array.full_shape) * np.dtype(STORED_TYPES[array.dtype].dtype).itemsize


def array_metadata(array: WeightArray, rows: int) -> metadata.Node:
    """Describe the array ``value`` at a length of `rows` snapshots."""
    stored, inner = STORED_TYPES[array.dtype], _inner_shape(array)
    return metadata.array(
        shape=(rows, *array.full_shape),
        chunk=(1, *_chunk_shape(array)),
        inner_chunk=None if inner is None else (1, *inner),
        dims=(schema.STEP, *array.full_dims),
        dtype=stored.dtype,
        fill=stored.fill,
        attributes={BITS_OF: stored.bits_of} if stored.bits_of else {},
    )


def encode(array: WeightArray, values: npt.NDArray[Any]) -> list[bytes | memoryview]:
    """Encode one snapshot: `values` of the array's `full_shape`, in the stored dtype."""
    inner = _inner_shape(array)
    if inner is None:
        return encoding.chunk(values)
    axis = _split_axis(array)
    starts = range(0, array.shape[0], inner[axis])
    layers = list(values) if array.layers else [values]
    blocks = [layer[start : start + inner[axis]] for layer in layers for start in starts]
    return encoding.shard([_padded(array, block, inner[axis:]) for block in blocks])


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
