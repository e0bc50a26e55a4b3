"""Does a run open as xarray alone would open it, in the lineage of its attempts, without a value being read?"""

import json
import pickle
import threading

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wdyn
from wdyn import schema

BESIDE = ("attempt", "lower", "upper")


def record(oracle, place, steps, **options):
    with oracle.writer(place, **options) as writer:
        for step in steps:
            writer.append(oracle.batch(step, declare=None if step or options else oracle.declaration()))
    return place


@pytest.fixture
def run(oracle, place):
    return record(oracle, place, range(5))


def as_shown(group):
    """A group as xarray opens it, as `open_run` shows it."""
    shown = group.set_coords([name for name in BESIDE if name in group])
    for name, variable in shown.variables.items():
        variable.attrs.pop("longest", None)
        if isinstance(variable.dtype, np.dtypes.StringDType):
            shown[name] = variable.copy(data=np.array(variable.values.tolist(), np.str_))
        if "bits_of" in variable.attrs:
            wide = (variable.values.astype(np.uint32) << 16).view(np.float32)
            attributes = {**variable.attrs, "comment": f"{variable.attrs['bits_of']} values shown as float32, exactly"}
            shown[name] = (variable.dims, wide, attributes)
    return shown


def groups(tree):
    return {node.path: node.to_dataset() for node in tree.subtree if node.path != "/"}


def test_open_run__opens_every_group_as_xarray_does(run):
    tree, plain = wdyn.open_run(run), xr.open_datatree(run, engine="zarr", chunks=None)
    assert tree.attrs == {**plain.attrs, "path": str(run)}
    ours, its = groups(tree), groups(plain)
    assert ours.keys() == its.keys()
    assert {"/histograms/weights", "/parts/histograms/weights", "/relations", "/parts"} < ours.keys()
    for path, group in its.items():
        shown = as_shown(group)
        xr.testing.assert_identical(ours[path].load(), shown.load())
        for name, variable in shown.variables.items():
            assert ours[path][name].dtype == variable.dtype
            if name not in shown.indexes and "bits_of" not in variable.attrs:
                known = ours[path].variables[name].encoding.items()
                assert known <= {**variable.encoding, "missing_value": variable.encoding.get("missing_value")}.items()


def test_open_run__puts_together_the_tree_that_xarray_does(run):
    tree, plain = wdyn.open_run(run), xr.open_datatree(run, engine="zarr", chunks=None)
    for node in plain.subtree:
        ours = tree[node.path]
        assert type(ours) is xr.DataTree
        assert (ours.name, list(ours.children)) == (node.name, list(node.children))
        own, its = ours.to_dataset(inherit=False), node.to_dataset(inherit=False)
        assert own.indexes.keys() == its.indexes.keys(), node.path  # labels that stand above it are not its own
        assert own.variables.keys() == its.variables.keys(), node.path


def test_open_run__lets_no_group_be_put_where_its_labels_do_not_fit(run):
    tree = wdyn.open_run(run)
    with pytest.raises(ValueError, match="not aligned with its parents"):
        tree["parts"].children = {"more": xr.DataTree(xr.Dataset(coords={"part": ["nobody"]}))}


def test_open_run__tells_groups_apart_whose_files_hold_the_same(run):
    path, metadata = run / "zarr.json", "consolidated_metadata"
    root = json.loads(path.read_bytes())
    for name, node in root[metadata]["metadata"].items():
        if name.startswith("states/") and node["dimension_names"][:1] == ["step"]:
            node["shape"][0] = 3  # as if the rest were not committed yet
    path.write_text(json.dumps(root))
    assert (run / "states/step/c.0").read_bytes() == (run / "relations/step/c.0").read_bytes()
    tree = wdyn.open_run(run)
    assert tree["states"]["step"].values.tolist() == [0, 1, 2]
    assert tree["relations"]["step"].values.tolist() == [0, 1, 2, 3, 4]


def test_open_run__reads_labels_in_several_files(oracle, place):
    steps = range(300)
    with oracle.writer(place) as writer:
        for step in steps:
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    assert (place / "states/step/c.1").exists()
    tree = wdyn.open_run(place)
    for node in tree.subtree:
        if schema.STEP in node.indexes:
            assert node[schema.STEP].values.tolist() == list(steps), node.path


def test_open_run__reads_no_value(run):
    tree = wdyn.open_run(run)
    for node in tree.subtree:
        for name, values in node.to_dataset(inherit=False).variables.items():
            assert values._in_memory == (name in node.indexes or name in tree.children), (node.path, name)


def test_open_run__has_everything_in_memory_once_it_is_loaded(run):
    for node in wdyn.open_run(run).load().subtree:
        for name, values in node.to_dataset(inherit=False).variables.items():
            assert values._in_memory or name in ("value", "count"), (node.path, name)


def tell_longest(run, change):
    """Change what the root of a run says of the longest string of each column."""
    root = json.loads((run / "zarr.json").read_bytes())
    nodes = root["consolidated_metadata"]["metadata"].values()
    texts = [node["attributes"] for node in nodes if node.get("data_type") == "string"]
    assert len(texts) > 10
    for attributes in texts:
        change(attributes)
    (run / "zarr.json").write_text(json.dumps(root))


def test_open_run__reads_text_at_once_where_its_length_is_not_told(run):
    expected = groups(wdyn.open_run(run))
    tell_longest(run, lambda attributes: attributes.pop("longest"))
    found = groups(wdyn.open_run(run))
    assert found["/parameters"].variables["path"]._in_memory
    for path, group in found.items():
        xr.testing.assert_identical(group.load(), expected[path].load())


def test_open_run__cuts_no_text_that_is_longer_than_was_told(run):
    expected = wdyn.open_run(run)["parameters"].to_dataset().load()
    tell_longest(run, lambda attributes: attributes.update(longest=1))
    table = wdyn.open_run(run)["parameters"].to_dataset()
    assert table["role"].dtype == "U1"
    xr.testing.assert_identical(table.load(), expected)


def test_open_run__picks_one_text(run):
    table = wdyn.open_run(run)["parameters"]
    role = table["role"].isel(parameter=1)
    assert (role.item(), role.dtype) == ("linear", table["role"].dtype)
    assert table["role"].sel(parameter=["b", "h.0.w"]).values.tolist() == ["linear", "linear"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_lazy_values__are_indexed_like_numpy_ones(oracle, run, data):
    value = wdyn.open_run(run)[f"weights/{oracle.LAYERED}/value"]
    wanted = {}
    for dim, length in value.sizes.items():
        position = st.integers(-length, length - 1)
        end = st.one_of(st.none(), st.integers(-length - 1, length + 1))
        ranges = st.builds(slice, end, end, st.sampled_from([None, 1, 2, -1, -2]))
        # xarray itself fails at a range that is empty and goes backwards.
        ranges = ranges.filter(lambda one, length=length: len(range(*one.indices(length))) > 0)
        wanted[dim] = data.draw(st.one_of(position, ranges, st.lists(position, max_size=4).map(np.array)))
    wanted = {dim: one.astype(int) if isinstance(one, np.ndarray) else one for dim, one in wanted.items()}
    values = xr.DataArray(
        np.stack([oracle.weights(step)[oracle.LAYERED] for step in range(5)]), value.coords, value.dims
    )
    np.testing.assert_array_equal(value.isel(wanted).values, values.isel(wanted).values)


def test_lazy_values__are_picked_point_by_point(oracle, run):
    value = wdyn.open_run(run)[f"weights/{oracle.LAYERED}/value"]
    at = {"step": xr.DataArray([4, 0, 4], dims="x"), "layer": xr.DataArray([1, 0, 0], dims="x")}
    expected = [oracle.weights(step)[oracle.LAYERED][layer] for step, layer in ((4, 1), (0, 0), (4, 0))]
    np.testing.assert_array_equal(value.isel(at).values, expected)


@pytest.mark.parametrize("chunks", [None, {"step": 2}])
def test_open_run__goes_to_another_process(run, chunks):
    tree = wdyn.open_run(run, chunks=chunks)
    sent = pickle.loads(pickle.dumps(tree))
    for path, group in groups(sent).items():
        xr.testing.assert_identical(group, groups(tree)[path])


def test_open_run__shares_no_variable_between_groups(run):
    opened = wdyn.open_run(run)
    held = [one for node in opened.subtree for one in node.to_dataset(inherit=False).variables.values()]
    assert len({id(one) for one in held}) == len(held)
    opened["relations"].dataset["step"].attrs["unit"] = "updates"
    opened["relations"].attrs["mine"] = True
    assert "unit" not in opened["states"]["step"].attrs
    assert "mine" not in wdyn.open_run(run)["relations"].attrs


def test_open_run__finds_its_files_wherever_the_program_goes(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    opened = wdyn.open_run(run.name)
    monkeypatch.chdir("/")
    assert opened["scalars/loss"].values.tolist() == [100.0, 99.0, 98.0, 97.0, 96.0]


def test_open_run__leaves_what_is_changed_in_memory_alone(run):
    opened = wdyn.open_run(run)
    opened["scalars/loss"][0] = -1.0
    assert opened["scalars/loss"].values[0] == -1.0
    assert wdyn.open_run(run)["scalars/loss"].values[0] == 100.0


def test_open_run__follows_the_lineage_in_every_group(oracle, run):
    record(oracle, run, (2, 3), resume=True, attempt={"resumed_from_step": 2})
    record(oracle, run, (3, 9), resume=True, attempt={"resumed_from_step": 3})
    plain = groups(xr.open_datatree(run, engine="zarr", chunks=None))
    assert plain["/states"]["step"].values.tolist() == [0, 1, 2, 3, 4, 2, 3, 3, 9]
    for attempt, rows in {None: [0, 1, 5, 7, 8], 0: [0, 1, 2, 3, 4], 1: [0, 1, 5, 6], 2: [0, 1, 5, 7, 8]}.items():
        for path, group in groups(wdyn.open_run(run, attempt=attempt)).items():
            expected = as_shown(plain[path])
            chosen = expected.isel(step=rows) if "step" in expected.dims else expected
            xr.testing.assert_identical(group.load(), chosen.load())


def test_open_run__sees_whole_rows_while_they_are_written(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        writer.commit()
        early = wdyn.open_run(place)
        done = threading.Event()

        def write():
            for step in range(1, 20):
                writer.append(oracle.batch(step))
                writer.commit()
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        seen = set()
        while not done.is_set():
            seen.add(_checked(oracle, wdyn.open_run(place)))
        thread.join()
        seen.add(_checked(oracle, wdyn.open_run(place)))
    assert max(seen) == 20
    assert len(seen) > 1
    assert _checked(oracle, early) == 1


def _checked(oracle, run):
    """Check all values of a run; give how many rows each of its groups has."""
    counts = set()
    for path, group in groups(run).items():
        if "step" in group.dims:
            if "bits_of" not in group.get("value", xr.DataArray(0)).attrs:
                oracle.check(group.load(), path)
            counts.add(group.sizes["step"])
    (count,) = counts
    return count
