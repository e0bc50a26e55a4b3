"""Do joined runs line up, and does each come out as it went in?"""

import dask
import numpy as np
import pytest

import wdyn
from wdyn import join_runs, parameters, select, statistics
from wdyn.errors import DamagedRun, InvalidArgument
from wdyn.reading.joining import split_runs
from wdyn.schema import Role
from wdyn.testing import make_run


@pytest.fixture(scope="module")
def pair():
    """Two runs that differ in steps, layers, ties and the time of a break."""
    return {
        "a": make_run(steps=(0, 10, 20), tie_breaks_at=20),
        "b": make_run(steps=(0, 5, 10), layers=3, growth_by_layer=2.0, tied=False, seed=1),
    }


@pytest.fixture(scope="module")
def joined(pair):
    return join_runs(**pair)


def leaders(run):
    """For each step and name the name that it shares its storage with; None where there is no row."""
    states = run["states"]
    names = parameters(run)["parameter"].values
    return {
        (int(step), str(name)): None if np.isnan(at) else str(names[int(at)])
        for step, row in zip(states["step"].values, states["shares_with"].values, strict=True)
        for name, at in zip(states["parameter"].values, row, strict=True)
    }


def test_join__has_the_rows_of_each_run_and_nan_elsewhere(pair, joined):
    found = statistics(joined)
    assert found["std"].dims == ("run", "step", "parameter")
    assert found["step"].values.tolist() == [0, 5, 10, 20]
    for label, run in pair.items():
        own = statistics(run)
        there = found.sel(run=label, step=own["step"], parameter=own["parameter"])
        np.testing.assert_array_equal(there["std"].values, own["std"].values)
    assert np.isnan(found["std"].sel(run="a", step=5)).all()
    assert np.isnan(found["std"].sel(run="b", parameter="blocks.3.mlp.up.weight")).all()
    assert np.isnan(joined["scalars"]["loss"].sel(run="b", step=20))


def test_join__keeps_the_order_of_the_table_everywhere(joined):
    names = parameters(joined)["parameter"].values.tolist()
    assert names[:2] == ["tok.weight", "pos.weight"]
    for group in ("statistics/weights", "states"):
        assert joined[group]["parameter"].values.tolist() == names


def test_join__has_one_table(joined):
    table = parameters(joined)
    assert table["role"].dims == ("parameter",)
    assert table["present"].sel(run="b", parameter="blocks.3.ln.bias").item() is False
    assert table["tied_to"].sel(parameter="head.weight").values.tolist() == ["tok.weight", ""]
    assert table["role"].sel(parameter="blocks.3.ln.bias") == "norm"


def test_join__counts_shared_storage_in_the_joined_table(pair, joined):
    for label, run in pair.items():
        own = leaders(run)
        found = leaders(
            joined.map_over_datasets(lambda one, label=label: one.sel(run=label) if "run" in one.dims else one)
        )
        assert {place: found[place] for place in own} == own


def test_join__renumbers_tables_in_another_order(record, layout):
    """The tie must hold by name, though each run counts in its own table."""
    tok = layout("tok", "tok", Role.EMBEDDING, -1, (4, 4))
    head = layout("head", "head", Role.UNEMBEDDING, -1, (4, 4), tied_to="tok")
    extra = layout("extra", "extra", Role.OTHER, -1, (4, 4))
    one, other = record([tok, head]), record([extra, tok, head])
    joined = join_runs(one=one.run, other=other.run)
    names = parameters(joined)["parameter"].values.tolist()
    shares = joined["states"]["shares_with"].sel(step=0)
    assert names == ["tok", "head", "extra"]
    np.testing.assert_array_equal(shares.sel(run="one"), [0, 0, np.nan])
    np.testing.assert_array_equal(shares.sel(run="other"), [0, 0, 2])
    for label, run in split_runs(joined).items():
        assert leaders(run) == leaders({"one": one, "other": other}[label].run)


def test_split__undoes_join(pair, joined):
    for label, back in split_runs(joined).items():
        run = pair[label]
        for node in run.subtree:
            if not node.variables or node.path == "/parameters" or node.path.startswith("/weights"):
                continue
            own, found = node.to_dataset(inherit=False), back[node.path].to_dataset(inherit=False).load()
            assert found.drop_attrs().identical(own.drop_attrs()), (label, node.path)
        own, found = parameters(run), parameters(back)
        assert found.drop_vars("weights").drop_attrs().identical(own.drop_vars("weights").drop_attrs())
        for role in ("q", "mlp_down", "embedding", "norm"):
            mine = select(run, role=role)
            assert select(back, role=role).astype(mine.dtype).drop_attrs().identical(mine.drop_attrs())
        assert back.attrs["wdyn"] == run.attrs["wdyn"]


def test_split__gives_runs_that_can_be_restored(pair, joined):
    back = split_runs(joined)["a"]
    for step in (0, 20):
        own, found = wdyn.state_dict(pair["a"], step=step), wdyn.state_dict(back, step=step)
        assert list(own) == list(found)
        for name, tensor in own.items():
            np.testing.assert_array_equal(found[name].numpy(), tensor.numpy())


def test_join_of_one__is_that_run(pair):
    (back,) = split_runs(join_runs(only=pair["a"])).values()
    assert leaders(back) == leaders(pair["a"])


def test_join__follows_attempts(record):
    run = record().run
    joined = join_runs(a=run)
    assert joined["states"]["attempt"].dims == ("run", "step")
    assert split_runs(joined)["a"]["states"]["attempt"].dtype == np.int64


def test_join__is_lazy(tmp_path):
    run = make_run(tmp_path / "run.zarr")
    for file in (tmp_path / "run.zarr").glob("weights/*/value/c.*"):
        file.write_bytes(b"damaged")
    joined = join_runs(a=run, b=run)
    value = select(joined, role="q")
    assert dask.is_dask_collection(value.data)
    with pytest.raises(DamagedRun, match=r"weights/.*/value cannot be read back at step \d+: .*checksum"):
        value.load()


def test_join__leaves_out_weights_of_another_shape(pair):
    joined = join_runs(a=pair["a"], wide=make_run(width=32, steps=(0, 10)))
    assert {"tok.weight", "blocks.attn.qkv.weight"} <= set(joined.attrs["left_out"])
    assert joined["statistics/weights"].sizes["run"] == 2
    with pytest.raises(wdyn.WdynError, match="No weights were kept of"):
        select(joined, role="q")
    split = split_runs(joined)
    assert parameters(split["wide"])["shape"].sel(parameter="tok.weight") == "[48, 32]"
    assert parameters(split["a"])["shape"].sel(parameter="tok.weight") == "[48, 16]"


def test_join__refuses_runs_that_disagree(record, layout):
    one = record([layout("w", "w", Role.Q, -1, (2, 2))])
    other = record([layout("w", "w", Role.K, -1, (2, 2))])
    with pytest.raises(InvalidArgument, match="disagree on what w is: role 'q' in one, 'k' in another"):
        join_runs(one=one.run, other=other.run)


def test_join__needs_a_run():
    with pytest.raises(InvalidArgument, match="needs at least one run"):
        join_runs()


def test_join__keeps_several_arrays_that_hold_one_name(record, layout, tmp_path):
    """A parameter that changed its shape while training has two arrays; neither may hide the other."""
    run = record([layout("w", "w", Role.LINEAR, -1, (2, 2)), layout("v", "v", Role.LINEAR, -1, (3, 3))]).run
    twice = run["weights"]["v-0001"].to_dataset().copy()
    twice.attrs["wdyn"] = {**twice.attrs["wdyn"], "names": ["w"], "path": "w"}
    run["weights/w-0002"] = wdyn_node(twice)
    joined = join_runs(a=run, b=run)
    shapes = {node["value"].shape[2:] for node in joined["weights"].children.values()}
    assert shapes == {(2, 2), (3, 3)}
    assert len(joined["weights"].children) == 3


def wdyn_node(dataset):
    import xarray as xr

    return xr.DataTree(dataset)
