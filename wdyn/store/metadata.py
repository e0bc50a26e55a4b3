"""What does the `zarr.json` of a group or an array say?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

FILE = "zarr.json"
Node = dict[str, Any]
"""The metadata of one group or array, as JSON objects."""

_CHECKED = [{"name": "crc32c"}]
_BYTES = [{"name": "bytes", "configuration": {"endian": "little"}}, *_CHECKED]


def array(
    *,
    shape: Sequence[int],
    chunk: Sequence[int],
    dims: Sequence[str],
    dtype: str,
    fill: object,
    inner_chunk: Sequence[int] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Node:
    """Describe an array; with `inner_chunk`, each `chunk` is a shard of such chunks."""
    codecs = [{"name": "vlen-utf8"}, *_CHECKED] if dtype == "string" else _BYTES
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
    inline = {"kind": "inline", "must_understand": False, "metadata": dict(members)}
    return {**node, "consolidated_metadata": inline}


def encode(node: Node) -> bytes:
    """Write metadata as the bytes of its `zarr.json`."""
    return json.dumps(node, separators=(",", ":"), allow_nan=False).encode()


def chunk_key(*indices: int) -> str:
    """File name of a chunk: ``c.3.0``; ``c`` for an array without axes."""
    return ".".join(["c", *map(str, indices)])
