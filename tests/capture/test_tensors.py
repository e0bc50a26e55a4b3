"""Are the live tensors given, under canonical names, each time anew?"""

import pytest
import torch
from torch import nn

from wdyn.capture.tensors import named_tensors, uninitialised


def test_named_tensors__are_the_live_ones(build):
    model = build("nano_gpt")
    tensors = named_tensors(model)
    assert tensors["lm_head.weight"] is model.lm_head.weight
    assert tensors["transformer.wte.weight"] is model.lm_head.weight
    assert "transformer.h.0.attn.bias" in tensors


def test_named_tensors__follow_replaced_parameters():
    net = nn.Linear(2, 2)
    old = named_tensors(net)["weight"]
    net.load_state_dict({name: tensor.clone() for name, tensor in net.state_dict().items()}, assign=True)
    assert named_tensors(net)["weight"] is net.weight
    assert named_tensors(net)["weight"] is not old


def test_named_tensors__leave_out_buffers_that_are_not_saved():
    net = nn.Module()
    net.register_buffer("kept", torch.zeros(1))
    net.register_buffer("lost", torch.zeros(1), persistent=False)
    assert list(named_tensors(net)) == ["kept"]


def test_named_tensors__give_raw_parameters_and_never_run_the_power_iteration():
    net = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    tensors = named_tensors(net)
    assert "parametrizations.weight.original" in tensors
    assert "weight" not in tensors
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_uninitialised__lists_what_a_lazy_module_has_not_made_yet():
    net = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    assert uninitialised(net) == ["0.weight", "0.bias"]
    assert list(named_tensors(net)) == ["1.weight", "1.bias"]
    net(torch.zeros(1, 5))
    assert uninitialised(net) == []
    assert list(named_tensors(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_named_tensors__of_a_compiled_and_wrapped_model_have_plain_names():
    net = nn.Sequential(nn.Linear(2, 2))
    wrapped = nn.Module()
    wrapped.module = torch.compile(net, backend="eager")
    assert list(named_tensors(wrapped)) == ["0.weight", "0.bias"]
