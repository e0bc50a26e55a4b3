"""Do the rules predict what torch's optimizers do, with every setting that changes it?

The reference is the optimizer itself, on float64 weights: there the rule and the step may differ by rounding only.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop

from wdyn.capture.predicted import KNOWN, Predictor, unknown

Make = Callable[[list[Tensor]], Optimizer]

MAKERS: dict[str, Make] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "sgd, decay": lambda p: SGD(p, lr=0.1, weight_decay=0.3),
    "sgd, maximize": lambda p: SGD(p, lr=0.1, weight_decay=0.3, maximize=True),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.2, weight_decay=0.1),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: Adam(p, lr=0.1, betas=(0.8, 0.99), eps=1e-3),
    "adam, decay": lambda p: Adam(p, lr=0.1, weight_decay=0.2),
    "adam, decoupled": lambda p: Adam(p, lr=0.1, weight_decay=0.2, decoupled_weight_decay=True),
    "adam, amsgrad": lambda p: Adam(p, lr=0.1, amsgrad=True, maximize=True),
    "adamw": lambda p: AdamW(p, lr=0.1, weight_decay=0.2),
    "adamw, foreach": lambda p: AdamW(p, lr=0.1, foreach=True),
    "adamw, fused": lambda p: AdamW(p, lr=0.1, fused=True),
    "adamw, lr as a tensor": lambda p: AdamW(p, lr=torch.tensor(0.1, dtype=torch.float64)),
    "rmsprop": lambda p: RMSprop(p, lr=0.1, weight_decay=0.1),
    "rmsprop, centered": lambda p: RMSprop(p, lr=0.1, centered=True, alpha=0.7),
    "rmsprop, momentum": lambda p: RMSprop(p, lr=0.1, momentum=0.5),
    "adagrad": lambda p: Adagrad(p, lr=0.1, lr_decay=0.5, weight_decay=0.1, initial_accumulator_value=0.1),
}  # fmt: skip


def weight(seed: int = 0) -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradient(step: int) -> Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + step))


@pytest.mark.parametrize("kind", MAKERS)
def test_predict__is_the_step_that_is_made(kind: str) -> None:
    one = weight()
    optimizer, predictor = MAKERS[kind]([one]), Predictor()
    for step in range(4):
        one.grad = gradient(step)
        before = one.detach().clone()
        predictor.see(optimizer, {"w": one}, {"w": one.grad})
        optimizer.step()
        one.grad = None  # what a loop may do before the row is made
        predicted = predictor.predict("w", one, before)
        assert predicted is not None
        torch.testing.assert_close(predicted, one.detach() - before, rtol=1e-9, atol=1e-12)


def test_predict__uses_the_learning_rate_of_the_step_and_of_the_group() -> None:
    first, second = weight(1), weight(2)
    optimizer = AdamW([{"params": [first]}, {"params": [second], "lr": 0.5, "weight_decay": 0.4}], lr=0.01)
    first.grad, second.grad = gradient(1), gradient(2)
    before = {"a": first.detach().clone(), "b": second.detach().clone()}
    predictor = Predictor()
    predictor.see(optimizer, {"a": first, "b": second}, {"a": first.grad, "b": second.grad})
    optimizer.step()
    for group in optimizer.param_groups:
        group["lr"] *= 10  # as a schedule does after the step
    for name, one in (("a", first), ("b", second)):
        torch.testing.assert_close(predictor.predict(name, one, before[name]), one.detach() - before[name])


def test_predict__nothing_of_what_has_no_gradient() -> None:
    one, predictor = weight(), Predictor()
    predictor.see(AdamW([one]), {"w": one}, {})
    assert predictor.predict("w", one, one.detach()) is None


def test_predict__nothing_once_the_step_is_forgotten() -> None:
    one, predictor = weight(), Predictor()
    predictor.see(SGD([one], lr=0.1), {"w": one}, {"w": gradient(0)})
    assert predictor.predict("w", one, one.detach()) is not None
    predictor.forget()
    assert predictor.predict("w", one, one.detach()) is None


def test_unknown__names_optimizers_of_another_rule() -> None:
    class Mine(AdamW):
        """May do anything."""

    assert unknown([SGD([weight()]), NAdam([weight()]), Mine([weight()])]) == ["NAdam", "Mine"]
    assert KNOWN == ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")


@pytest.mark.parametrize("kind", ["adamw", "adam, decay"])
def test_predict__knows_which_decay_is_decoupled_where_torch_has_no_such_setting(kind: str) -> None:
    one = weight()
    optimizer, predictor = MAKERS[kind]([one]), Predictor()
    one.grad, before = gradient(0), one.detach().clone()
    decoupled = optimizer.param_groups[0].pop("decoupled_weight_decay")
    predictor.see(optimizer, {"w": one}, {"w": one.grad})
    optimizer.param_groups[0]["decoupled_weight_decay"] = decoupled
    optimizer.step()
    torch.testing.assert_close(predictor.predict("w", one, before), one.detach() - before, rtol=1e-9, atol=1e-12)
