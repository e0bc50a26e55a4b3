"""What does the metadata of a stored array say: its shape, its chunks, and how their bytes are encoded?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from wdyn.store import metadata
from wdyn.store.metadata import Node

Shape = tuple[int, ...]

_TEXT: Final = "string"
_CHECKSUM: Final = {"name": "crc32c"}
_LITTLE_ENDIAN: Final = {"name": "bytes", "configuration": {"endian": "little"}}
_STRINGS: Final = {"name": "vlen-utf8"}
_COMPRESSIONS: Final = ("zstd", "blosc")
_CHUNK_KEYS: Final = {"name": "default", "configuration": {"separator": "."}}


@dataclass(frozen=True)
class Layout:
    """How one array lies on disk.

    Attributes
    ----------
    dtype
        As stored; of text it is that of Python objects.
    fill
        What stands where no chunk was written.
    chunk
        Shape of what is encoded as one: a chunk, or an inner chunk of a shard.
    per_file
        Chunks of a file along each axis: 1 for all without shards.
    compression
        ``zstd``, ``blosc`` or "".
    """

    shape: Shape
    dtype: np.dtype[Any]
    fill: Any
    chunk: Shape
    per_file: Shape
    sharded: bool
    compression: str

    @classmethod
    def of(cls, node: Node) -> Self | None:
        """Read metadata; ``None`` where an array is encoded in a way that is left to zarr-python."""
        whole, codecs = metadata.chunk_shape(node), node["codecs"]
        sharding = codecs[0]["configuration"] if [one["name"] for one in codecs] == ["sharding_indexed"] else None
        chunk = tuple(sharding["chunk_shape"]) if sharding else whole
        compression = _compression(sharding["codecs"] if sharding else codecs, text=node["data_type"] == _TEXT)
        if compression is None or node["chunk_key_encoding"] != _CHUNK_KEYS or not _index_is_known(sharding):
            return None
        per_file = tuple(outer // inner for outer, inner in zip(whole, chunk, strict=True))
        dtype, fill = _values(node)
        return cls(tuple(node["shape"]), dtype, fill, chunk, per_file, sharding is not None, compression)

    @property
    def is_text(self) -> bool:
        """Whether the values are strings."""
        return self.dtype.kind == "O"

    @property
    def is_raw(self) -> bool:
        """Whether a chunk is the very bytes of its values in memory, and then their checksum."""
        return not self.compression and not self.is_text and self.dtype.isnative

    @property
    def chunk_bytes(self) -> int:
        """Size of the values of a chunk."""
        return math.prod(self.chunk) * self.dtype.itemsize


def _index_is_known(sharding: Any) -> bool:
    if sharding is None:
        return True
    return bool(sharding["index_codecs"] == [_LITTLE_ENDIAN, _CHECKSUM] and sharding["index_location"] == "end")


def _compression(codecs: list[Any], *, text: bool) -> str | None:
    """Give what stands between the bytes of the values and their checksum; ``None`` for codecs of other kinds."""
    if codecs[0] != (_STRINGS if text else _LITTLE_ENDIAN) or codecs[-1] != _CHECKSUM:
        return None
    names = [codec["name"] for codec in codecs[1:-1]]
    if (names and text) or len(names) > 1 or not set(names) <= set(_COMPRESSIONS):
        return None
    return names[0] if names else ""


def _values(node: Node) -> tuple[np.dtype[Any], Any]:
    if node["data_type"] == _TEXT:
        return np.dtype(object), node["fill_value"]
    dtype: np.dtype[Any] = np.dtype(node["data_type"]).newbyteorder("<")
    fill = node["fill_value"]
    return dtype, dtype.type(complex(*map(float, fill)) if dtype.kind == "c" else fill)
