"""How do values become the bytes of a Zarr v3 chunk or shard, checksum included?"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from wdyn.store.files import Piece

ZSTD_LEVEL = -1
"""Numbers hardly shrink, and what is not recorded yet does at any level: the fastest is a third of the time of 1."""
CHECKSUM_BYTES = 4

LZ4, LZ4_LEVEL = "lz4", 1
"""What packs weights once their bits are shuffled: the exponents of neighbours are alike, their mantissas are not."""


def checksum(data: Piece) -> bytes:
    """CRC-32C of `data` as Zarr's `crc32c` codec appends it: 4 bytes, little-endian."""
    view = np.frombuffer(data, dtype=np.uint8)
    view.flags.writeable = False  # the library takes nothing else, and would otherwise need a copy
    return struct.pack("<I", google_crc32c.value(view))


def chunk(values: npt.NDArray[Any], *, compressed: bool = False) -> list[Piece]:
    """Encode one chunk (codecs ``bytes`` little-endian, ``blosc`` where it is to be `compressed`, ``crc32c``)."""
    data: Piece = _raw(values)
    if compressed:
        packer = Blosc(LZ4, clevel=LZ4_LEVEL, shuffle=Blosc.BITSHUFFLE, typesize=values.dtype.itemsize)
        data = packer.encode(data)
    return [data, checksum(data)]


def small_chunk(values: npt.NDArray[Any]) -> list[Piece]:
    """Encode one chunk (codecs ``bytes``, ``zstd``, ``crc32c``): what is not recorded yet then takes no room."""
    data = _zstd().encode(_raw(values))
    return [data, checksum(data)]


def string_chunk(texts: Sequence[str], *, length: int) -> list[Piece]:
    """Encode one chunk of strings (codecs ``vlen-utf8``, ``crc32c``), padded with "" to `length`."""
    encoded = [text.encode() for text in texts]
    items = [part for item in encoded for part in (struct.pack("<I", len(item)), item)]
    data = b"".join([struct.pack("<I", length), *items, bytes(4 * (length - len(encoded)))])
    return [data, checksum(data)]


def shard(blocks: Iterable[npt.NDArray[Any]], *, compressed: bool = False) -> Iterator[Piece]:
    """Encode one shard: every inner chunk with its checksum, then the index of (offset, length) with its own."""
    index: list[tuple[int, int]] = []
    offset = 0
    for block in blocks:
        pieces = chunk(block, compressed=compressed)
        length = sum(map(len, pieces))
        index.append((offset, length))
        offset += length
        yield from pieces
    yield from chunk(np.array(index, dtype="<u8"))


def shard_bytes(blocks: int, *, block_bytes: int) -> int:
    """Size of a shard of `blocks` inner chunks that are not compressed."""
    return blocks * (block_bytes + CHECKSUM_BYTES + 16) + CHECKSUM_BYTES


def decode_small_chunk(data: bytes, *, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Undo `small_chunk`, as a flat array.

    Raises
    ------
    ValueError
        The checksum does not fit the bytes.
    """
    return np.frombuffer(Zstd().decode(_checked(data)), dtype=np.dtype(dtype).newbyteorder("<")).copy()


def decode_string_chunk(data: bytes) -> list[str]:
    """Undo `string_chunk`, with the padding.

    Raises
    ------
    ValueError
        The checksum does not fit the bytes.
    """
    body, texts, at = _checked(data), [], 4
    while at < len(body):
        (length,) = struct.unpack_from("<I", body, at)
        at += 4 + length
        texts.append(body[at - length : at].decode())
    return texts


@cache
def _zstd() -> Zstd:
    return Zstd(level=ZSTD_LEVEL)


def _checked(data: bytes) -> bytes:
    body, expected = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if checksum(body) != expected:
        raise ValueError("checksum does not fit")
    return body


def _raw(values: npt.NDArray[Any]) -> memoryview:
    """Bytes of an array in C order, little-endian; no copy where it is already so."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
