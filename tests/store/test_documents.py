"""Do documents carry what they should, and is each node encoded once?"""

import json

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from wdyn.store import metadata
from wdyn.store.documents import Documents

DEEP = ["a", "a/x", "a/x/m", "a/y", "b", "b/x", "b/x/m", "b/x/n", "b/z", "c", "b/s", "b/s/x", "b/s/x/m", "b/s/y",
        "b/s/y/m", "b/s/y/n", "b/h", "b/h/x", "b/h/x/m", "bs"]  # fmt: skip
ARRAYS = {"a/x/m", "b/x/m", "b/x/n", "c", "b/z", "b/s/x/m", "b/s/y/m", "b/s/y/n", "b/h/x/m", "bs"}


@given(st.permutations(DEEP))
def test_root__is_found_whole_by_zarr_in_whatever_order_it_came(tmp_path_factory, order):
    nodes = {
        path: metadata.array(shape=(1,), chunk=(1,), dims=("d",), dtype="int8", fill=0)
        if path in ARRAYS
        else metadata.group()
        for path in order
    }
    place = tmp_path_factory.mktemp("group")
    (place / "zarr.json").write_bytes(Documents(nodes).root(metadata.group({"é": 1})))
    found = zarr.open_consolidated(str(place))
    assert dict(found.attrs) == {"é": 1}
    assert {path for path, _ in found.members(max_depth=None)} == set(order)


def node(path, length=1):
    if path in ARRAYS:
        return metadata.array(shape=(length,), chunk=(1,), dims=("d",), dtype="int8", fill=0)
    return metadata.group({"path": path})


def test_document__is_that_of_the_node_and_of_what_stands_in_it():
    nodes = {path: node(path, length) for length, path in enumerate(DEEP)}
    documents = Documents(nodes)
    assert set(documents) == set(DEEP)
    for path in DEEP:
        found = json.loads(documents.of(path))
        inline = found.pop("consolidated_metadata", None)
        assert found == nodes[path]
        if path in ARRAYS:
            assert inline is None
            continue
        below = {name.removeprefix(f"{path}/"): nodes[name] for name in DEEP if name.startswith(f"{path}/")}
        assert inline == {"kind": "inline", "must_understand": False, "metadata": below}


def test_document__of_nodes_that_are_one_object_is_encoded_once(monkeypatch):
    encode, calls = metadata.encode, []
    monkeypatch.setattr(metadata, "encode", lambda node: (calls.append(node), encode(node))[1])
    group, same = metadata.group(), node("c")
    documents = Documents({"a": group, "a/x": same, "a/y": same, "a/z": node("c", 2)})
    documents.root(metadata.group())
    for path in documents:
        documents.of(path)
    assert len(calls) == 4  # the root, the group, and the two arrays that differ


def test_document__refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Documents({"lr": metadata.group({"lr": float("inf")})}).root(metadata.group())
