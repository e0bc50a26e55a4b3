"""Do wrapping, prefixes and renamed containers leave roles, layers and ties as they are?"""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wdyn.capture.anatomy import addresses

# Words that mean something elsewhere in a name, and words that mean nothing.
MEANINGFUL = (
    "layers h blocks encoder decoder stack stages layer body net main tower attn attention mlp ffn norm embed "
    "embeddings head heads expert experts moe lm_head self q k v model vision text pos_embed router gate conv lstm x"
).split()
words = st.from_regex(r"[a-zA-Z_]{1,12}", fullmatch=True) | st.sampled_from(MEANINGFUL)
CONTAINERS = {
    "gpt2": "h", "llama": "layers", "bert": "layer", "vision_blocks": "blocks", "nano_gpt": "h", "mixtral": "layers",
    "mamba": "layers", "gpt_neox": "layers", "phi3": "layers", "heads_as_an_axis": "blocks",
}  # fmt: skip
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


@settings(max_examples=30)
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


@settings(max_examples=30)
@given(names=st.lists(words, min_size=1, max_size=3))
@pytest.mark.parametrize("layout", ["gpt2", "mamba", "albert", "phi3"])
def test_addresses__do_not_change_within_modules_of_any_name(layout, build, names):
    plain = model = build(layout)
    for name in names:
        if hasattr(nn.Module(), name):
            return
        model = Wrapper(model, name)
    found = addresses(model)
    front = found[0].name.removesuffix(addresses(plain)[0].name)
    assert told(found, prefix=front) == told(addresses(plain))


@settings(max_examples=30)
@given(container=words)
@pytest.mark.parametrize("layout", CONTAINERS)
def test_addresses__do_not_change_with_the_name_of_the_container(layout, build, container):
    state = build(layout).state_dict()
    pattern = re.compile(rf"(?<![^.]){CONTAINERS[layout]}\.(?=\d)")
    renamed = {pattern.sub(f"{container}.", name, count=1): tensor for name, tensor in state.items()}
    if len(renamed) < len(state):
        return

    def told_without_names(found):
        return [(str(a.role), a.layer, a.tied_to != "", a.parts, a.heads) for a in found]

    assert told_without_names(addresses(renamed)) == told_without_names(addresses(state))


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
