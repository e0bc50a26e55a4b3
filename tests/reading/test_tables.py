"""Are the table and the statistics labelled as promised?"""

import numpy as np
import pytest

import wdyn
from wdyn import bins, parameters, statistics
from wdyn.capture.table import parameter_table
from wdyn.errors import InvalidArgument, NoMatch
from wdyn.reading.joining import join_runs, split_runs
from wdyn.reading.tables import dataset
from wdyn.rows import Batch, Counts, Declaration, Row
from wdyn.schema import Address, Kind, Parts, Role
from wdyn.store.writer import Writer


def test_parameters__are_the_table_in_memory(record):
    table = parameters(record().run)
    assert table["parameter"].values.tolist()[0] == "wte.weight"
    assert table["tied_to"].sel(parameter="head.weight") == "wte.weight"
    assert {"path", "role", "kind", "stack", "layer", "shape", "dims", "dtype", "numel", "trainable", "in_optimizer",
            "group", "module", "parts", "heads", "kv_heads", "head_dim", "weights"} <= set(table)  # fmt: skip
    assert all(isinstance(column.variable._data, np.ndarray) for column in table.data_vars.values())


def test_statistics__carry_the_address_of_each_parameter(record):
    found = statistics(record().run)
    assert found["std"].dims == ("step", "parameter")
    assert found["role"].sel(parameter="h.1.attn.o.weight") == "o"
    assert found["layer"].sel(parameter="h.1.attn.o.weight") == 1
    assert found["std"].sel(step=10, parameter="head.weight") == 1.0
    assert set(found["std"].groupby("role").groups) == {"embedding", "qkv", "o", "unembedding"}


def test_statistics__say_what_was_recorded(record):
    with pytest.raises(NoMatch, match=r"No statistics of 'gradients' in this run; it has: weights\. Record them with"):
        statistics(record().run, "gradients")
    with pytest.raises(NoMatch, match=r"it has: none"):
        statistics(record().run.drop_nodes("statistics"))


def test_dataset__says_what_groups_there_are(record):
    run = record().run
    with pytest.raises(NoMatch, match=r"This run has no group 'moments'; it has: .*parameters"):
        dataset(run, "moments")
    with pytest.raises(NoMatch, match="'scalars/loss' is an array, not a group"):
        dataset(run, "scalars/loss")
    assert dataset(run, "scalars").sizes == {"step": 2, "group": 1}


@pytest.mark.parametrize("read", [parameters, statistics])
def test_tables__of_a_path_say_that_a_run_must_be_opened(read):
    with pytest.raises(InvalidArgument, match=r"not 'run\.zarr'; open it with wdyn\.open_run"):
        read("run.zarr")


@pytest.fixture
def measured(tmp_path):
    """A run of a fused weight with its parts, another weight and a bias, with histograms, and with their truth."""
    fused = Parts(axis=0, names=("q", "k"), sizes=(2, 2))
    known = (
        Address("h.0.qk", "h.qk", Role.QKV, Kind.WEIGHT, "decoder", 0, (4, 3), ("fan_out", "fan_in"), "float32",
                parts=fused),
        Address("h.1.qk", "h.qk", Role.QKV, Kind.WEIGHT, "decoder", 1, (4, 3), ("fan_out", "fan_in"), "float32",
                parts=fused),
        Address("norm", "norm", Role.NORM, Kind.WEIGHT, "root", -1, (3,), ("fan_out",), "float32"),
        Address("norm.bias", "norm.bias", Role.NORM, Kind.BIAS, "root", -1, (3,), ("fan_out",), "float32"),
    )  # fmt: skip
    columns = {str(name): column.values for name, column in parameter_table(known).variables.items()}
    held = {"weights": np.array([""] * 4), "in_optimizer": np.ones(4, bool), "group": np.zeros(4, np.int64)}
    owners = np.array(["h.0.qk", "h.0.qk", "h.1.qk", "h.1.qk"])
    names = np.array(["q", "k", "q", "k"])
    parts = {"part": np.char.add(np.char.add(owners, "["), np.char.add(names, "]")), "parameter": owners, "name": names,
             "role": names, "expert": np.full(4, -1), "head": np.full(4, -1)}  # fmt: skip
    random = np.random.default_rng(0)
    counts = np.zeros((2, 4, bins.COUNT), np.int64)
    counts[:, :, :50] = random.integers(0, 9, (2, 4, 50))
    with Writer(tmp_path / "run.zarr", about={}, attempt={"resumed_from_step": -1}) as writer:
        writer.append(Batch(0, declaration=Declaration({**columns, **held}, parts=parts)))
        for step, dense in enumerate(counts):
            nothing, about = np.array([], np.int64), {"quantity": "exp/avg"}
            rows = (
                Row("statistics/weights", step, {"std": np.arange(4.0) + step}),
                Row("histograms/weights", step, {"count": Counts.of(dense, absent=np.array([3]))}),
                Row("parts/statistics/weights", step, {"std": np.arange(10.0, 14.0) + step}),
                Row("parts/histograms/weights", step, {"count": Counts.of(dense, absent=nothing)}),
                Row("statistics/exp_avg_12", step, {"std": np.ones(4)}, attributes=about),
            )
            writer.append(Batch(step, rows))
    return wdyn.open_run(tmp_path / "run.zarr"), counts


def test_statistics__have_a_histogram_on_request(measured):
    run, counts = measured
    assert "histogram" not in statistics(run)
    found = statistics(run, histogram=True)
    assert not found["histogram"].variable._in_memory
    shown = found["histogram"].load()
    np.testing.assert_array_equal(shown[:, :3], counts[:, :3])
    assert shown.sel(parameter="norm.bias").isnull().all()
    for edge, expected in zip(("lower", "upper"), bins.edges(), strict=True):
        np.testing.assert_array_equal(found[edge], expected)
        assert found[edge].dims == ("bin",)


def test_statistics__of_parts_tell_what_each_is(measured):
    run, counts = measured
    found = statistics(run, parts=True, histogram=True)
    assert found["std"].dims == ("step", "part")
    assert found["std"].sel(part="h.1.qk[q]").values.tolist() == [12.0, 13.0]
    one = found.sel(part="h.1.qk[k]")
    address = {name: one[name].item() for name in ("parameter", "name", "role", "path", "kind", "stack", "layer")}
    assert list(address.values()) == ["h.1.qk", "k", "k", "h.qk", "weight", "decoder", 1]
    assert (one["expert"].item(), one["head"].item()) == (-1, -1)
    np.testing.assert_array_equal(found["histogram"], counts)


def test_statistics__of_parts_by_parameter_and_name(measured):
    run, _ = measured
    table = statistics(run, parts=True).set_index(part=["parameter", "name"]).unstack("part")
    assert table["std"].sel(step=1, parameter="h.1.qk", name="q") == 13.0


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"role": "qkv"}, ["h.0.qk", "h.1.qk"]),
        ({"role": "norm"}, ["norm", "norm.bias"]),
        ({"role": "norm", "kind": "bias"}, ["norm.bias"]),
        ({"kind": "weight"}, ["h.0.qk", "h.1.qk", "norm"]),
        ({"layer": 1}, ["h.1.qk"]),
        ({"layer": range(2)}, ["h.0.qk", "h.1.qk"]),
        ({"stack": "root"}, ["norm", "norm.bias"]),
        ({"path": "h.*"}, ["h.0.qk", "h.1.qk"]),
        ({"parts": True, "role": "q"}, ["h.0.qk[q]", "h.1.qk[q]"]),
        ({"parts": True, "role": "qkv", "layer": 0}, ["h.0.qk[q]", "h.0.qk[k]"]),
    ],
)
def test_statistics__of_what_is_asked_for(measured, wanted, names):
    run, _ = measured
    dim = "part" if "parts" in wanted else "parameter"
    found = statistics(run, histogram=True, **wanted)
    assert found[dim].values.tolist() == names
    assert found["histogram"].sizes[dim] == len(names)
    joined = statistics(join_runs(a=run, b=run), **wanted)
    assert joined[dim].values.tolist() == names


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"role": "q"},
            r"No parameter has role 'q'\. Roles .*: norm, qkv\. It is a part of fused weights: .*parts=True",
        ),
        ({"role": "v"}, r"No parameter has role 'v'\. Roles in this run: norm, qkv$"),
        ({"stack": "vision"}, "No parameter in stack 'vision' in this run; it has: weight in decoder, bias in root"),
        ({"layer": 7}, r"No layer 7 has such a parameter; the layers that do: \[-1, 0, 1\]"),
        (
            {"parts": True, "role": "norm"},
            "No part of a parameter fits. Roles of parts, and of what has parts: k, q, qkv",
        ),
        ({"quantity": "updates"}, r"No statistics of 'updates' in this run; it has: weights, exp/avg\."),
        ({"quantity": "exp/avg", "histogram": True}, "No histograms of 'exp/avg' in this run; it has: weights"),
        ({"quantity": "exp/avg", "parts": True}, "No parts and statistics of 'exp/avg' in this run; it has: weights"),
    ],
)
def test_statistics__say_what_is_there_instead(measured, wanted, message):
    with pytest.raises(NoMatch, match=message):
        statistics(measured[0], **wanted)


def test_statistics__go_by_the_true_name_of_a_quantity(measured):
    assert (statistics(measured[0], "exp/avg")["std"] == 1).all()


def test_join__carries_parts_and_histograms_and_gives_them_back(measured, record):
    run, _ = measured
    joined = join_runs(a=run, b=run)
    assert joined["parts/histograms/weights/count"].dims == ("run", "step", "part", "bin")
    for back in split_runs(joined).values():
        for path in ("parts", "parts/statistics/weights", "parts/histograms/weights", "histograms/weights"):
            own, found = run[path].to_dataset(), back[path].to_dataset().load()
            assert found.drop_attrs().equals(own.drop_attrs()), path


def test_join__copes_with_a_run_without_parts(measured, record):
    run, _ = measured
    joined = join_runs(a=run, b=record().run)
    assert joined["parts/present"].sel(run="b").values.tolist() == [False] * 4
    assert statistics(joined, parts=True)["std"].sel(run="b").isnull().all()
    back = split_runs(joined)
    assert "parts" not in back["b"].children
    assert statistics(back["a"], parts=True).sizes["part"] == 4
