"""Do the parts of a fused weight lie where they are said to lie? Asked of the models, not of their names."""

import pytest
import torch

from wdyn.capture.anatomy import addresses
from wdyn.capture.evidence import Member, Owner
from wdyn.capture.heads import Heads
from wdyn.capture.parts import fused_parts
from wdyn.schema import FAN_IN, FAN_OUT, Parts, Role

ATTENTION = [
    "gpt2",
    "gpt_neox",
    "bloom",
    "falcon",
    "falcon_grouped",
    "gpt_bigcode",
    "phi3",
    "torch_encoder",
    "modernbert",
]
GATED = ["phi3", "gpt_oss", "mixtral", "modernbert"]


def places_of(parts: Parts, length: int, name: str) -> torch.Tensor:
    """Indices of a part along its axis, from the pattern of sizes."""
    labels = [label for label, size in zip(parts.names, parts.sizes, strict=True) for _ in range(size)] * parts.repeats
    assert len(labels) == length
    return torch.tensor([place for place, label in enumerate(labels) if label == name])


@torch.no_grad()
def scale(model, role, part, factor):
    """Multiply a part (or, with part "", a whole role) by a factor, in matrices and biases of every layer."""
    live = dict(model.named_parameters())
    touched = 0
    for address in addresses(model):
        if address.role != role:
            continue
        if not part:
            live[address.name].mul_(factor)
            touched += 1
        elif address.parts and part in address.parts.names:
            axis = address.parts.axis
            index = places_of(address.parts, address.shape[axis], part)
            live[address.name].index_copy_(axis, index, live[address.name].index_select(axis, index) * factor)
            touched += 1
    assert touched


@torch.no_grad()
def output(model, layout):
    if layout == "torch_encoder":
        return model(torch.linspace(-1, 1, 5 * 32).reshape(1, 5, 32))
    return model(input_ids=torch.arange(1, 9)[None]).logits


def prepared(build, layout):
    """A model whose outputs differ for every change: random weights everywhere, no dropout."""
    model = build(layout, fresh=True).eval().double()
    torch.manual_seed(1)
    if hasattr(model, "config"):
        model.config._experts_implementation = "eager"  # the grouped kernel knows no float64
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


def changed(build, layout, *changes):
    model = prepared(build, layout)
    for role, part, factor in changes:
        scale(model, role, part, factor)
    return output(model, layout) if layout != "torch_encoder" else output(model.double(), layout)


@pytest.fixture(autouse=True)
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@torch.no_grad()
def without_bias_of_o(build, layout, *changes):
    model = prepared(build, layout)
    for address in addresses(model):
        if address.role == "o" and address.kind == "bias":
            dict(model.named_parameters())[address.name].zero_()
    for change in changes:
        scale(model, *change)
    return output(model, layout)


@pytest.mark.parametrize("layout", ATTENTION)
def test_parts__zero_values_are_a_zero_output_projection(layout, build):
    plain = without_bias_of_o(build, layout)
    values = without_bias_of_o(build, layout, ("qkv", "v", 0))
    outputs = without_bias_of_o(build, layout, ("o", "", 0))
    torch.testing.assert_close(values, outputs)
    assert not torch.allclose(values, plain)


@pytest.mark.parametrize("layout", ATTENTION)
def test_parts__zero_queries_are_zero_keys(layout, build):
    queries, keys = (changed(build, layout, ("qkv", part, 0)) for part in "qk")
    torch.testing.assert_close(queries, keys)
    assert not torch.allclose(queries, changed(build, layout, ("qkv", "v", 0)))


@pytest.mark.parametrize("layout", ["mixtral", "phi3", "modernbert"])
def test_parts__doubling_up_is_doubling_down(layout, build):
    up = changed(build, layout, ("mlp_gate_up", "mlp_up", 2))
    torch.testing.assert_close(up, changed(build, layout, ("mlp_down", "", 2)))
    assert not torch.allclose(up, changed(build, layout, ("mlp_gate_up", "mlp_gate", 2)))


def test_parts__interleaved_gates_shut_the_mlp_but_ups_do_not(build):
    """gpt-oss computes (up + 1) * gate * sigmoid(1.702 gate): a zero gate is a zero MLP, a zero up is not."""
    shut = changed(build, "gpt_oss", ("mlp_gate_up", "mlp_gate", 0))
    model = prepared(build, "gpt_oss")
    live = dict(model.named_parameters())
    with torch.no_grad():
        for address in addresses(model):
            if address.role == "mlp_down" and address.kind == "weight":
                live[address.name].zero_()
    torch.testing.assert_close(shut, output(model, "gpt_oss"))
    assert not torch.allclose(shut, changed(build, "gpt_oss", ("mlp_gate_up", "mlp_up", 0)))


def test_parts__of_a_latent_attention_are_keys_and_values_of_each_head(build):
    model = prepared(build, "deepseek_v3")
    parts = {a.parts for a in addresses(model) if a.name.endswith("kv_b_proj.weight")}
    assert parts == {Parts(0, ("k", "v"), (8, 8), 4, "module")}
    values = changed(build, "deepseek_v3", ("kv", "v", 0))
    torch.testing.assert_close(values, changed(build, "deepseek_v3", ("o", "", 0)))


def test_parts__of_an_lstm_are_its_gates_in_torch_order():
    cell = torch.nn.LSTM(3, 5)
    (ih, hh) = (a for a in addresses(cell) if a.kind == "weight")
    index = places_of(ih.parts, 20, "o")
    with torch.no_grad():
        for weight in cell.parameters():
            weight[index] = -1e4 if weight.dim() == 1 else 0.0
    outputs, _ = cell(torch.ones(2, 1, 3))
    assert torch.all(outputs == 0)  # the output gate is shut
    assert hh.parts.names == ("i", "f", "g", "o")


def member(name, shape):
    return Member(tuple(name.split(".")), shape, Owner.LINEAR)


def test_fused_parts__unknown_where_the_order_of_gate_and_up_is():
    dims = (FAN_OUT, FAN_IN)
    known = fused_parts(member("mlp.gate_up_proj.weight", (8, 2)), Role.MLP_GATE_UP, dims, heads=Heads())
    assert known == Parts(0, ("mlp_gate", "mlp_up"), (4, 4), 1, "convention")
    assert fused_parts(member("mlp.fc1.weight", (8, 2)), Role.MLP_GATE_UP, dims, heads=Heads()) is None


def test_fused_parts__a_family_known_to_be_different_is_never_guessed():
    attention = member("attn.qkv_proj.weight", (96, 32))
    heads = Heads(4, 4, 8, "config")
    parts = [
        fused_parts(attention, Role.QKV, (FAN_OUT, FAN_IN), heads=heads, config={"model_type": family})
        for family in ("phi3", "codegen")
    ]
    assert parts == [Parts(0, ("q", "k", "v"), (32, 32, 32), 1, "config"), None]
