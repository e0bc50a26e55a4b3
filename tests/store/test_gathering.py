"""Does our own reading of chunks and shards give what zarr-python gives, and never bytes that are not as written?"""

import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from wdyn.store import gathering
from wdyn.store.gathering import DamagedFile, empty, gather
from wdyn.store.layout import Layout

SHAPE = (5, 7, 11)
COMPRESSIONS = {"raw": [], "zstd": [ZstdCodec(level=1)], "blosc": [BloscCodec(cname="lz4", shuffle="bitshuffle")]}
KINDS = {  # chunks, shards, dtype
    "rows": ((1, 7, 11), None, "float32"),
    "blocks": ((2, 3, 4), None, "float64"),
    "integers": ((4, 8, 16), None, "int64"),
    "shards": ((1, 3, 11), (1, 9, 11), "float32"),
    "small shards": ((1, 2, 3), (2, 4, 12), "uint16"),
}


def layout_of(folder):
    layout = Layout.of(json.loads((folder / "zarr.json").read_bytes()))
    assert layout is not None
    return layout


@pytest.fixture(scope="module", params=[(kind, packing) for kind in KINDS for packing in COMPRESSIONS], ids="-".join)
def stored(request, tmp_path_factory):
    """An array that zarr-python wrote, with chunks that are missing, as (folder, layout, array)."""
    kind, packing = request.param
    chunks, shards, dtype = KINDS[kind]
    folder = tmp_path_factory.mktemp("arrays") / "value"
    array = zarr.create_array(
        str(folder),
        shape=SHAPE,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        compressors=[*COMPRESSIONS[packing], Crc32cCodec()],
        fill_value=np.nan if dtype.startswith("float") else 7,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    values = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(dtype)
    values[3, :5] = array.fill_value  # chunks and inner chunks that are all of this are not written
    array[...] = values
    layout = layout_of(folder)
    assert layout.compression == packing.replace("raw", "")
    return folder, layout, array


def wanted_of(length):
    position = st.integers(0, length - 1)
    ranges = st.builds(slice, position, st.integers(0, length), st.integers(1, 3))
    positions = st.lists(position, min_size=1, max_size=6).map(lambda found: np.array(sorted(found)))
    return st.one_of(position, ranges, positions, st.just(slice(None)))


@settings(max_examples=40)
@given(st.tuples(*map(wanted_of, SHAPE)))
def test_gather__gives_what_zarr_gives(stored, wanted):
    folder, layout, array = stored
    np.testing.assert_array_equal(gather(str(folder), layout, wanted), array[...][np.ix_(*map(_listed, wanted, SHAPE))]
                                  .reshape([len(_listed(one, n)) for one, n in zip(wanted, SHAPE, strict=True)
                                            if not isinstance(one, int)]))  # fmt: skip


def _listed(wanted, length):
    return np.atleast_1d(np.arange(length)[wanted])


def test_gather__by_several_threads_gives_the_same(stored, monkeypatch):
    folder, layout, array = stored
    monkeypatch.setattr(gathering, "_MANY_BYTES", 0)
    monkeypatch.setattr(gathering, "_LARGE_CHUNK", 0)
    np.testing.assert_array_equal(gather(str(folder), layout, [slice(None)] * 3), array[...])


def test_gather__slice_by_slice_gives_the_same(stored, monkeypatch):
    folder, layout, array = stored
    monkeypatch.setattr(gathering, "_SLICE", 100)
    np.testing.assert_array_equal(gather(str(folder), layout, [slice(None)] * 3), array[...])


def test_gather__shows_a_lost_file_as_missing(stored):
    folder, layout, array = stored
    file = folder / "c.0.0.0"
    data = file.read_bytes()
    file.unlink()
    try:
        found = gather(str(folder), layout, [slice(None)] * 3)
        np.testing.assert_array_equal(found, array[...])
        assert np.isnan(found[0, 0, 0]) if found.dtype.kind == "f" else found[0, 0, 0] == 7
    finally:
        file.write_bytes(data)


DAMAGES = {
    "short": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "stub": lambda data: data[:3],
    "empty": lambda data: b"",
    "long": lambda data: data + b"\0",
    "first byte": lambda data: flipped(data, 0),
    "within": lambda data: flipped(data, len(data) // 3),
    "checksum": lambda data: flipped(data, len(data) - 1),
    "index": lambda data: flipped(data, len(data) - 9),
    "zeros": lambda data: bytes(len(data)),
}


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("threads", [False, True])
def test_gather__refuses_what_is_not_as_it_was_written(stored, threads, monkeypatch):
    folder, layout, _ = stored
    if threads:
        monkeypatch.setattr(gathering, "_SLICE", 100)
        monkeypatch.setattr(gathering, "_MANY_BYTES", 0)
        monkeypatch.setattr(gathering, "_LARGE_CHUNK", 0)
    file = folder / "c.0.0.0"
    data = file.read_bytes()
    for damage in DAMAGES.values():
        file.write_bytes(damage(data))
        with pytest.raises(DamagedFile, match=r"checksum|bytes|ends|decompressed") as told:
            gather(str(folder), layout, [slice(None)] * 3)
        assert (told.value.file, told.value.place) == (str(file), (0, 0, 0))
    file.write_bytes(data)


def test_gather__checks_a_chunk_of_which_one_value_is_wanted(stored):
    folder, layout, _ = stored
    file = folder / "c.0.0.0"
    data = file.read_bytes()
    file.write_bytes(flipped(data, layout.chunk_bytes - 1 if layout.is_raw else 20))  # not the value that is asked for
    try:
        with pytest.raises(DamagedFile, match="checksum"):
            gather(str(folder), layout, [0, 0, 0])
    finally:
        file.write_bytes(data)


def test_gather__reads_only_the_files_that_it_needs(stored):
    folder, layout, array = stored
    values = array[...]
    last = sorted(folder.glob("c.*"))[-1]
    data = last.read_bytes()
    last.write_bytes(b"")
    try:
        np.testing.assert_array_equal(gather(str(folder), layout, [0, 0, 0]), values[0, 0, 0])
    finally:
        last.write_bytes(data)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 5, 1000)])
def test_empty__has_the_shape_and_begins_with_a_page_where_it_is_large(shape):
    made = empty(shape, np.dtype(np.float32))
    assert (made.shape, made.dtype) == (shape, np.float32)
    assert made.flags.c_contiguous
    assert made.nbytes < 4096 or made.ctypes.data % 4096 == 0


@pytest.mark.parametrize("values", [np.float32(3.5), np.array([], "f8"), np.zeros((0, 4), "i8")])
def test_gather__copes_with_no_axes_and_with_no_elements(tmp_path, values):
    values = np.asarray(values)
    array = zarr.create_array(
        str(tmp_path / "a"),
        shape=values.shape,
        chunks=tuple(max(1, length) for length in values.shape),
        dtype=values.dtype,
        compressors=[Crc32cCodec()],
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    array[...] = values
    found = gather(str(tmp_path / "a"), layout_of(tmp_path / "a"), [slice(None)] * values.ndim)
    np.testing.assert_array_equal(found, values)
    assert found.shape == values.shape
