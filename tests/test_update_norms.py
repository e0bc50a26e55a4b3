"""Are the recorded updates those that truly happened, whatever the optimizer does?

The reference is a clone of every weight taken outside, before and after each step, and subtracted in float64.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import wdyn
from loops import Tiny, loss_of

Groups = list[dict[str, object]]
STEPS = 4

OPTIMIZERS: dict[str, Callable[[Groups], Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.1),
    "nesterov": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=1e-2, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-2),
    "adamw, foreach": lambda groups: torch.optim.AdamW(groups, lr=1e-2, foreach=True),
    "adamw, fused": lambda groups: torch.optim.AdamW(groups, lr=1e-2, fused=True),
    "adamw, lr as a tensor": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(1e-2)),
    "adafactor": lambda groups: torch.optim.Adafactor(groups, lr=1e-2),
}


def three_groups(model: nn.Module) -> Groups:
    """Split the parameters: two learning rates, two decays, and one group that decays without a gradient of its own."""
    named = dict(model.named_parameters())
    matrices = [one for name, one in named.items() if one.ndim == 2 and "tok" not in name]
    vectors = [one for name, one in named.items() if one.ndim < 2]
    return [
        {"params": [named["tok.weight"]], "weight_decay": 0.5},
        {"params": matrices, "lr": 3e-3, "weight_decay": 0.1},
        {"params": vectors, "lr": 7e-2, "weight_decay": 0.0},
    ]


def clones(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.detach().double() for name, one in model.named_parameters()}


def followed(model: nn.Module, steps: int, step: Callable[[int], None]) -> Iterator[dict[str, float]]:
    """Make each step, and give the true norm of what it changed of each parameter."""
    for number in range(1, steps + 1):
        before = {name: one.clone() for name, one in clones(model).items()}
        step(number)
        yield {name: (after - before[name]).norm().item() for name, after in clones(model).items()}


def assert_norms(place: Path, true: list[dict[str, float]]) -> None:
    recorded = wdyn.statistics(wdyn.open_run(place), "updates")["l2"]
    assert recorded["step"].values.tolist() == list(range(len(true) + 1))
    assert np.isnan(recorded.sel(step=0)).all()  # before any update
    for number, norms in enumerate(true, start=1):
        assert max(norms.values()) > 0
        got = recorded.sel(step=number, parameter=list(norms))
        np.testing.assert_allclose(got, list(norms.values()), rtol=1e-12, err_msg=f"step {number}")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, torch.float32) for kind in OPTIMIZERS), ("adamw", torch.bfloat16), ("nesterov", torch.float64)],
    ids=str,
)
def test_update_norms__are_the_true_ones(kind: str, dtype: torch.dtype, place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny().to(dtype)
    optimizer = OPTIMIZERS[kind](three_groups(model))

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss_of(model, number).backward()
        optimizer.step()

    with wdyn.watch(model, optimizer, to=place, every=1):
        true = list(followed(model, STEPS, step))
    assert_norms(place, true)


def test_update_norms__are_the_true_ones_for_lbfgs(place: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4, line_search_fn="strong_wolfe")
    x, y = torch.randn(20, 5), torch.randn(20, 1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    with wdyn.watch(model, optimizer, to=place, every=1):
        true = list(followed(model, STEPS, lambda _: optimizer.step(closure)))
    assert_norms(place, true)


def test_update_norms__hold_what_each_of_several_optimizers_did(place: Path) -> None:
    torch.manual_seed(0)
    model = Tiny()
    first = torch.optim.Adam(model.tok.parameters(), lr=1e-2)
    second = torch.optim.SGD(model.blocks.parameters(), lr=0.1, weight_decay=0.1)

    def step(number: int) -> None:
        model.zero_grad()
        loss_of(model, number).backward()
        first.step()
        second.step()

    with wdyn.watch(model, [first, second], to=place, every=1):
        true = list(followed(model, STEPS, step))
    assert_norms(place, true)


def test_update_norms__of_a_weight_that_only_decays(place: Path) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(30, dtype=torch.float64))
    model = nn.ParameterDict({"unused": weight})
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)
    norm = weight.detach().norm().item()
    with wdyn.watch(model, optimizer, to=place, every=1):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    recorded = wdyn.statistics(wdyn.open_run(place), "updates")["l2"].sel(step=1, parameter="unused")
    np.testing.assert_allclose(recorded, 0.1 * 0.5 * norm, rtol=1e-12)
