"""Is what metadata says understood, and left to zarr-python where it is not?"""

import copy

import numpy as np
import pytest

from wdyn.store import metadata
from wdyn.store.layout import Layout

PLAIN = metadata.array(shape=(3, 4), chunk=(2, 4), dims=("step", "parameter"), dtype="int64", fill=-1)
SHARDED = metadata.array(
    shape=(3, 5, 4), chunk=(1, 6, 4), inner_chunk=(1, 2, 4), dims=("step", "a", "b"), dtype="float32", fill="NaN"
)


def changed(node, **members):
    return {**copy.deepcopy(node), **members}


def test_layout__of_plain_chunks():
    layout = Layout.of(PLAIN)
    assert (layout.shape, layout.chunk, layout.per_file, layout.sharded) == ((3, 4), (2, 4), (1, 1), False)
    assert layout.is_raw
    assert not layout.is_text
    assert layout.chunk_bytes == 2 * 4 * 8
    assert (layout.fill, layout.fill.dtype) == (-1, np.int64)


def test_layout__of_shards_counts_chunks_of_a_file():
    layout = Layout.of(SHARDED)
    assert (layout.chunk, layout.per_file, layout.sharded) == ((1, 2, 4), (1, 3, 1), True)
    assert np.isnan(layout.fill)


@pytest.mark.parametrize(("dtype", "fill"), [("complex64", ["NaN", "NaN"]), ("bool", False), ("uint16", 0x7FC0)])
def test_layout__knows_every_kind_of_fill(dtype, fill):
    layout = Layout.of(metadata.array(shape=(1,), chunk=(1,), dims=("a",), dtype=dtype, fill=fill))
    assert layout.fill.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(layout.fill, complex(np.nan, np.nan) if dtype == "complex64" else fill)


def test_layout__of_strings():
    layout = Layout.of(metadata.array(shape=(2,), chunk=(8,), dims=("a",), dtype="string", fill=""))
    assert (layout.is_text, layout.is_raw, layout.fill) == (True, False, "")


CRC = {"name": "crc32c"}
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "bytes", "configuration": {"endian": "big"}}, CRC],
        [LITTLE],  # without a checksum
        [LITTLE, CRC, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
        [LITTLE, {"name": "gzip", "configuration": {"level": 1}}, CRC],
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE, CRC],
    ],
    ids=["endian", "unchecked", "order", "gzip", "transpose"],
)
def test_layout__leaves_other_codecs_to_zarr(codecs):
    assert Layout.of(changed(PLAIN, codecs=codecs)) is None
    inner = copy.deepcopy(SHARDED)
    inner["codecs"][0]["configuration"]["codecs"] = codecs
    assert Layout.of(inner) is None


def test_layout__leaves_other_indexes_and_names_of_files_to_zarr():
    start = copy.deepcopy(SHARDED)
    start["codecs"][0]["configuration"]["index_location"] = "start"
    assert Layout.of(start) is None
    unchecked = copy.deepcopy(SHARDED)
    unchecked["codecs"][0]["configuration"]["index_codecs"] = [LITTLE]
    assert Layout.of(unchecked) is None
    slashes = {"name": "default", "configuration": {"separator": "/"}}
    assert Layout.of(changed(PLAIN, chunk_key_encoding=slashes)) is None
