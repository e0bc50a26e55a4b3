"""What does the `zarr.json` of a group or an array say?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wdyn.store import encoding

FILE = "zarr.json"
Node = dict[str, Any]
"""The metadata of one group or array, as JSON objects."""

_CHECKED = [{"name": "crc32c"}]
_LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD = {"name": "zstd", "configuration": {"level": encoding.ZSTD_LEVEL, "checksum": False}}
RAW: Final[list[Any]] = [_LITTLE_ENDIAN, *_CHECKED]
"""Codecs of `encoding.chunk`."""
SMALL: Final[list[Any]] = [_LITTLE_ENDIAN, _ZSTD, *_CHECKED]
"""Codecs of `encoding.small_chunk`."""
_TEXT: list[Any] = [{"name": "vlen-utf8"}, *_CHECKED]


def array(
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    dims: Sequence[str],
    dtype: str,
    fill: object,
    codecs: list[Any] | None = None,
    inner_chunk: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Node:
    """Describe an array.

    Parameters
    ----------
    shape, chunk, dims, dtype, fill, attributes
        As in Zarr.
    codecs
        `RAW`, `SMALL` or `packed`; default: `RAW`, and what strings need.
    inner_chunk
        Each `chunk` is a shard of such chunks.
    """
    codecs = codecs or (_TEXT if dtype == "string" else RAW)
    if inner_chunk is not None:
        configuration = {
            "chunk_shape": list(inner_chunk),
            "codecs": codecs,
            "index_codecs": RAW,
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": configuration}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
        "attributes": dict(attributes or {}),
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def packed(itemsize: int) -> list[Any]:
    """Codecs of what `encoding.chunk` compresses."""
    configuration = {
        "typesize": itemsize,
        "cname": encoding.LZ4,
        "clevel": encoding.LZ4_LEVEL,
        "shuffle": "bitshuffle",
        "blocksize": 0,
    }
    return [_LITTLE_ENDIAN, {"name": "blosc", "configuration": configuration}, *_CHECKED]


def is_packed(node: Node) -> bool:
    """Whether the chunks of an array, or those of its shards, are `packed`."""
    return any(codec["name"] == "blosc" for codec in _chunk_codecs(node))


def group(attributes: Mapping[str, Any] | None = None) -> Node:
    """Describe a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def encode(node: Node) -> bytes:
    """Write metadata as the bytes of its `zarr.json`."""
    return json.dumps(node, separators=(",", ":"), allow_nan=False).encode()


def chunk_key(*indices: int) -> str:
    """File name of a chunk: ``c.3.0``; ``c`` for an array without axes."""
    return ".".join(["c", *map(str, indices)])


def chunk_indices(name: str) -> tuple[int, ...] | None:
    """Undo `chunk_key`; None for a file that is no chunk."""
    letter, *indices = name.split(".")
    if letter != "c" or not all(index.isdecimal() for index in indices):
        return None
    return tuple(map(int, indices))


def chunk_shape(node: Node) -> tuple[int, ...]:
    """Shape of a chunk, or of a shard, of an array."""
    return tuple(node["chunk_grid"]["configuration"]["chunk_shape"])


def reaches(node: Node, indices: tuple[int, ...]) -> bool:
    """Whether the chunk at these indices holds any element of an array of this length."""
    starts = [index * length for index, length in zip(indices, chunk_shape(node), strict=True)]
    return all(start < length for start, length in zip(starts, node["shape"], strict=True))


def _chunk_codecs(node: Node) -> list[Any]:
    first = node["codecs"][0]
    codecs: list[Any] = first["configuration"]["codecs"] if first["name"] == "sharding_indexed" else node["codecs"]
    return codecs
