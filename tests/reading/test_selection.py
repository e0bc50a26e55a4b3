"""Does `select` give the weights that were meant, as labelled arrays, or say why not?"""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from wdyn import join_runs, select
from wdyn.errors import AmbiguousSelection, NoMatch, StepNotRecorded
from wdyn.schema import Kind, Parts, Role


@pytest.fixture
def gpt2(record):
    return record()


def truth(recorded, path, layers=(0, 1)):
    """Stack the truth of a path over layers: (step, layer, ...)."""
    return np.stack([recorded.truth[path.format(layer)] for layer in layers], axis=1)


def test_select__gives_a_fused_part_as_fan_out_by_fan_in(gpt2):
    whole = truth(gpt2, "h.{}.attn.qkv.weight")
    for at, part in enumerate("qkv"):
        found = select(gpt2.run, role=part)
        assert found.dims == ("step", "layer", "fan_out", "fan_in")
        np.testing.assert_array_equal(found, whole[..., 6 * at : 6 * (at + 1)].swapaxes(-1, -2))
        assert found["layer"].values.tolist() == [0, 1]
        assert found["parameter"].values.tolist() == ["h.0.attn.qkv.weight", "h.1.attn.qkv.weight"]
        assert found.attrs["part"] == part


def test_select__gives_the_whole_of_a_fused_weight(gpt2):
    found = select(gpt2.run, role="qkv")
    np.testing.assert_array_equal(found, truth(gpt2, "h.{}.attn.qkv.weight").swapaxes(-1, -2))


def test_select__gives_parts_of_biases(gpt2):
    found = select(gpt2.run, role="k", kind="bias")
    assert found.dims == ("step", "layer", "fan_out")
    np.testing.assert_array_equal(found, truth(gpt2, "h.{}.attn.qkv.bias")[..., 6:12])


def test_select__drops_the_dimension_of_a_single_step_or_layer(gpt2):
    found = select(gpt2.run, role="v", layer=1, step=10)
    assert found.dims == ("fan_out", "fan_in")
    np.testing.assert_array_equal(found, gpt2.truth["h.1.attn.qkv.weight"][1][:, 12:].T)
    assert found["parameter"].item() == "h.1.attn.qkv.weight"


@pytest.mark.parametrize("layer", [[1], (1,), {1}, range(1, 2), np.array([1]), (one for one in [1])])
@pytest.mark.parametrize("step", [[10], range(10, 11), np.array([10])])
def test_select__takes_any_collection_of_labels(gpt2, layer, step):
    if not isinstance(layer, list | tuple | set | range | np.ndarray):
        layer = iter([1])  # a fresh one for each case
    found = select(gpt2.run, role="o", layer=layer, step=step)
    assert found.sizes["layer"] == found.sizes["step"] == 1
    np.testing.assert_array_equal(found[0, 0], gpt2.truth["h.1.attn.o.weight"][1].T)


@pytest.mark.parametrize("number", [10, np.int64(10), np.int32(10)])
def test_select__takes_any_integer(gpt2, number):
    assert select(gpt2.run, role="o", step=number, layer=np.int8(0)).dims == ("fan_out", "fan_in")


def test_select__takes_a_slice_of_steps(record):
    found = record(steps=(0, 5, 10, 20))
    assert select(found.run, role="o", step=slice(5, 10))["step"].values.tolist() == [5, 10]
    assert select(found.run, role="o", step=slice(None))["step"].values.tolist() == [0, 5, 10, 20]


def test_select__splits_heads_of_q_along_fan_out_and_of_o_along_fan_in(gpt2):
    q = select(gpt2.run, role="q", heads=True)
    assert q.dims == ("step", "layer", "head", "head_dim", "fan_in")
    whole = truth(gpt2, "h.{}.attn.qkv.weight")[..., :6].swapaxes(-1, -2)
    np.testing.assert_array_equal(q, whole.reshape(2, 2, 2, 3, 6))
    o = select(gpt2.run, role="o", heads=True)
    assert o.dims == ("step", "layer", "fan_out", "head", "head_dim")
    np.testing.assert_array_equal(o, truth(gpt2, "h.{}.attn.o.weight").swapaxes(-1, -2).reshape(2, 2, 6, 2, 3))
    assert o["head"].values.tolist() == [0, 1]


def test_select__splits_keys_by_their_own_count_of_heads(record, layout):
    parts = Parts(axis=0, names=("q", "k", "v"), sizes=(8, 4, 4))
    one = layout("h.0.qkv", "h.qkv", Role.QKV, 0, (16, 5), parts=parts, heads=4, kv_heads=2, head_dim=2)
    found = record([one])
    assert select(found.run, role="q", heads=True).sizes["head"] == 4
    k = select(found.run, role="k", heads=True, step=0, layer=0)
    np.testing.assert_array_equal(k, found.truth["h.0.qkv"][0][8:12].reshape(2, 2, 5))


def test_select__takes_interleaved_parts_apart(record, layout):
    parts = Parts(axis=0, names=("q", "k", "v"), sizes=(2, 2, 2), repeats=3)
    found = record([layout("h.0.qkv", "h.qkv", Role.QKV, 0, (18, 5), parts=parts, heads=3, kv_heads=3, head_dim=2)])
    whole = found.truth["h.0.qkv"][0].reshape(3, 3, 2, 5)
    for at, part in enumerate("qkv"):
        np.testing.assert_array_equal(select(found.run, role=part, step=0, layer=0), whole[:, at].reshape(6, 5))
        np.testing.assert_array_equal(select(found.run, role=part, heads=True, step=0, layer=0), whole[:, at])


def test_select__tells_that_heads_are_not_known(record, layout):
    found = record([layout("h.0.q", "h.q", Role.Q, 0, (6, 5))])
    with pytest.raises(NoMatch, match=r"heads of 'q' are not known here \(heads=0.*select without heads=True"):
        select(found.run, role="q", heads=True)


@pytest.mark.parametrize("wanted", [{"role": "unembedding"}, {"path": "head.weight"}])
def test_select__finds_a_tied_weight_under_the_name_that_was_kept(gpt2, wanted):
    found = select(gpt2.run, **wanted)
    np.testing.assert_array_equal(found, gpt2.truth["wte.weight"])
    assert found["parameter"].item() == "wte.weight"


@pytest.mark.parametrize("path", ["h.attn.o.weight", "h.*.o.weight", "*attn.o*", "h.attn.[o].weight"])
def test_select__takes_a_path_or_a_pattern(gpt2, path):
    np.testing.assert_array_equal(select(gpt2.run, path=path), truth(gpt2, "h.{}.attn.o.weight").swapaxes(-1, -2))


def test_select__takes_a_path_of_any_kind(gpt2):
    assert select(gpt2.run, path="h.attn.qkv.bias").dims == ("step", "layer", "fan_out")


def test_select__takes_a_name_with_the_letters_of_a_pattern(record, layout):
    found = record([layout("w[0]*", "w[0]*", Role.OTHER, -1, (2,)), layout("w0x", "w0x", Role.OTHER, -1, (3,))])
    np.testing.assert_array_equal(select(found.run, path="w[0]*"), found.truth["w[0]*"])


@pytest.mark.parametrize("path", ["h.1.attn.o.weight", "h.1.*.o.*"])
def test_select__of_a_full_name_gives_that_parameter_and_none_of_its_siblings(gpt2, path):
    found = select(gpt2.run, path=path)
    assert found["layer"].values.tolist() == [1]
    np.testing.assert_array_equal(found[:, 0], gpt2.truth["h.1.attn.o.weight"].swapaxes(-1, -2))
    assert select(gpt2.run, path=path, layer=1).dims == ("step", "fan_out", "fan_in")


def test_select__by_name_gives_layers_that_lie_apart(record, gpt2_layout):
    found = record(gpt2_layout(layers=(0, 1, 2)))
    weights = select(found.run, path="h.[02].attn.o.weight")
    assert weights["layer"].values.tolist() == [0, 2]
    assert weights["parameter"].values.tolist() == ["h.0.attn.o.weight", "h.2.attn.o.weight"]
    np.testing.assert_array_equal(weights, truth(found, "h.{}.attn.o.weight", (0, 2)).swapaxes(-1, -2))


def test_select__labels_the_values_as_xarray_would(gpt2):
    names = [f"h.{layer}.attn.qkv.bias" for layer in (0, 1)]
    group = gpt2.run["weights"].children[gpt2.run["parameters/weights"].sel(parameter=names[0]).item()]
    expected = group.to_dataset()["value"].assign_coords(parameter=("layer", names))
    found = select(gpt2.run, role="qkv", kind="bias")
    xr.testing.assert_identical(found, expected)
    assert found.indexes.keys() == {"step", "layer"}
    found.attrs["mine"] = found["step"].attrs["mine"] = found["attempt"].attrs["mine"] = True
    assert not any("mine" in values.attrs for values in group.to_dataset().variables.values())


def test_select__is_lazy(gpt2):
    for file in Path(gpt2.run.attrs["path"]).glob("weights/*/value/c*"):
        file.unlink()
    assert np.isnan(select(gpt2.run, role="q", heads=True)).all()


def two_stacks(layout):
    for stack in ("encoder", "decoder"):
        yield layout(f"{stack}.0.q", f"{stack}.q", Role.Q, 0, (4, 4), stack=stack)
    yield layout("decoder.0.cross.q", "decoder.cross.q", Role.CROSS_Q, 0, (4, 4))


def test_select__lists_what_is_ambiguous(record, layout):
    found = record(two_stacks(layout))
    with pytest.raises(AmbiguousSelection, match=r"2 arrays fit: encoder\.q \(stack encoder, .*; decoder\.q .*path="):
        select(found.run, role="q")
    np.testing.assert_array_equal(select(found.run, role="q", stack="encoder")[:, 0], found.truth["encoder.0.q"])
    np.testing.assert_array_equal(select(found.run, role="cross_q")[:, 0], found.truth["decoder.0.cross.q"])


def test_select__tells_layers_of_another_shape_apart(record, layout):
    found = record([layout(f"h.{at}.q", "h.q", Role.Q, at, (4 + at, 4)) for at in range(2)])
    with pytest.raises(AmbiguousSelection, match="2 arrays fit"):
        select(found.run, role="q")
    np.testing.assert_array_equal(select(found.run, role="q", layer=1), found.truth["h.1.q"])


def test_select__lists_the_layers_that_have_a_role(record, layout):
    found = record([layout(f"h.{at}.q", "h.q", Role.Q, at, (4, 4)) for at in (1, 5)])
    assert select(found.run, role="q")["layer"].values.tolist() == [1, 5]
    for layer in (3, [1, 3]):
        with pytest.raises(NoMatch, match=r"No layer .*3.* layers that .*: \[1, 5\]"):
            select(found.run, role="q", layer=layer)


def test_select__names_the_nearest_steps(record):
    found = record(steps=(0, 4, 10, 100, 200), skip=(4,))
    for step in (11, [10, 11]):
        with pytest.raises(StepNotRecorded, match="No snapshot at step 11; the nearest are at 0, 10, 100"):
            select(found.run, role="q", step=step)
    with pytest.raises(StepNotRecorded, match="No snapshot at step 4; the nearest are at 0, 10, 100"):
        select(found.run, role="q", step=4)


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"role": "qq"}, r"No weight has role 'qq'\. Roles in this run: .*embedding.*, o, qkv, unembedding"),
        ({"role": "embedding", "kind": "bias"}, r"No bias has role 'embedding'\. Roles in this run: qkv"),
        ({"role": "q", "stack": "encoder"}, "No weight has role 'q' in stack 'encoder'"),
        ({"path": "h.attn.qvk.weight"}, r"No parameter matches 'h\.attn\.qvk\.weight'\. Closest: 'h\..*qkv.*wdyn info"),
        (
            {"quantity": "gradients", "role": "q"},
            r"Arrays are kept of weights only, .*wdyn\.statistics\(run, 'gradients'",
        ),
    ],
)
def test_select__says_what_is_there_when_nothing_fits(gpt2, wanted, match):
    with pytest.raises(NoMatch, match=match):
        select(gpt2.run, **wanted)


def test_select__says_that_no_weights_were_kept(record):
    found = record(steps=(0,), skip=(0,))
    with pytest.raises(StepNotRecorded, match="No snapshot at step 0"):
        select(found.run, role="q", step=0)
    bare = found.run.drop_nodes("weights")
    with pytest.raises(NoMatch, match=r"No weights were kept of .*Keep them with watch\(\.\.\., snapshots=\.\.\.\)"):
        select(bare, role="q")


def test_select__works_on_joined_runs(record, gpt2_layout):
    one, other = record(seed=1), record(gpt2_layout(layers=(0, 1, 2)), seed=2, steps=(0, 7))
    found = select(join_runs(a=one.run, b=other.run), role="q")
    assert found.dims == ("run", "step", "layer", "fan_out", "fan_in")
    assert found["parameter"].values.tolist() == [f"h.{at}.attn.qkv.weight" for at in range(3)]
    np.testing.assert_array_equal(
        found.sel(run="b", step=7), truth(other, "h.{}.attn.qkv.weight", range(3))[1][..., :6].swapaxes(-1, -2)
    )
    np.testing.assert_array_equal(
        found.sel(run="a", step=10, layer=[0, 1]), truth(one, "h.{}.attn.qkv.weight")[1][..., :6].swapaxes(-1, -2)
    )
    assert np.isnan(found.sel(run="a", step=7)).all()
    assert np.isnan(found.sel(run="a", layer=2)).all()
    assert select(join_runs(a=one.run, b=other.run), role="q", heads=True, step=0, layer=0).sizes["head"] == 2


def test_select__tells_a_bias_from_a_weight(record, layout):
    found = record(
        [
            layout("h.0.ln.w", "h.ln.w", Role.NORM, 0, (4,)),
            layout("h.0.ln.b", "h.ln.b", Role.NORM, 0, (4,), kind=Kind.BIAS),
        ]
    )
    np.testing.assert_array_equal(select(found.run, role="norm")[:, 0], found.truth["h.0.ln.w"])
    np.testing.assert_array_equal(select(found.run, role="norm", kind="bias")[:, 0], found.truth["h.0.ln.b"])
