"""How far does an optimizer's rule move a weight, as far as what was recorded of its state can tell?

The kernels know no names: they work on arrays that broadcast against each other, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ADAM: Final = "Adam"
MOMENTUM: Final = "momentum"
RMSPROP: Final = "RMSprop"
ADAGRAD: Final = "Adagrad"
GRADIENT: Final = "gradient"
UNKNOWN: Final = "unknown"

SECOND: Final = {ADAM: "exp_avg_sq", RMSPROP: "square_avg", ADAGRAD: "sum"}
"""The optimizer's name of what averages, or sums up, the squares of the gradients."""


def rule_of(held: Collection[str], *, optimizer: str, momentum: float, nesterov: bool) -> str:
    """Say by which rule the state of a parameter is read.

    Parameters
    ----------
    held
        Names of the tensors that the optimizer holds of it.
    optimizer
        Class of the optimizer; "" where that is not known.
    momentum, nesterov
        Settings of its group; NaN and False where it has none.

    >>> rule_of({"exp_avg", "exp_avg_sq"}, optimizer="AdamW", momentum=float("nan"), nesterov=False)
    'Adam'
    >>> rule_of({"momentum_buffer"}, optimizer="Muon", momentum=0.9, nesterov=False)
    'unknown'
    """
    if {"exp_avg", "exp_avg_sq"} <= set(held):
        return ADAM
    if "momentum_buffer" in held:
        return MOMENTUM if optimizer in ("SGD", "RMSprop", "") and not nesterov else UNKNOWN
    if set(held) == {"square_avg"}:
        return RMSPROP
    if set(held) == {"sum"}:
        return ADAGRAD
    return GRADIENT if optimizer == "SGD" and not held and not momentum > 0 else UNKNOWN


def correction(beta: Floats, steps: Floats) -> Floats:
    """Give 1 / (1 - beta^t), by which Adam divides the bias towards its start at zero out (Kingma and Ba 2015).

    NaN at t = 0, before there is anything to correct.
    """
    weight = 1 - beta**steps
    return np.asarray(1 / np.where(weight > 0, weight, np.nan))


def correction_ends(beta: float, limit: float) -> int:
    """Give the first step t at which 1 / (1 - beta^t) is `limit` or less.

    >>> correction_ends(0.999, 2.0), correction_ends(0.95, 2.0)
    (693, 14)
    """
    return int(np.ceil(np.log(1 - 1 / limit) / np.log(beta))) if 0 < beta < 1 else 1


def direction(rule: npt.NDArray[np.str_], *, gradient: Floats, first: Floats, second: Floats, eps: Floats) -> Floats:
    """Give the rms of what the learning rate is multiplied with, estimated from rms values.

    Parameters
    ----------
    rule
        (parameter), by which rule.
    gradient, first
        (step, parameter), rms of the gradient, and of the first moment, without its bias.
    second
        (step, parameter), root of the mean of the second moment, without its bias.
    eps
        (parameter), what is added to the root of the second moment.

    Returns
    -------
    array
        (step, parameter), NaN for a rule that is not known. It is exact for ``gradient`` and ``momentum``. For the
        others it is a ratio of means where the optimizer takes the mean of ratios: they agree where the elements of a
        parameter have gradients of like size.
    """
    scaled: dict[str, Callable[[], Floats]] = {
        ADAM: lambda: first / (second + eps),
        MOMENTUM: lambda: first,
        RMSPROP: lambda: gradient / (second + eps),
        ADAGRAD: lambda: gradient / (second + eps),
        GRADIENT: lambda: gradient,
    }
    found = np.broadcast_to(np.nan, gradient.shape)
    for name, scale in scaled.items():
        if (rule == name).any():  # few are there, and each takes as much memory as the gradients
            found = np.where(rule == name, scale(), found)
    return found
