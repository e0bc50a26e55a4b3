"""Does metadata read as Zarr, whatever the order in which a run grew?"""

import json

import pytest
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


def test_encode__refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        metadata.encode(metadata.group({"lr": float("nan")}))
    assert json.loads(metadata.encode(metadata.group({"name": "é\ud800"})))["attributes"] == {"name": "é\ud800"}
