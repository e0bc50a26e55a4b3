"""By how much does the optimizer's own rule say that a weight should move?

The rules are those of torch's documentation, evaluated in float64 on the settings and gradients that a step uses and
the state that it leaves. They know nothing of rounding: against the change that was measured they show what bfloat16
weights lose, and what else touched the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from wdyn.capture.pieces import local


@dataclass(frozen=True)
class _Step:
    """What one step uses of one parameter: settings, state after it, weights before it, and the gradient."""

    settings: Mapping[str, Any]
    state: Mapping[str, Any]
    weights: Tensor
    gradient: Tensor | None

    def setting(self, name: str) -> Any:
        """Give a setting, a tensor as float64."""
        value = self.settings.get(name)
        return value.double() if isinstance(value, Tensor) else value

    def held(self, name: str) -> Tensor:
        """Give a tensor of the state, as float64."""
        held = self.state[name]
        return torch.as_tensor(local(held) if isinstance(held, Tensor) else held, dtype=torch.float64)

    def along(self, direction: Tensor) -> Tensor:
        """Go down a direction by the learning rate."""
        moved: Tensor = -self.setting("lr") * direction
        return moved

    def slope(self) -> Tensor:
        """Give the gradient with its sign and the decay that is added to it, as float64."""
        if self.gradient is None:
            raise ValueError("no gradient was kept of an optimizer whose rule uses it")
        gradient = self.gradient.double()
        slope: Tensor = (-gradient if self.settings["maximize"] else gradient) + self.setting(
            "weight_decay"
        ) * self.weights
        return slope


def _sgd(step: _Step) -> Tensor:
    momentum = step.setting("momentum")
    if momentum == 0:
        direction = step.slope()
    else:
        direction = step.held("momentum_buffer")
        direction = step.slope() + momentum * direction if step.settings["nesterov"] else direction
    return step.along(direction)


def _adam(step: _Step) -> Tensor:
    # Where decay is not decoupled, the moments hold it. An older torch has no such setting: there Adam never decouples.
    return _adamw(step) if step.settings.get("decoupled_weight_decay", False) else _by_moments(step)


def _adamw(step: _Step) -> Tensor:
    return _by_moments(step) + step.along(step.setting("weight_decay") * step.weights)


def _by_moments(step: _Step) -> Tensor:
    first, second = (beta.double() if isinstance(beta, Tensor) else beta for beta in step.settings["betas"])
    count = step.held("step")
    square = step.held("max_exp_avg_sq" if step.settings["amsgrad"] else "exp_avg_sq")
    root = (square / (1 - second**count)).sqrt() + step.setting("eps")
    return step.along(step.held("exp_avg") / (1 - first**count) / root)


def _rmsprop(step: _Step) -> Tensor:
    if step.setting("momentum") > 0:
        return step.along(step.held("momentum_buffer"))
    square = step.held("square_avg")
    if step.settings["centered"]:
        square = square - step.held("grad_avg") ** 2
    return step.along(step.slope() / (square.sqrt() + step.setting("eps")))


def _adagrad(step: _Step) -> Tensor:
    slowed = 1 + (step.held("step") - 1) * step.setting("lr_decay")
    return step.along(step.slope() / (step.held("sum").sqrt() + step.setting("eps")) / slowed)


_RULES: dict[type[Optimizer], Callable[[_Step], Tensor]] = {
    SGD: _sgd,
    Adam: _adam,
    AdamW: _adamw,
    RMSprop: _rmsprop,
    Adagrad: _adagrad,
}
KNOWN = tuple(one.__name__ for one in _RULES)


def unknown(optimizers: Sequence[Optimizer]) -> list[str]:
    """Name the optimizers whose rule is not known: a subclass may have another than its parent."""
    return [type(one).__name__ for one in optimizers if type(one) not in _RULES]


def _uses_gradient(optimizer: Optimizer, settings: Mapping[str, Any]) -> bool:
    """Whether the state after a step does not tell all: the gradient itself must be kept."""
    if isinstance(optimizer, Adam | AdamW):  # in an older torch the second is no kind of the first
        return False
    return not settings.get("momentum") or bool(settings.get("nesterov"))


class Predictor:
    """Sees what a step is about to use, and predicts, once it was made, how the weights should have moved.

    It keeps a copy of the gradients of those optimizers whose state does not hold them.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Optimizer, Mapping[str, Any], Tensor | None]] = {}

    def see(
        self, optimizer: Optimizer, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        """Keep what the coming step of `optimizer` uses of each of its parameters that has a gradient.

        One that is None cannot be known: then a rule that uses it predicts nothing.
        """
        if type(optimizer) not in _RULES:
            return
        settings = _settings(optimizer)
        for name, gradient in gradients.items():
            used = settings[id(parameters[name])]
            uses = _uses_gradient(optimizer, used)
            if gradient is not None or not uses:
                self._seen[name] = (optimizer, used, gradient.clone() if uses and gradient is not None else None)

    def forget(self) -> None:
        """Let go of what was seen: the step is over."""
        self._seen = {}

    def predict(self, name: str, parameter: Tensor, before: Tensor) -> Tensor | None:
        """Give the update that the rule predicts, float64; None where none does.

        Parameters
        ----------
        parameter
            The live parameter, by which the optimizer finds its state.
        before
            Its values before the step.
        """
        optimizer, settings, gradient = self._seen.get(name, (None, {}, None))
        if optimizer is None or before.is_complex():
            return None
        step = _Step(settings, optimizer.state.get(parameter, {}), before.double(), gradient)
        return _RULES[type(optimizer)](step)


def _settings(optimizer: Optimizer) -> dict[int, Mapping[str, Any]]:
    """Give the settings of each parameter's group as they are now, by the parameter's id; tensors are copied."""
    found: dict[int, Mapping[str, Any]] = {}
    for group in optimizer.param_groups:
        settings = {name: _copied(value) for name, value in group.items() if name != "params"}
        found |= {id(parameter): settings for parameter in group["params"]}
    return found


def _copied(value: object) -> object:
    if isinstance(value, tuple | list):
        return tuple(map(_copied, value))
    return value.detach().clone() if isinstance(value, Tensor) else value
