"""What are the numbers of a tensor, right to float64, whatever its dtype, size or content?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wdyn.capture.device_sums import device_sums
from wdyn.capture.host_sums import host_sums, kernel
from wdyn.capture.sums import NAMES, Sums
from wdyn.rows import Values


def statistics(tensors: Sequence[Tensor | None], *, minus: Sequence[Tensor | None] | None = None) -> dict[str, Values]:
    """Measure tensors, each as one population.

    Parameters
    ----------
    tensors
        Any shapes and dtypes; complex numbers are measured by their modulus. None stands for "not there".
    minus
        Subtracted elementwise in float64 before anything is measured, if given; None subtracts nothing.

    Returns
    -------
    dict
        For each statistic an array with one value a tensor. ``mean std rms min max abs_max l1 l2 skewness kurtosis``
        are float64, over the finite elements, NaN where there are none; std is the population's (ddof 0), kurtosis is
        3 for a normal distribution. ``count zeros nonfinite nans infs`` are int64, -1 where the tensor is None.
    """
    others = [None] * len(tensors) if minus is None else list(minus)
    sums = np.full((len(tensors), len(NAMES)), np.nan)
    there = np.array([one is not None for one in tensors], dtype=bool)
    away: list[tuple[int, Tensor]] = []
    add = kernel(sum(one.numel() for one in tensors if one is not None and one.device.type == "cpu"))
    for number, one in enumerate(tensors):
        if one is None:
            continue
        if one.device.type == "cpu":
            sums[number] = host_sums(one, others[number], add=add)
        else:
            away.append((number, one))
    if away:
        sums[[number for number, _ in away]] = device_sums(
            [one for _, one in away], [others[number] for number, _ in away]
        )
    return _finish(sums, there=there)


def _finish(sums: Sums, *, there: npt.NDArray[np.bool_]) -> dict[str, Values]:
    n, mean, m2, m3, m4, l1, low, high, zeros, nans, infs = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 is NaN, which is the answer
        some = np.where(n > 0, n, np.nan)
        mean = np.where(n > 0, mean, np.nan)
        low, high = np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)
        rms = np.sqrt(m2 / some + mean**2)
        floats = {
            "mean": mean,
            "std": np.sqrt(m2 / some),
            "rms": rms,
            "min": low,
            "max": high,
            "abs_max": np.maximum(np.abs(low), np.abs(high)),
            "l1": l1,
            "l2": np.where(n > 0, rms * np.sqrt(n), np.where(n == 0, 0.0, np.nan)),
            "skewness": np.sqrt(some) * m3 / m2**1.5,
            "kurtosis": some * m4 / m2**2,
        }
    counts = {"count": n + nans + infs, "zeros": zeros, "nonfinite": nans + infs, "nans": nans, "infs": infs}
    return {**floats, **{name: np.where(there, values, -1).astype(np.int64) for name, values in counts.items()}}
