"""What does the optimizer say: which parameters are in which group, at what learning rate, and did it really step?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim import Optimizer

from wdyn.errors import InvalidArgument

HYPERPARAMETERS = ("lr", "weight_decay", "momentum", "beta1", "beta2")

Settings = tuple[tuple[float | None, ...], ...]
"""(group, `HYPERPARAMETERS`): None where a group has no such setting."""

_NOTHING = (None,) * len(HYPERPARAMETERS)
_PLAIN = frozenset({float, type(None)})
_PAIR = (tuple, list)


def as_optimizers(value: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    """Read an argument: none, one or several optimizers, without the wrappers around them.

    Raises
    ------
    InvalidArgument
        Something in it is no ``torch.optim.Optimizer``.
    """
    if value is None:
        return ()
    several = [value] if isinstance(value, Optimizer) or hasattr(value, "param_groups") else value
    if not isinstance(several, Iterable):
        raise InvalidArgument(
            f"optimizer is a {type(value).__name__}: needed is a torch.optim.Optimizer, several, or None"
        )
    return tuple(_unwrapped(one) for one in several)


def _unwrapped(value: object) -> Optimizer:
    """Take off what stands around an optimizer, down to the one whose step ends a step of the training."""
    while (inner := _inside(value)) is not None:
        value = inner
    if not isinstance(value, Optimizer):
        raise InvalidArgument(
            f"optimizer is a {type(value).__name__}: needed is a torch.optim.Optimizer, several, or None"
        )
    return value


def _inside(value: object) -> Optimizer | None:
    """Give the optimizer that a wrapper steps, where the wrapper's own step tells less of it.

    That is one whose step runs no hooks, as accelerate's, and one that is stepped in two halves, as SAM: the second
    goes back to where the first began, and has its base optimizer step from there.
    """
    if hasattr(value, "second_step"):
        inner = getattr(value, "base_optimizer", None)
    else:
        # torch marks so the method of a class, once it has made it run hooks, when the first of the class is made.
        hooked = getattr(getattr(type(value), "step", None), "hooked", False)
        inner = None if hooked else getattr(value, "optimizer", None)
    return inner if isinstance(inner, Optimizer) else None


def groups(optimizers: Sequence[Optimizer]) -> Iterator[dict[str, Any]]:
    """Give every parameter group; they are numbered on over several optimizers."""
    for optimizer in optimizers:
        yield from optimizer.param_groups


def group_of_parameter(optimizers: Sequence[Optimizer]) -> dict[int, int]:
    """Give the number of the group that holds each parameter, by ``id``."""
    return {id(parameter): number for number, group in enumerate(groups(optimizers)) for parameter in group["params"]}


def hyperparameters(optimizers: Sequence[Optimizer], *, read_tensors: bool) -> Settings:
    """Give what each group has now of `HYPERPARAMETERS`; this runs at every step, and `by_name` makes arrays of it.

    One may be a tensor; reading it may wait for the device, so it is NaN unless `read_tensors`.
    """
    return tuple([_settings_of(group, read_tensors=read_tensors) for one in optimizers for group in one.param_groups])


def unused(settings: Settings) -> Settings:
    """Put NaN in the place of each setting, at a step that used none."""
    return tuple(tuple(None if value is None else np.nan for value in group) for group in settings)


def by_name(steps: Sequence[Settings]) -> dict[str, npt.NDArray[np.float64]]:
    """Give each of `HYPERPARAMETERS` that some group has at some step, as (step, group); NaN where one has none."""
    count = max(map(len, steps), default=0)
    full = [groups + (_NOTHING,) * (count - len(groups)) for groups in steps]
    table = np.array(full, dtype=object).reshape(len(steps), count, len(HYPERPARAMETERS))
    present = np.not_equal(table, np.array(None, dtype=object)).any(axis=(0, 1))
    numbers = table.astype(np.float64)  # None becomes NaN
    return {name: numbers[:, :, at] for at, name in enumerate(HYPERPARAMETERS) if present[at]}


def _settings_of(group: dict[str, Any], *, read_tensors: bool) -> tuple[float | None, ...]:
    """Give the values of `HYPERPARAMETERS`; torch keeps the betas as a pair."""
    betas = group.get("betas")
    beta1, beta2 = betas[:2] if isinstance(betas, _PAIR) and len(betas) > 1 else (None, None)
    values = group.get("lr"), group.get("weight_decay"), group.get("momentum"), beta1, beta2
    if _PLAIN.issuperset(map(type, values)):
        return values
    return tuple(None if value is None else _number(value, read_tensors=read_tensors) for value in values)


def _number(value: object, *, read_tensors: bool) -> float:
    if isinstance(value, torch.Tensor):
        readable = value.numel() == 1 and (read_tensors or value.device.type == "cpu")
        return float(value.item()) if readable else np.nan
    return float(value) if isinstance(value, int | float | np.number) else np.nan


def skipped_step(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, told by a GradScaler that gradients overflowed, left the weights alone.

    What it was told lies on the device of the gradients: on a GPU this waits, once a step, for it to be known there.
    """
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def gradient_scale(optimizer: Optimizer) -> float:
    """By how much gradients are still too large when a fused optimizer unscales them itself; else 1."""
    scale = loss_scale([optimizer])
    return 1.0 if scale is None else float(scale.item())


def loss_scale(optimizers: Sequence[Optimizer]) -> torch.Tensor | None:
    """Give the scale that a GradScaler hands to a fused optimizer for the length of a step, without reading it."""
    for optimizer in optimizers:
        scale: torch.Tensor | None = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            return scale
    return None


def about(optimizers: Sequence[Optimizer]) -> list[dict[str, Any]]:
    """Describe optimizers and the plain settings of their groups, for the run's attributes."""
    return [
        {"name": type(one).__name__, "groups": [_settings(group) for group in one.param_groups]} for one in optimizers
    ]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in group.items() if name != "params" and _is_plain(value)}
    return {**plain, "parameters": len(group["params"])}


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and np.isfinite(value))
