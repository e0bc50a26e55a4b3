"""Is what the optimizer says read rightly?"""

import json

import numpy as np
import pytest
import torch
from torch import nn

from wdyn.capture.optimizers import (
    about,
    as_optimizers,
    by_name,
    gradient_scale,
    group_of_parameter,
    hyperparameters,
    loss_scale,
    skipped_step,
    unused,
)
from wdyn.errors import InvalidArgument


def read(optimizers: list[torch.optim.Optimizer], *, read_tensors: bool = False) -> dict[str, np.ndarray]:
    """The settings of one step, by name."""
    named = by_name([hyperparameters(optimizers, read_tensors=read_tensors)])
    return {name: values[0] for name, values in named.items()}


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)) for _ in range(3)]


def test_as_optimizers__takes_none_one_and_several(parameters: list[nn.Parameter]) -> None:
    one, two = torch.optim.SGD(parameters[:1], lr=1.0), torch.optim.Adam(parameters[1:])
    assert as_optimizers(None) == ()
    assert as_optimizers(one) == (one,)
    assert as_optimizers(iter([one, two])) == (one, two)


class InTwoHalves(torch.optim.Optimizer):
    """Stepped by others, as SAM is."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=1.0)

    def second_step(self) -> None:
        self.base_optimizer.step()


class Unhooked:
    """Steps by itself, with no hooks, as a wrapper of accelerate does."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self) -> None:
        self.optimizer.step()


class Hooked(torch.optim.Optimizer):
    """Goes on behind the step of the one that it holds, as Lookahead does."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer.param_groups, {})
        self.optimizer = self.base_optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


def test_as_optimizers__finds_the_one_whose_step_ends_a_step(parameters: list[nn.Parameter]) -> None:
    sgd, halves = torch.optim.SGD(parameters, lr=1.0), InTwoHalves(parameters)
    whole = Hooked(sgd)
    assert as_optimizers(Unhooked(sgd)) == (sgd,)
    assert as_optimizers(halves) == as_optimizers(Unhooked(halves)) == (halves.base_optimizer,)
    assert as_optimizers(whole) == as_optimizers(Unhooked(whole)) == (whole,)


@pytest.mark.parametrize("bad", [3, "adam", [None], object()])
def test_as_optimizers__refuses_the_rest(bad: object) -> None:
    with pytest.raises(InvalidArgument, match=r"needed is a torch\.optim\.Optimizer"):
        as_optimizers(bad)


def test_groups__are_numbered_on_over_optimizers(parameters: list[nn.Parameter]) -> None:
    one = torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:2], "lr": 0.5}], lr=1.0)
    two = torch.optim.Adam(parameters[2:], lr=0.25, weight_decay=0.1)
    assert [group_of_parameter([one, two])[id(p)] for p in parameters] == [0, 1, 2]
    found = read([one, two])
    np.testing.assert_array_equal(found["lr"], [1.0, 0.5, 0.25])
    np.testing.assert_array_equal(found["weight_decay"], [0, 0, 0.1])


def test_hyperparameters__a_group_without_one_shows_nan(parameters: list[nn.Parameter]) -> None:
    plain, decayed = torch.optim.Rprop(parameters[:1], lr=0.5), torch.optim.SGD(parameters[1:], weight_decay=0.25)
    found = read([plain, decayed])
    np.testing.assert_array_equal(found["weight_decay"], [np.nan, 0.25])
    assert set(read([plain])) == {"lr"}
    assert read([]) == {}


def test_hyperparameters__betas_and_momentum_are_told_where_groups_have_them(parameters: list[nn.Parameter]) -> None:
    adam = torch.optim.AdamW([{"params": parameters[:1]}, {"params": parameters[1:2], "betas": (0.5, 0.25)}])
    sgd = torch.optim.SGD(parameters[2:], lr=1.0, momentum=0.75)
    found = read([adam, sgd])
    assert set(found) == {"lr", "weight_decay", "beta1", "beta2", "momentum"}
    np.testing.assert_array_equal(found["beta1"], [0.9, 0.5, np.nan])
    np.testing.assert_array_equal(found["beta2"], [0.999, 0.25, np.nan])
    np.testing.assert_array_equal(found["momentum"], [np.nan, np.nan, 0.75])
    assert set(read([adam])) == {"lr", "weight_decay", "beta1", "beta2"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lr": None, "betas": None}, {}),
        ({"betas": (0.5,)}, {}),
        ({"betas": (0.5, torch.tensor(0.25), 0.125)}, {"beta1": 0.5, "beta2": 0.25}),
        ({"lr": np.float32(0.5)}, {"lr": 0.5}),
    ],
)
def test_hyperparameters__of_optimizers_from_elsewhere(
    settings: dict[str, object], expected: dict[str, float], parameters: list[nn.Parameter]
) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    optimizer.param_groups[0] = {"params": parameters, **settings}
    found = read([optimizer])
    assert {name: values[0] for name, values in found.items()} == expected


def test_hyperparameters__a_learning_rate_of_many_elements_is_nan(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    optimizer.param_groups[0]["lr"] = torch.ones(3)
    assert np.isnan(read([optimizer], read_tensors=True)["lr"]).all()


def test_hyperparameters__read_a_learning_rate_that_is_a_tensor(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.Adam(parameters, lr=torch.tensor(0.5))
    np.testing.assert_array_equal(read([optimizer], read_tensors=True)["lr"], [0.5])


def test_hyperparameters__do_not_wait_for_a_device(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.Adam(parameters, lr=torch.tensor(0.5))
    optimizer.param_groups[0]["lr"] = torch.tensor(0.5, device="meta")  # reading it would raise
    assert np.isnan(read([optimizer])["lr"]).all()


def test_by_name__keeps_steps_apart_when_groups_and_settings_come_and_go(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters[:1], lr=1.0, momentum=0.5)
    steps = [hyperparameters([optimizer], read_tensors=False)]
    optimizer.param_groups[0]["lr"] = 0.25
    steps += [hyperparameters([optimizer], read_tensors=False), unused(steps[0])]
    optimizer.add_param_group({"params": parameters[1:], "lr": 2.0})
    del optimizer.param_groups[0]["momentum"]
    optimizer.param_groups[1]["momentum"] = None
    steps += [hyperparameters([optimizer], read_tensors=False)]
    named, none = by_name(steps), np.nan
    np.testing.assert_array_equal(named["lr"], [[1.0, none], [0.25, none], [none, none], [0.25, 2.0]])
    np.testing.assert_array_equal(named["momentum"], [[0.5, none], [0.5, none], [none, none], [none, none]])
    assert set(named) == {"lr", "momentum", "weight_decay"}


def test_hyperparameters__are_what_they_were_at_their_step(parameters: list[nn.Parameter]) -> None:
    rate, betas = torch.tensor(0.5), [0.5, 0.25]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    optimizer.param_groups[0]["betas"] = betas
    before = hyperparameters([optimizer], read_tensors=False)
    rate.fill_(0.125)
    betas[0] = 0.75
    after = hyperparameters([optimizer], read_tensors=False)
    named = by_name([before, after])
    assert named["lr"].tolist() == [[0.5], [0.125]]
    assert named["beta1"].tolist() == [[0.5], [0.75]]


def test_skipped_step__is_told_by_what_the_scaler_found(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    assert not skipped_step(optimizer)
    optimizer.found_inf = torch.tensor(0.0)
    assert not skipped_step(optimizer)
    optimizer.found_inf = torch.tensor(1.0)
    assert skipped_step(optimizer)


def test_gradient_scale__is_one_unless_the_optimizer_unscales_itself(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    assert gradient_scale(optimizer) == 1
    optimizer.grad_scale = torch.tensor(1024.0)
    assert gradient_scale(optimizer) == 1024


def test_loss_scale__is_handed_on_unread(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    assert loss_scale([optimizer]) is None
    optimizer.grad_scale = torch.tensor(8.0, device="meta")  # reading it would raise
    assert loss_scale([torch.optim.SGD(parameters), optimizer]) is optimizer.grad_scale


def test_about__keeps_plain_settings_that_json_can_hold(parameters: list[nn.Parameter]) -> None:
    optimizer = torch.optim.AdamW(parameters, lr=torch.tensor(0.5), betas=(0.9, 0.95))
    (told,) = about([optimizer])
    assert told["name"] == "AdamW"
    group = json.loads(json.dumps(told["groups"][0], allow_nan=False))
    assert group["betas"] == [0.9, 0.95]
    assert group["parameters"] == 3
    assert "params" not in group
    assert "lr" not in group
