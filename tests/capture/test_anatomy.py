"""Is every parameter of every layout told right, from the module and from bare names and shapes?"""

import json
import time

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from wdyn import describe
from wdyn.capture.anatomy import addresses
from wdyn.errors import InvalidArgument
from wdyn.schema import Role, parts_from_json

# What nothing but a module can tell: tensors whose names and shapes would fit something else as well.
UNTOLD = {"lstm_language_model", "unnamed"}


def judged(found):
    return {a.name: (str(a.role), a.layer, a.stack if a.layer >= 0 else "") for a in found if a.role is not Role.BUFFER}


def groups(found):
    by_leader = {}
    for address in found:
        if address.tied_to:
            by_leader.setdefault(address.tied_to, {address.tied_to}).add(address.name)
    return {frozenset(group) for group in by_leader.values()}


def splits(found):
    out = {}
    for address in found:
        if address.parts and address.kind == "weight":
            parts = address.parts
            out.setdefault(str(address.role), set()).add((parts.axis, parts.repeats, parts.names, parts.sizes))
    return out


def test_addresses__tell_every_parameter_of_a_module(every_layout, build, expected):
    model, table = build(every_layout), expected[every_layout]
    found = addresses(model)
    assert judged(found) == {name: table.of(name) for name, _ in model.named_parameters(remove_duplicate=False)}
    layers = {(a.stack, a.layer) for a in found if a.layer >= 0}
    assert {stack: sum(s == stack for s, _ in layers) for stack in table.stacks} == table.stacks
    assert groups(found) == table.tied
    assert splits(found) == {role: set(parts) for role, parts in table.parts.items()}


def test_addresses__tell_bare_names_and_shapes_or_say_that_they_cannot(every_layout, build, expected):
    model, table = build(every_layout), expected[every_layout]
    state = {name: p.detach() for name, p in model.named_parameters(remove_duplicate=False)}
    found = addresses(state)
    for name, (role, layer, stack) in judged(found).items():
        right = table.of(name)
        if every_layout in UNTOLD:
            assert role in (right[0], Role.OTHER, Role.LINEAR), name
            assert (layer, stack) in ((right[1], right[2]), (right[1], "root")), name
        else:
            assert (role, layer, stack) == right, name
    for role, parts in splits(found).items():
        assert parts <= set(table.parts[role]), role


def test_addresses__follow_named_parameters_then_buffers(build):
    model = build("nano_gpt")
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    found = addresses(model)
    assert [a.name for a in found][: len(names)] == names
    assert [a.name for a in found][len(names) :] == [f"transformer.h.{layer}.attn.bias" for layer in range(3)]
    assert {a.kind for a in found[len(names) :]} == {"buffer"}


def test_addresses__name_axes_as_the_layer_computes(build):
    gpt2 = {a.name: a.dims for a in addresses(build("gpt2"))}
    assert gpt2["transformer.h.0.mlp.c_fc.weight"] == ("fan_in", "fan_out")
    assert gpt2["transformer.wte.weight"] == ("fan_out", "fan_in")
    assert gpt2["transformer.h.0.ln_1.weight"] == ("fan_out",)
    nano = {a.name: a.dims for a in addresses(build("nano_gpt"))}
    assert nano["transformer.h.0.mlp.c_fc.weight"] == ("fan_out", "fan_in")
    experts = {a.name: a.dims for a in addresses(build("gpt_oss"))}
    assert experts["model.layers.0.mlp.experts.gate_up_proj"] == ("expert", "fan_in", "fan_out")
    assert experts["model.layers.0.mlp.experts.gate_up_proj_bias"] == ("expert", "fan_out")
    heads = {a.name: a.dims for a in addresses(build("heads_as_an_axis"))}
    assert heads["blocks.0.attn.W_Q"] == ("head", "fan_in", "head_dim")
    assert heads["blocks.0.attn.W_O"] == ("head", "head_dim", "fan_out")
    assert heads["blocks.0.attn.b_Q"] == ("head", "head_dim")
    assert heads["unembed.W_U"] == ("fan_in", "fan_out")
    patches = {a.name: a.dims for a in addresses(build("vision_blocks"))}
    assert patches["patch_embed.proj.weight"] == ("fan_out", "fan_in", "kernel_0", "kernel_1")
    assert patches["pos_embed"] == ("dim_0", "dim_1", "dim_2")


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "gpt_oss", "heads_as_an_axis", "mamba"])
def test_addresses__find_the_same_axes_without_the_module(name, build):
    model = build(name)
    bare = {a.name: a.dims for a in addresses(model.state_dict())}
    assert bare == {a.name: a.dims for a in addresses(model)}


def test_addresses__count_heads(build):
    def heads(name, parameter):
        address = next(a for a in addresses(build(name)) if a.name.endswith(parameter))
        return address.heads, address.kv_heads, address.head_dim

    assert heads("gpt2", "h.0.attn.c_attn.weight") == (4, 4, 8)
    assert heads("llama", "layers.0.self_attn.k_proj.weight") == (4, 2, 8)
    assert heads("falcon", "h.0.self_attention.query_key_value.weight") == (4, 1, 8)
    assert heads("clip", "vision_model.encoder.layers.0.self_attn.q_proj.weight") == (3, 3, 8)
    assert heads("heads_as_an_axis", "blocks.0.attn.W_Q") == (4, 4, 8)
    assert heads("llama", "layers.0.mlp.up_proj.weight") == (0, 0, 0)


def test_addresses__a_config_tells_heads_and_splits_of_a_state_dict(build, expected):
    for name in ("gpt_neox", "phi3", "falcon_grouped", "gpt_oss", "bloom"):
        model = build(name)
        state = {key: tensor.detach() for key, tensor in model.state_dict().items()}
        found = splits(addresses(state, config=model.config.to_dict()))
        assert found == {role: set(parts) for role, parts in expected[name].parts.items()}


def test_addresses__unequal_or_interleaved_parts_stay_unknown_without_config(build):
    for name, role in (("gpt_neox", "qkv"), ("phi3", "qkv"), ("falcon", "qkv"), ("gpt_oss", "mlp_gate_up")):
        found = addresses(build(name).state_dict())
        assert {a.parts for a in found if a.role == role} == {None}


def test_addresses__thirds_under_a_usual_name_are_q_k_v_by_convention():
    state = {f"blocks.{layer}.attn.qkv.weight": torch.zeros(24, 8) for layer in range(2)}
    parts = addresses(state)[1].parts
    assert (parts.names, parts.sizes, parts.source) == (("q", "k", "v"), (8, 8, 8), "convention")
    state = {f"blocks.{layer}.attn.qkv.weight": torch.zeros(20, 8) for layer in range(2)}
    assert addresses(state)[1].parts is None


def test_addresses__a_head_count_that_does_not_fit_is_unknown():
    state = {f"h.{layer}.attn.{name}.weight": torch.zeros(30, 32) for layer in range(2) for name in "qkv"}
    assert {a.heads for a in addresses(state, config={"n_head": 4})} == {0}


def test_addresses__an_index_in_a_bare_sequential_is_the_layer():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    for model in (net, {name: p.detach() for name, p in net.named_parameters()}):
        found = {a.name: (str(a.role), a.layer, a.stack) for a in addresses(model)}
        assert {name: found[f"{name}.weight"] for name in "014"} == {
            "0": ("conv", 0, "root"), "1": ("norm", 1, "root"), "4": ("linear", 4, "root"),
        }  # fmt: skip
        assert all(found[f"{name}.bias"] == found[f"{name}.weight"] for name in "014")


def test_addresses__raw_parameters_of_normalised_weights_keep_role_and_owner():
    parametrized = nn.utils.parametrizations
    net = nn.Sequential(parametrized.weight_norm(nn.Linear(8, 8)), parametrized.spectral_norm(nn.Linear(8, 8)))
    weights = [a for a in addresses(net) if a.kind == "weight"]
    assert [a.name for a in weights] == [
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "1.parametrizations.weight.original",
    ]
    assert {(a.role, a.module) for a in weights} == {(Role.LINEAR, "Linear")}


def test_addresses__hold_for_one_parameter_and_for_none():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    (only,) = addresses(Scale())
    assert (only.name, only.layer, only.dims, only.numel) == ("scale", -1, (), 1)
    assert addresses(nn.ReLU()) == ()


def test_addresses__quantised_weights_keep_their_role():
    state = {
        f"h.{layer}.attn.{name}.weight": torch.zeros(4, 4, dtype=torch.int8) for layer in range(2) for name in "qkv"
    }
    assert {(a.role, a.dtype) for a in addresses(state)} == {(Role.Q, "int8"), (Role.K, "int8"), (Role.V, "int8")}


def test_addresses__frozen_parameters_are_told():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert [a.trainable for a in addresses(net)] == [True, False]


def test_describe__lays_the_addresses_out(build):
    table = describe(build("gpt2"))
    assert table.indexes["parameter"][0] == "transformer.wte.weight"
    row = table.sel(parameter="transformer.h.1.attn.c_attn.weight")
    assert (row["path"].item(), row["role"].item(), row["layer"].item()) == (
        "transformer.h.attn.c_attn.weight",
        "qkv",
        1,
    )
    assert (row["shape"].item(), row["module"].item()) == ("[32, 96]", "Conv1D")
    assert json.loads(row["dims"].item()) == ["fan_in", "fan_out"]
    assert parts_from_json(row["parts"].item()).sizes == (32, 32, 32)
    assert table["tied_to"].sel(parameter="lm_head.weight") == "transformer.wte.weight"
    assert table["layer"].dtype == np.int64
    assert table["trainable"].all()


def test_describe__refuses_what_is_no_model():
    with pytest.raises(InvalidArgument, match="Cannot describe a int"):
        describe(3)


def test_describe__changes_nothing(build):
    model = build("nano_gpt")
    before = {name: (p.data_ptr(), p._version, p.requires_grad) for name, p in model.named_parameters()}
    state = torch.get_rng_state()
    describe(model)
    assert before == {name: (p.data_ptr(), p._version, p.requires_grad) for name, p in model.named_parameters()}
    assert torch.equal(state, torch.get_rng_state())
    assert not any("wdyn" in key for module in model.modules() for key in vars(module))


def best_of(count, function):
    times = []
    for _ in range(count):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def test_describe__is_quick():
    with torch.device("meta"):
        small = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    assert best_of(5, lambda: describe(small)) < 0.05
    many = {
        f"h.{layer}.attn.{name}.weight": torch.empty(2, 2, device="meta") for layer in range(500) for name in "qkvo"
    }
    assert best_of(3, lambda: describe(many)) < 1
