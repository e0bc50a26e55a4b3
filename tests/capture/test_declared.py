"""Does what the user says of a fused weight override the evidence, and is it refused where it cannot be?"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import wdyn
from wdyn.capture.anatomy import addresses
from wdyn.capture.declared import check_parts
from wdyn.errors import InvalidArgument
from wdyn.schema import Parts, parts_from_json


def net(fan_out=48, fan_in=16, layers=2, name="mix"):
    """Blocks whose fused weight has a name and a shape from which nothing follows."""

    def block():
        made = nn.Module()
        made.norm = nn.LayerNorm(fan_in)
        made.add_module(name, nn.Linear(fan_in, fan_out))
        return made

    model = nn.Module()
    model.blocks = nn.ModuleList(block() for _ in range(layers))
    return model


def told(model, parts):
    """Splits of matrices and of biases, by the last two components of their names."""
    found = {one.name.split(".", 2)[2]: one for one in addresses(model, parts=parts)}
    return found["mix.weight"], found["mix.bias"]


def test_addresses__take_equal_parts_in_the_order_that_was_said():
    assert told(net(), None)[0].parts is None
    weight, bias = told(net(), {"blocks.*.mix.weight": "k,q,v"})
    assert weight.parts == bias.parts == Parts(0, ("k", "q", "v"), (16, 16, 16), 1, "user")
    assert (weight.heads, weight.role) == (0, "linear")


def test_addresses__take_lengths():
    weight, bias = told(net(), {"*mix*": "q:32, k:8, v:8"})
    assert weight.parts == bias.parts == Parts(0, ("q", "k", "v"), (32, 8, 8), 1, "user")


@pytest.mark.parametrize(
    ("text", "sizes", "heads"),
    [
        ("per_head:4", (4, 4, 4), (4, 4, 4)),
        ("q,k,v per_head:4", (4, 4, 4), (4, 4, 4)),
        ("q:8,k:2,v:2 per_head:4", (8, 2, 2), (16, 4, 2)),
    ],
)
def test_addresses__take_parts_that_repeat_by_head(text, sizes, heads):
    weight, bias = told(net(), {"*mix*": text})
    assert weight.parts == Parts(0, ("q", "k", "v"), sizes, 4, "user")
    assert (weight.heads, weight.kv_heads, weight.head_dim) == heads
    assert (bias.heads, bias.kv_heads, bias.head_dim) == heads


def test_addresses__take_parts_along_any_axis():
    weight, bias = told(net(), {"*mix*": Parts(1, ("left", "right"), (4, 12))})
    assert weight.parts == Parts(1, ("left", "right"), (4, 12), 1, "user")
    assert bias.parts is None  # a bias has no inputs


def test_addresses__let_the_user_overrule_the_module(build):
    model = build("gpt2")
    weight = next(one for one in addresses(model, parts={"*c_attn*": "v,k,q"}) if one.name.endswith("c_attn.weight"))
    assert weight.parts == Parts(1, ("v", "k", "q"), (32, 32, 32), 1, "user")
    assert weight.heads == 4  # nothing was said of these


def test_addresses__the_first_pattern_that_matches_decides():
    weight, _ = told(net(), {"blocks.*.mix.weight": "q,k,v", "*": "k,v"})
    assert weight.parts.names == ("q", "k", "v")


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"*qkv*": "q,k,v"}, r"parts=\{'\*qkv\*': \.\.\.\} matches no matrix\. Closest: .*blocks"),
        ({"*norm*": "q,k,v"}, "matches no matrix"),
        ({"*mix*": "q:32,k:8,v:9"}, r"axes \{'fan_out': 48, 'fan_in': 16\}; q 32 \+ k 8 \+ v 9 make 49 of the 48"),
        ({"*mix*": "a,b,c,d,e"}, r"a 9 \+ .* make 45 of the 48 along axis 0"),
        ({"*mix*": "per_head:5"}, r"q 3 \+ k 3 \+ v 3, 5 times, make 45 of the 48"),
        ({"*mix*": Parts(2, ("q",), (48,))}, "and none is number 2"),
        ({"*mix*": Parts(0, ("q", "q"), (24, 24))}, "needed is one length, 1 or more, for each"),
        ({"*mix*": Parts(0, ("q", "k"), (48,))}, "needed is one length, 1 or more, for each"),
        ({"*mix*": "q:48,k:0"}, "needed is one length, 1 or more, for each"),
        ({"*mix*": ""}, "'' is no split; needed is one such as"),
        ({"*mix*": "q k v"}, "'q k v' is no split"),
        ({"*mix*": "q;k"}, "'q;k' is no split"),
        ({"*mix*": 3}, "3 is no split"),
        ("q,k,v", "needed is a mapping such as"),
    ],
)
def test_parts__that_cannot_be_meant_are_refused(parts, match, tmp_path):
    model = net()
    with pytest.raises(InvalidArgument, match=match):
        wdyn.describe(model, parts=parts)
    with pytest.raises(InvalidArgument, match=match):
        wdyn.watch(model, to=tmp_path / "run.zarr", parts=parts)
    assert not (tmp_path / "run.zarr").exists()


def test_check_parts__says_that_an_axis_without_a_name_needs_its_number():
    known = addresses({"a": torch.zeros(2, 3, 4), "b.weight": torch.zeros(3, 3)})
    with pytest.raises(InvalidArgument, match=r"a has axes .*, none of them fan_out; give a wdyn\.schema\.Parts"):
        check_parts({"a": "q,k"}, known)
    check_parts({"a": Parts(0, ("q", "k"), (1, 1))}, known)


def test_describe__takes_parts_of_a_state_dict():
    table = wdyn.describe(net().state_dict(), parts={"*mix*": "q,k,v"})
    assert parts_from_json(table["parts"].sel(parameter="blocks.1.mix.weight").item()).source == "user"


def test_watch__select_uses_the_parts_that_the_user_declared(tmp_path):
    model = net()
    with wdyn.watch(model, to=tmp_path / "run.zarr", parts={"*mix*": "per_head:4"}):
        pass
    run = wdyn.open_run(tmp_path / "run.zarr")
    k = wdyn.select(run, role="k", heads=True, step=0)
    assert k.dims == ("layer", "head", "head_dim", "fan_in")
    weights = torch.stack([block.mix.weight for block in model.blocks]).detach().view(2, 4, 3, 4, 16)
    np.testing.assert_array_equal(k, weights[:, :, 1])
    bias = wdyn.select(run, role="k", kind="bias", step=0, layer=1)
    np.testing.assert_array_equal(bias, model.blocks[1].mix.bias.detach().view(4, 3, 4)[:, 1].reshape(-1))
    assert json.loads(run["parameters"]["parts"].sel(parameter="blocks.0.mix.weight").item())["source"] == "user"


@pytest.mark.filterwarnings("ignore:The model has parameters that it had not")
def test_watch__a_new_layer_that_the_parts_do_not_fit_has_unknown_ones(tmp_path):
    model = net()
    with wdyn.watch(model, to=tmp_path / "run.zarr", every=1, parts={"*mix*": "q,k,v"}) as w:
        model.blocks.append(net(fan_out=50).blocks[0])
        w.step()
    table = wdyn.parameters(wdyn.open_run(tmp_path / "run.zarr"))["parts"].to_series()
    assert {name.split(".")[1] for name, parts in table.items() if parts} == {"0", "1"}
    assert table["blocks.2.mix.weight"] == ""


names = st.lists(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), min_size=1, max_size=4, unique=True)


@given(names=names, sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4), repeats=st.integers(1, 4))
def test_parts__that_add_up_are_taken_as_they_are(names, sizes, repeats):
    sizes = tuple(sizes[: len(names)])
    state = {"x.weight": torch.zeros(sum(sizes) * repeats, 3)}
    text = ",".join(f"{name}:{size}" for name, size in zip(names, sizes, strict=True)) + f" per_head:{repeats}"
    (one,) = addresses(state, parts={"x.weight": text})
    assert one.parts == Parts(0, tuple(names), sizes, repeats, "user")
    (other,) = addresses(state, parts={"x.weight": Parts(0, tuple(names), sizes, repeats)})
    assert other.parts == one.parts
