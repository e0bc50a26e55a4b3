"""How does an update move a weight: outwards, around, and back again? The kernels, which know no names.

They work on arrays that broadcast against each other, in float64; NaN goes through.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def tangential(ratio: Floats, cosine: Floats) -> Floats:
    """Give the part of an update at right angles to the weights, as a share of their norm.

    >>> tangential(np.array([0.5, 0.5]), np.array([-1.0, 0.6])).tolist()
    [0.0, 0.4]
    """
    # Rounding may take a cosine a little beyond 1.
    return np.asarray(ratio * np.sqrt(np.maximum(1 - cosine**2, 0)))


def rotation(ratio: Floats, cosine: Floats) -> Floats:
    """Give the angle between the weights before and after an update, in radians, 0 to pi.

    With the weights before of length 1, those after have the part 1 + ratio * cosine along them.

    >>> rotation(np.array([1.0, 2.0]), np.array([0.0, -1.0])).round(4).tolist()
    [0.7854, 3.1416]
    """
    return np.arctan2(tangential(ratio, cosine), 1 + ratio * cosine)


def equilibrium_rotation(lr: Floats, decay: Floats, beta1: Floats) -> Floats:
    """Give the angle by which AdamW turns a weight in each step once decay and gradients balance, in radians.

    sqrt(2 lr decay (1 - beta1) / (1 + beta1)): the random walk of Kosson, Messmer and Jaggi (2024, "Rotational
    Equilibrium"). With g / sqrt(v) of rms 1, independent from step to step and at right angles to the weights, the
    first moment has rms sqrt((1 - beta1) / (1 + beta1)); over `equilibrium_rms` that is the angle. Without momentum it
    is sqrt(2 lr decay).
    """
    return np.asarray(np.sqrt(2 * lr * decay * (1 - beta1) / (1 + beta1)))


def equilibrium_rms(lr: Floats, decay: Floats) -> Floats:
    """Give the rms of AdamW's weights once decay and gradients balance: sqrt(lr / (2 decay)), from the same walk.

    Each step takes 2 lr decay W^2 from the mean square W^2 of the weights; each gradient, with all that momentum makes
    of it later, adds lr^2. NaN without decay: there is no balance.
    """
    return np.asarray(np.sqrt(lr / np.where(decay > 0, 2 * decay, np.nan)))


def approach(pulled: Floats) -> Floats:
    """Give how far the mean square of a weight has come towards its balance, 0 to 1: 1 - exp(-2 pulled).

    `pulled` is the sum of lr times decay over the steps so far.
    """
    return np.asarray(-np.expm1(-2 * pulled))
