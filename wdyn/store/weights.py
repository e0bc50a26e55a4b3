"""How does one snapshot of an array of weights become the file of one chunk, or of one shard of chunks?

An array with a grid has such a file for each block of it, so that several processes can write one each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.rows import Snapshot
from wdyn.store import encoding, metadata
from wdyn.store.dtypes import BITS_OF, STORED_TYPES
from wdyn.store.files import Piece
from wdyn.store.root import Root

_INNER_BYTES = 4 * 2**20
"""Snapshots of an array larger than this are shards, so that one layer can be read alone."""
_MOST_UNEVEN = 4
"""By how much inner chunks of a grid may be smaller than that, so that they fill its shards evenly."""


def nbytes(array: WeightArray) -> int:
    """Size of one snapshot in bytes, without checksums."""
    return math.prod(array.full_shape) * _itemsize(array)


def block_of(array: WeightArray) -> WeightArray:
    """Give the array that one file holds: all of it, or a block of its grid."""
    return replace(array, shape=array.grid, grid=()) if array.grid else array


def place(array: WeightArray, start: Sequence[int]) -> tuple[int, ...]:
    """Give the place in the grid of files, behind that of the step, of the block that begins at `start`."""
    at = (
        tuple(first // step for first, step in zip(start, array.grid, strict=True)) if array.grid else (0,) * len(start)
    )
    return (0, *at) if array.layers else at


def blocks(array: WeightArray, values: npt.NDArray[Any]) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """Cut a snapshot into what each file holds, with where it begins along `shape`."""
    if not array.grid:
        yield (0,) * len(array.shape), values
        return
    whole = values if isinstance(values, np.ndarray) else np.stack(list(values))  # an import reads layer by layer
    for start in product(*(range(0, length, step) for length, step in zip(array.shape, array.grid, strict=True))):
        yield start, whole[inside(array, start, array.grid)]


def own_blocks(snapshot: Snapshot, array: WeightArray) -> Iterator[tuple[Sequence[int], npt.NDArray[Any]]]:
    """Give the blocks that this process writes, with where each begins along the array's `shape`."""
    values = snapshot.values.get(array.slug)
    if values is None:
        return
    if (start := snapshot.starts.get(array.slug)) is not None:
        yield start, values
    else:
        yield from blocks(array, values)


def inside(array: WeightArray, start: Sequence[int], size: Sequence[int]) -> tuple[slice | EllipsisType, ...]:
    """Select a block of a snapshot, of all layers."""
    axes = [slice(first, first + length) for first, length in zip(start, size, strict=True)]
    return (slice(None), *axes) if array.layers else (*axes, ...)


def restored(slug: str, about: Mapping[str, Any], value: metadata.Node) -> WeightArray:
    """Read back an array from wdyn's attributes of its group, and the metadata of its ``value``."""
    array = WeightArray.from_attributes(slug, about)
    chunk = metadata.chunk_shape(value)[len(value["shape"]) - len(array.shape) :]
    divided = any(one < length for one, length in zip(chunk, array.shape, strict=True))
    return replace(array, grid=chunk) if divided else array


def arrays_in(root: Root) -> Iterator[tuple[WeightArray, bool]]:
    """Give the arrays of weights of a run, and whether each is compressed."""
    for path in root.groups_with(schema.VALUE):
        about, value = root.nodes[path]["attributes"][schema.ATTRIBUTES], root.nodes[f"{path}/{schema.VALUE}"]
        yield restored(path.rpartition("/")[2], about, value), metadata.is_packed(value)


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
    """Encode what one file holds, in the stored dtype: `values` of the array's `full_shape`, or of a block of its grid.

    The pieces of a shard are made as they are asked for, so that only one compressed one is held.
    """
    block, inner = block_of(array), _inner_shape(array)
    if array.grid:
        values = _padded(array, values, block.full_shape)
    if inner is None:
        return encoding.chunk(values, compressed=compressed)
    return encoding.shard(_inner_blocks(block, values, inner), compressed=compressed)


def encoded_bytes(array: WeightArray) -> int:
    """Size of what `encode` gives where it does not compress."""
    inner = _inner_shape(array)
    if inner is None:
        return nbytes(block_of(array)) + encoding.CHECKSUM_BYTES
    count = math.prod(_chunk_shape(array)) // math.prod(inner)
    return encoding.shard_bytes(count, block_bytes=math.prod(inner) * _itemsize(array))


def _itemsize(array: WeightArray) -> int:
    return np.dtype(STORED_TYPES[array.dtype].dtype).itemsize


def _inner_blocks(array: WeightArray, values: npt.NDArray[Any], inner: tuple[int, ...]) -> Iterator[npt.NDArray[Any]]:
    """Cut a snapshot into what the inner chunks of a shard hold, in their order."""
    axis = _split_axis(array)
    for layer in values if array.layers else [values]:
        for start in range(0, array.shape[0], inner[axis]):
            yield _padded(array, layer[start : start + inner[axis]], inner[axis:])


def _split_axis(array: WeightArray) -> int:
    return 1 if array.layers else 0


def _inner_shape(array: WeightArray) -> tuple[int, ...] | None:
    """Shape of an inner chunk of a shard; None where what one file holds is small enough to be one chunk.

    The shards of a grid cannot be padded, so there the inner chunks must fill them, and may be larger for that.
    """
    block = block_of(array)
    if nbytes(block) <= _INNER_BYTES or not block.shape:
        return None
    length, rest = block.shape[0], block.shape[1:]
    one = nbytes(block) // (len(block.layers) or 1)
    pieces = min(length, -(-one // _INNER_BYTES))
    if array.grid:
        pieces = next(
            (count for count in range(pieces, min(length, _MOST_UNEVEN * pieces) + 1) if length % count == 0), 1
        )
    inner = (-(-length // pieces), *rest)
    return (1, *inner) if array.layers else inner


def _chunk_shape(array: WeightArray) -> tuple[int, ...]:
    """Shape of the chunk, or of the shard, which is padded to whole inner chunks."""
    shape, inner = [max(1, length) for length in block_of(array).full_shape], _inner_shape(array)
    if inner is not None:
        axis = _split_axis(array)
        shape[axis] = -(-shape[axis] // inner[axis]) * inner[axis]
    return tuple(shape)


def _padded(array: WeightArray, block: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if block.shape == shape:
        return block
    full = np.full(shape, np.nan if block.dtype.kind in "fc" else STORED_TYPES[array.dtype].fill, dtype=block.dtype)
    full[tuple(map(slice, block.shape))] = block
    return full
