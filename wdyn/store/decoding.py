"""How do the bytes of a chunk become values again, and are they the bytes that were written?

Nothing is given that its checksum does not prove: whoever wants one element of a chunk has the whole chunk checked.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd

from wdyn.store.encoding import CHECKSUM_BYTES
from wdyn.store.layout import Layout

_CODECS: dict[str, Any] = {"zstd": Zstd(), "blosc": Blosc()}


def extended(checksum: int, more: npt.NDArray[np.uint8]) -> int:
    """Give the checksum of bytes that more follow, 0 for none; the view that is given becomes read-only."""
    more.flags.writeable = False  # the library takes nothing else, and would otherwise need a copy
    return int(google_crc32c.extend(checksum, more))


def compare(checksum: int, expected: bytes) -> None:
    """Refuse bytes whose checksum is not the one that was written.

    Raises
    ------
    ValueError
        It is not.
    """
    if struct.pack("<I", checksum) != expected:
        raise ValueError("its checksum does not fit")


def check(body: npt.NDArray[np.uint8], expected: bytes) -> None:
    """Refuse bytes that are not those of the checksum; the view that is given becomes read-only.

    Raises
    ------
    ValueError
        They are not.
    """
    compare(extended(0, body), expected)


def decode(data: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[Any]:
    """Give the values of one chunk, in its shape.

    Raises
    ------
    ValueError
        The bytes are not those of a chunk of this layout.
    """
    if len(data) < CHECKSUM_BYTES:
        raise ValueError(f"it has {len(data)} bytes, and needs a checksum of {CHECKSUM_BYTES}")
    body = data[:-CHECKSUM_BYTES]
    check(body, data[-CHECKSUM_BYTES:].tobytes())
    if layout.is_text:
        return _strings(body, math.prod(layout.chunk)).reshape(layout.chunk)
    if layout.compression:
        return _decompressed(body, layout)
    if len(body) != layout.chunk_bytes:
        raise ValueError(f"it holds {len(body)} bytes of values, and needs {layout.chunk_bytes}")
    return body.view(layout.dtype).reshape(layout.chunk)


def _strings(body: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.object_]:
    found = int.from_bytes(body[:4].tobytes(), "little")
    if found != count:  # told before as many places are made
        raise ValueError(f"it holds {found} strings, and needs {count}")
    texts: npt.NDArray[np.object_] = VLenUTF8().decode(body)
    return texts


def _decompressed(body: npt.NDArray[np.uint8], layout: Layout) -> npt.NDArray[Any]:
    # Memory is taken by the size that the metadata needs, never by the one that the bytes claim; what they do not
    # reach shows as missing.
    values = np.full(layout.chunk, layout.fill, dtype=layout.dtype)
    try:
        _CODECS[layout.compression].decode(body, values)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"it cannot be decompressed: {error}") from error
    return values
