"""Does metadata read as Zarr, whatever the order in which a run grew?"""

import json

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from wdyn.store import metadata


@given(st.lists(st.integers(0, 10**6), max_size=5))
def test_chunk_indices__undo_chunk_key(indices):
    assert metadata.chunk_indices(metadata.chunk_key(*indices)) == tuple(indices)


@pytest.mark.parametrize("name", ["zarr.json", "c.x", "c.", "c.1.partial", "d.1", "", "cc", "c.-1"])
def test_chunk_indices__know_what_is_no_chunk(name):
    assert metadata.chunk_indices(name) is None


@pytest.mark.parametrize(
    ("indices", "reached"), [((0, 0), True), ((1, 1), True), ((2, 0), False), ((0, 2), False), ((1, 0), True)]
)
def test_reaches__tells_whether_a_chunk_holds_an_element(indices, reached):
    node = metadata.array(shape=(5, 7), chunk=(4, 6), dims=("a", "b"), dtype="int8", fill=0)
    assert metadata.reaches(node, indices) == reached


def test_reaches__nothing_of_an_empty_array():
    node = metadata.array(shape=(0, 7), chunk=(4, 6), dims=("a", "b"), dtype="int8", fill=0)
    assert not metadata.reaches(node, (0, 0))


DEEP = ["a", "a/x", "a/x/m", "a/y", "b", "b/x", "b/x/m", "b/x/n", "b/z", "c", "b/s", "b/s/x", "b/s/x/m", "b/s/y",
        "b/s/y/m", "b/s/y/n", "b/h", "b/h/x", "b/h/x/m", "bs"]  # fmt: skip
ARRAYS = {"a/x/m", "b/x/m", "b/x/n", "c", "b/z", "b/s/x/m", "b/s/y/m", "b/s/y/n", "b/h/x/m", "bs"}


@given(st.permutations(DEEP))
def test_consolidated__is_found_whole_by_zarr_in_whatever_order_it_came(tmp_path_factory, order):
    nodes = {
        path: metadata.array(shape=(1,), chunk=(1,), dims=("d",), dtype="int8", fill=0)
        if path in ARRAYS
        else metadata.group()
        for path in order
    }
    place = tmp_path_factory.mktemp("group")
    (place / "zarr.json").write_bytes(metadata.encode(metadata.consolidated(metadata.group(), nodes)))
    found = zarr.open_consolidated(str(place)).members(max_depth=None)
    assert {path for path, _ in found} == set(order)


def test_below__is_what_stands_in_a_group():
    assert metadata.below("b", {path: {"path": path} for path in DEEP}).keys() == {
        path.removeprefix("b/") for path in DEEP if path.startswith("b/")
    }


def test_encode__refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        metadata.encode(metadata.group({"lr": float("nan")}))
    assert json.loads(metadata.encode(metadata.group({"name": "é\ud800"})))["attributes"] == {"name": "é\ud800"}
