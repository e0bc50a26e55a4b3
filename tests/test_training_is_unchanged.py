"""Is training bit for bit what it is without recording, with all that can be recorded?

Losses, weights, gradients, the optimizers' whole state and the random state are compared; the model drops out, so a
random number more or less would show.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import wdyn
from loops import Tiny, loss_of

STEPS = 5
ALL = {"every": 1, "snapshots": 1, "what": "all", "heads": True}
Watched = Any

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "adamw, foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw, fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adamw, lr as a tensor": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2)),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, centered=True, momentum=0.9),
}

Loop = Callable[[nn.Module, Watched], tuple[list[torch.Tensor], list[Optimizer]]]


def trained(loop: Loop, *, dtype: torch.dtype, place: Path | None, **options: Any) -> dict[str, Any]:
    """Train from the same start, watched where a place is given; give all that training leaves behind."""
    torch.manual_seed(1)
    model = Tiny().to(dtype)
    losses, optimizers = loop(model, lambda chosen: watched(model, chosen, place, options))
    return {
        "losses": losses,
        "weights": model.state_dict(),
        "gradients": [one.grad for one in model.parameters()],
        "optimizers": [one.state_dict() for one in optimizers],
        "random": torch.get_rng_state(),
    }


def watched(model: nn.Module, optimizers: list[Optimizer], place: Path | None, options: dict[str, Any]) -> Any:
    return nullcontext() if place is None else wdyn.watch(model, optimizers, to=place, **ALL, **options)


def assert_same(one: Any, other: Any, at: str = "") -> None:
    """Compare what may hold tensors anywhere, bit for bit."""
    assert type(one) is type(other), at
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, at
        assert torch.equal(
            one.view(torch.uint8) if one.ndim else one, other.view(torch.uint8) if one.ndim else other
        ), at
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for key in one:
            assert_same(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), at
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{at}.{number}")
    else:
        assert one == other, at


def assert_unchanged(loop: Loop, place: Path, *, dtype: torch.dtype = torch.float32, **options: Any) -> None:
    plain = trained(loop, dtype=dtype, place=None)
    assert_same(plain, trained(loop, dtype=dtype, place=place, **options))
    run = wdyn.open_run(place)
    assert {"statistics", "histograms", "parts", "relations", "states", "scalars", "weights"} <= set(run.children)
    assert run["statistics/updates"]["step"].values.tolist() == list(range(STEPS + 1))
    assert run["states"]["step"].values.tolist() == list(range(STEPS + 1))


def one_optimizer(kind: str) -> Loop:
    def loop(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
        optimizer, losses = OPTIMIZERS[kind](model.parameters()), []
        with watch([optimizer]):
            for step in range(STEPS):
                optimizer.zero_grad()
                losses.append(loss_of(model, step))
                losses[-1].backward()
                optimizer.step()
        return [loss.detach() for loss in losses], [optimizer]

    return loop


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training__is_the_same_with_each_optimizer(kind: str, place: Path) -> None:
    assert_unchanged(one_optimizer(kind), place)


@pytest.mark.parametrize("kind", ["nesterov", "adamw, foreach", "adafactor"])
def test_training__is_the_same_in_bfloat16(kind: str, place: Path) -> None:
    assert_unchanged(one_optimizer(kind), place, dtype=torch.bfloat16)


def lbfgs(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    losses: list[torch.Tensor] = []
    with watch([optimizer]):
        for step in range(STEPS):

            def closure(step: int = step) -> torch.Tensor:
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).detach())
    return losses, [optimizer]


def test_training__is_the_same_with_lbfgs(place: Path) -> None:
    assert_unchanged(lbfgs, place)


def accumulating(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
    optimizer, losses = OPTIMIZERS["adamw"](model.parameters()), []
    with watch([optimizer]):
        for micro in range(3 * STEPS):
            losses.append(loss_of(model, micro) / 3)
            losses[-1].backward()
            if micro % 3 == 2:
                optimizer.step()
                optimizer.zero_grad(set_to_none=micro % 2 == 0)
    return [loss.detach() for loss in losses], [optimizer]


def test_training__is_the_same_with_gradients_accumulated(place: Path) -> None:
    assert_unchanged(accumulating, place)


def several(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
    optimizers = [OPTIMIZERS["adamw"](model.tok.parameters()), OPTIMIZERS["nesterov"](model.blocks.parameters())]
    losses = []
    with watch(optimizers):
        for step in range(STEPS):
            model.zero_grad()
            losses.append(loss_of(model, step))
            losses[-1].backward()
            for optimizer in optimizers:
                optimizer.step()
    return [loss.detach() for loss in losses], optimizers


def test_training__is_the_same_with_several_optimizers(place: Path) -> None:
    assert_unchanged(several, place)


def scheduled(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
    optimizer, losses = OPTIMIZERS["adamw"](model.parameters()), []
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=STEPS)
    with watch([optimizer]) as w:
        for step in range(STEPS):
            optimizer.zero_grad()
            losses.append(loss_of(model, step))
            losses[-1].backward()
            optimizer.step()
            schedule.step()
            if w is not None:
                w.log(loss=losses[-1], tokens=12 * step)
    return [loss.detach() for loss in losses], [optimizer]


def test_training__is_the_same_with_a_schedule_and_losses_logged(place: Path) -> None:
    assert_unchanged(scheduled, place)


def clipping(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
    optimizer, norms = OPTIMIZERS["adamw"](model.parameters()), []
    with watch([optimizer]) as w, nullcontext() if w is None else wdyn.watch_clipping(w):
        for step in range(STEPS):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1))
            torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
    return norms, [optimizer]


def test_training__is_the_same_with_clipping_watched(place: Path) -> None:
    assert_unchanged(clipping, place)
    assert wdyn.open_run(place)["scalars/clip_coefficient"].max() < 1


def test_training__ties_and_frozen_weights_stay_as_they_are(place: Path) -> None:
    def loop(model: nn.Module, watch: Watched) -> tuple[list[torch.Tensor], list[Optimizer]]:
        model.blocks[0].requires_grad_(False)
        kept = one_optimizer("adamw")(model, watch)
        assert model.head.weight is model.tok.weight
        return kept

    assert_unchanged(loop, place)
