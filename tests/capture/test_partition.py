"""Does every part of a fused weight consist of the elements that it has in the model that uses it?"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from wdyn.capture.anatomy import addresses
from wdyn.capture.partition import Partition, partition
from wdyn.schema import Address, Role

Slicer = Callable[[np.ndarray], np.ndarray]

NEOX = "gpt_neox.layers.0.attention.query_key_value"
FALCON = "transformer.h.0.self_attention.query_key_value.weight"

# The slices are written from how each model's own code uses its weights. Width 32, 4 heads of 8.
PARTS: list[tuple[str, str, str, str, Slicer]] = [
    ("gpt2", "transformer.h.1.attn.c_attn.weight", "q", "q", lambda w: w[:, :32]),
    ("gpt2", "transformer.h.1.attn.c_attn.weight", "v", "v", lambda w: w[:, 64:]),
    ("gpt2", "transformer.h.1.attn.c_attn.weight", "k head 3", "k", lambda w: w[:, 32 + 24 : 32 + 32]),
    ("gpt2", "transformer.h.1.attn.c_attn.bias", "k", "k", lambda w: w[32:64]),
    ("gpt2", "transformer.h.1.attn.c_attn.bias", "v head 0", "v", lambda w: w[64:72]),
    ("gpt2", "transformer.h.1.attn.c_proj.weight", "o head 2", "o", lambda w: w[16:24, :]),
    ("gpt2_cross", "transformer.h.0.crossattention.c_attn.weight", "cross_v", "cross_v", lambda w: w[:, 32:]),
    ("nano_gpt", "transformer.h.0.attn.c_attn.weight", "q head 1", "q", lambda w: w[8:16]),
    ("gpt_neox", f"{NEOX}.weight", "q", "q", lambda w: w.reshape(4, 3, 8, 32)[:, 0]),
    ("gpt_neox", f"{NEOX}.bias", "v", "v", lambda w: w.reshape(4, 3, 8)[:, 2]),
    (
        "gpt_neox",
        f"{NEOX}.weight",
        "k head 2",
        "k",
        lambda w: w.reshape(4, 3, 8, 32)[2, 1],
    ),
    (
        "falcon_grouped",
        FALCON,
        "q",
        "q",
        lambda w: w.reshape(2, 4, 8, 32)[:, :2],
    ),
    (
        "falcon_grouped",
        FALCON,
        "q head 3",
        "q",
        lambda w: w.reshape(2, 4, 8, 32)[1, 1],
    ),
    (
        "falcon_grouped",
        FALCON,
        "v head 1",
        "v",
        lambda w: w.reshape(2, 4, 8, 32)[1, 3],
    ),
    ("falcon", FALCON, "k head 0", "k", lambda w: w[32:40]),
    ("phi3", "model.layers.1.self_attn.qkv_proj.weight", "k", "k", lambda w: w[32:48]),
    ("phi3", "model.layers.1.self_attn.qkv_proj.weight", "v head 1", "v", lambda w: w[56:64]),
    ("phi3", "model.layers.1.mlp.gate_up_proj.weight", "mlp_up", "mlp_up", lambda w: w[48:]),
    ("llama", "model.layers.0.self_attn.q_proj.weight", "q head 3", "q", lambda w: w[24:32]),
    ("llama", "model.layers.0.self_attn.k_proj.weight", "k head 1", "k", lambda w: w[8:16]),
    ("llama", "model.layers.0.self_attn.o_proj.weight", "o head 1", "o", lambda w: w[:, 8:16]),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj", "mlp_gate", "mlp_gate", lambda w: w[..., ::2]),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj", "mlp_up", "mlp_up", lambda w: w[..., 1::2]),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj", "expert 2", "mlp_gate_up", lambda w: w[2]),
    ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_bias", "mlp_up", "mlp_up", lambda w: w[:, 1::2]),
    ("gpt_oss", "model.layers.0.mlp.experts.down_proj", "expert 3", "mlp_down", lambda w: w[3]),
    ("mixtral", "model.layers.0.mlp.experts.gate_up_proj", "mlp_gate", "mlp_gate", lambda w: w[:, :48]),
    ("mixtral", "model.layers.0.mlp.experts.down_proj", "expert 0", "mlp_down", lambda w: w[0]),
    (
        "deepseek_v3",
        "model.layers.0.self_attn.kv_b_proj.weight",
        "k",
        "k",
        lambda w: w.reshape(4, 16, 10)[:, :8],
    ),
    ("lstm", "weight_ih_l0", "o", "rnn_ih", lambda w: w[72:]),
    ("heads_as_an_axis", "blocks.0.attn.W_Q", "q head 2", "q", lambda w: w[2]),
    ("heads_as_an_axis", "blocks.0.attn.W_O", "o head 1", "o", lambda w: w[1]),
]  # fmt: skip


def numbered(address: Address) -> torch.Tensor:
    return torch.arange(address.numel, dtype=torch.float64).reshape(address.shape)


def elements(cut: Partition, cells: tuple[int, ...], tensor: torch.Tensor) -> list[float]:
    views = list(cut.views(tensor))
    return sorted(value for at in cells for value in views[at].reshape(-1).tolist())


@pytest.mark.parametrize(
    ("layout", "name", "part", "role", "slicer"), PARTS, ids=[f"{p[0]}-{p[1]}-{p[2]}" for p in PARTS]
)
def test_partition__holds_the_elements_that_the_model_uses(
    layout: str, name: str, part: str, role: str, slicer: Slicer, build: Callable[[str], nn.Module]
) -> None:
    address = next(one for one in addresses(build(layout)) if one.name == name)
    cut = partition(address, heads=True)
    assert cut is not None
    (found,) = [one for one in cut.parts if one.name == part]
    tensor = numbered(address)
    assert elements(cut, found.cells, tensor) == sorted(slicer(tensor.numpy()).ravel().tolist())
    assert found.role == role


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("layout", ["gpt2", "gpt_neox", "falcon_grouped", "phi3", "gpt_oss", "mixtral", "gru", "bart"])
def test_partition__cells_are_disjoint_views_that_cover_the_tensor(
    layout: str, heads: bool, build: Callable[[str], nn.Module]
) -> None:
    for address in addresses(build(layout)):
        cut = partition(address, heads=heads)
        if cut is not None:
            tensor = numbered(address)
            assert elements(cut, tuple(range(len(cut.cells))), tensor) == tensor.reshape(-1).tolist()
            assert all(view.untyped_storage().data_ptr() == tensor.data_ptr() for view in cut.views(tensor))


def test_partition__heads_come_on_request_only(build: Callable[[str], nn.Module]) -> None:
    for address in addresses(build("gpt2")):
        without, with_heads = partition(address, heads=False), partition(address, heads=True)
        assert (without is not None) == (address.parts is not None)
        if without is not None and with_heads is not None:
            assert [part.name for part in without.parts] == ["q", "k", "v"]
            assert [(part.name, part.head) for part in with_heads.parts if part.head >= 0] == [
                (f"{name} head {head}", head) for name in "qkv" for head in range(4)
            ]


def test_partition__a_weight_of_one_thing_has_none() -> None:
    plain = Address("w", "w", Role.LINEAR, "weight", "root", -1, (4, 4), ("fan_out", "fan_in"), "float32")
    assert partition(plain, heads=True) is None


def test_partition__heads_that_are_unknown_are_no_parts() -> None:
    q = Address("q", "q", Role.Q, "weight", "decoder", 0, (6, 4), ("fan_out", "fan_in"), "float32", heads=4)
    assert partition(q, heads=True) is None  # 4 heads do not fill 6 rows
