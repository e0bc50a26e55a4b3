"""Are moments given the right names, and none where nothing proves them?"""

import pytest
import torch
from torch import nn

from wdyn.checkpoints.opening import open_saved


def stepped(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))


def check(saved, model, optimizer, same):
    for name, parameter in model.named_parameters():
        for key in saved.training.moments:
            assert same(saved.training.read(key, name), optimizer.state[parameter][key])


def test_moments__in_the_order_of_the_model(save, same):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    saved = open_saved(save(stepped(model, optimizer)))
    assert set(saved.training.moments) == {"exp_avg", "exp_avg_sq"}
    assert set(saved.training.moments["exp_avg"]) == {name for name, _ in model.named_parameters()}
    check(saved, model, optimizer, same)


def test_moments__in_groups_of_matrices_and_vectors(save, same):
    model = net()
    groups = [{"params": [p for p in model.parameters() if (p.ndim < 2) is vector]} for vector in (False, True)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    saved = open_saved(save(stepped(model, optimizer)))
    check(saved, model, optimizer, same)
    assert {name for name, group in saved.training.group_of.items() if group == 0} == {"0.weight", "2.weight"}


def test_moments__of_an_optimizer_that_names_its_parameters(save, same):
    model = net()
    named = list(model.named_parameters())[::-1]
    optimizer = torch.optim.SGD(named, lr=0.1, momentum=0.9)
    saved = open_saved(save(stepped(model, optimizer)))
    assert set(saved.training.moments) == {"momentum_buffer"}
    check(saved, model, optimizer, same)


def test_moments__are_not_guessed_where_no_order_fits(save):
    model = net()
    optimizer = torch.optim.AdamW(list(model.parameters())[::-1])
    training = open_saved(save(stepped(model, optimizer))).training
    assert training.moments == {}
    assert training.group_of == {}
    (note,) = training.notes
    assert "it numbers 6 parameters, and no known order of the model's fits their shapes" in note
    assert training.settings[0]["lr"] == 1e-3


def test_moments__are_not_guessed_where_two_orders_fit(save):
    # Every tensor has one length: whether matrices came first cannot be seen from the shapes.
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.LayerNorm(1), nn.Linear(1, 1))
    model[0].weight = nn.Parameter(torch.zeros(1))
    state = stepped(model, torch.optim.AdamW(model.parameters()))
    state["model"]["extra"] = torch.zeros(1, 1)
    training = open_saved(save(state)).training
    assert training.moments == {}


def test_moments__that_are_factored_are_left_out(save):
    model = nn.Sequential(nn.Linear(4, 6))
    state = stepped(model, torch.optim.Adafactor(model.parameters()))
    training = open_saved(save(state)).training
    assert all(set(names) <= {"0.bias"} for names in training.moments.values())


def test_moments__of_several_optimizers_are_told(save):
    model = net()
    state = stepped(model, torch.optim.AdamW(model.parameters()))
    training = open_saved(save({**state, "optimizer_of_the_rest": state["optimizer"]})).training
    assert training.notes[0].endswith("it holds 2 optimizers")
    assert len(training.settings) == 2


@pytest.mark.parametrize("scheduled", [False, True])
def test_training__tells_whether_the_rate_is_of_the_step_to_come(save, scheduled):
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    state = stepped(model, optimizer)
    if scheduled:
        state["lr_scheduler"] = torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict()
    assert open_saved(save(state)).training.scheduled is scheduled
