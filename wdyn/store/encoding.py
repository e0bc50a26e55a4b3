"""How do values become the bytes of a Zarr v3 chunk or shard, checksum included?"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

ZSTD_LEVEL = 1
CHECKSUM_BYTES = 4


def checksum(data: bytes | memoryview) -> bytes:
    """CRC-32C of `data` as Zarr's `crc32c` codec appends it: 4 bytes, little-endian."""
    view = np.frombuffer(data, dtype=np.uint8)
    view.flags.writeable = False  # the library takes nothing else, and would otherwise need a copy
    return struct.pack("<I", google_crc32c.value(view))


def chunk(values: npt.NDArray[Any]) -> list[bytes | memoryview]:
    """Encode one chunk (codecs ``bytes`` little-endian, ``crc32c``)."""
    data = _raw(values)
    return [data, checksum(data)]


def small_chunk(values: npt.NDArray[Any]) -> list[bytes | memoryview]:
    """Encode one chunk (codecs ``bytes``, ``zstd``, ``crc32c``): what is not recorded yet then takes no room."""
    data = Zstd(level=ZSTD_LEVEL).encode(_raw(values))
    return [data, checksum(data)]


def string_chunk(texts: Sequence[str], *, length: int) -> list[bytes | memoryview]:
    """Encode one chunk of strings (codecs ``vlen-utf8``, ``crc32c``), padded with "" to `length`."""
    encoded = [text.encode() for text in texts] + [b""] * (length - len(texts))
    data = struct.pack("<I", length) + b"".join(struct.pack("<I", len(item)) + item for item in encoded)
    return [data, checksum(data)]


def shard(blocks: Sequence[npt.NDArray[Any]]) -> list[bytes | memoryview]:
    """Encode one shard: every inner chunk with its checksum, then the index of (offset, length) with its own."""
    pieces: list[bytes | memoryview] = []
    index = np.empty((len(blocks), 2), dtype="<u8")
    offset = 0
    for number, block in enumerate(blocks):
        pieces += chunk(block)
        length = block.nbytes + CHECKSUM_BYTES
        index[number] = offset, length
        offset += length
    return [*pieces, *chunk(index)]


def decode_small_chunk(data: bytes, *, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Undo `small_chunk`, as a flat array.

    Raises
    ------
    ValueError
        The checksum does not fit the bytes.
    """
    body, expected = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if checksum(body) != expected:
        raise ValueError("checksum does not fit")
    return np.frombuffer(Zstd().decode(body), dtype=np.dtype(dtype).newbyteorder("<")).copy()


def _raw(values: npt.NDArray[Any]) -> memoryview:
    """Bytes of an array in C order, little-endian; no copy where it is already so."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
