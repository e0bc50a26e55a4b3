"""What does the `zarr.json` of a group or an array say?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wdyn.store import encoding

FILE = "zarr.json"
Node = dict[str, Any]
"""The metadata of one group or array, as JSON objects."""

_CHECKED = [{"name": "crc32c"}]
_LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD = {"name": "zstd", "configuration": {"level": encoding.ZSTD_LEVEL, "checksum": False}}
_BYTES: list[Any] = [_LITTLE_ENDIAN, *_CHECKED]
_SMALL: list[Any] = [_LITTLE_ENDIAN, _ZSTD, *_CHECKED]


def array(
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    dims: Sequence[str],
    dtype: str,
    fill: object,
    inner_chunk: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
    compressed: bool = False,
) -> Node:
    """Describe an array; with `inner_chunk`, each `chunk` is a shard of such chunks."""
    codecs: list[Any] = [{"name": "vlen-utf8"}, *_CHECKED] if dtype == "string" else _SMALL if compressed else _BYTES
    if inner_chunk is not None:
        configuration = {
            "chunk_shape": list(inner_chunk),
            "codecs": codecs,
            "index_codecs": _BYTES,
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


def group(attributes: Mapping[str, Any] | None = None) -> Node:
    """Describe a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def consolidated(node: Node, members: Mapping[str, Node]) -> Node:
    """Carry the metadata of every member inline, so that one file tells the length of every array."""
    # zarr-python loses the members of a group that do not stand side by side.
    together = dict(sorted(members.items(), key=lambda member: member[0].rpartition("/")[0]))
    inline = {"kind": "inline", "must_understand": False, "metadata": together}
    return {**node, "consolidated_metadata": inline}


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
