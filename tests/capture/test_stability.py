"""Do wrapping, prefixes and renamed containers leave roles, layers and ties as they are?"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wdyn.capture.anatomy import addresses

words = st.from_regex(r"[a-zA-Z_]{1,12}", fullmatch=True)
WRAPPED = [
    "gpt2",
    "bert",
    "t5",
    "mixtral",
    "mamba",
    "vision_blocks",
    "heads_as_an_axis",
    "sequential",
    "stages",
    "linear",
]


def told(found, *, prefix=""):
    return [(a.name.removeprefix(prefix), str(a.role), a.layer, a.tied_to.removeprefix(prefix), a.parts) for a in found]


class Wrapper(nn.Module):
    """What a training framework puts around a model."""

    def __init__(self, inner, name="model"):
        super().__init__()
        self.add_module(name, inner)


@pytest.mark.parametrize("layout", WRAPPED)
@pytest.mark.parametrize("name", ["model", "module", "_orig_mod", "net", "experts", "head", "norm", "attn"])
def test_addresses__do_not_change_below_a_wrapper(layout, name, build):
    plain, wrapped = addresses(build(layout)), addresses(Wrapper(build(layout), name))
    prefix = "" if name in ("module", "_orig_mod") else f"{name}."
    assert told(wrapped, prefix=prefix) == told(plain)


@settings(max_examples=20)
@given(prefix=st.lists(words, min_size=1, max_size=4))
@pytest.mark.parametrize("layout", ["gpt2", "llama", "t5", "nano_gpt"])
def test_addresses__do_not_change_with_a_prefix(layout, build, prefix):
    front = ".".join(prefix) + "."
    state = build(layout).state_dict()
    moved = {front + name: tensor for name, tensor in state.items()}
    names = [a.name for a in addresses(moved)]
    # A prefix of wrappers' words is stripped; any other stays.
    stripped = front if names[0].startswith(front) else names[0].removesuffix(next(iter(state)))
    assert told(addresses(moved), prefix=stripped) == told(addresses(state))


@settings(max_examples=20)
@given(container=words)
def test_addresses__do_not_change_with_the_name_of_the_container(build, container):
    state = build("llama").state_dict()
    renamed = {name.replace(".layers.", f".{container}."): tensor for name, tensor in state.items()}
    if len(renamed) < len(state):
        return
    before = [(str(a.role), a.layer, a.tied_to != "") for a in addresses(state)]
    assert [(str(a.role), a.layer, a.tied_to != "") for a in addresses(renamed)] == before


def test_addresses__names_that_two_wrappers_would_merge_stay_apart():
    state = {"weight": torch.zeros(2, 2), "module.weight": torch.zeros(2, 2)}
    assert [a.name for a in addresses(state)] == ["weight", "module.weight"]


def test_addresses__follow_layers_that_were_added(build):
    model = build("nano_gpt", fresh=True)
    before = len(addresses(model))
    model.transformer.h.append(build("one_block", fresh=True).transformer.h[0])
    found = addresses(model)
    assert max(a.layer for a in found) == 3
    assert len(found) == before + 13
