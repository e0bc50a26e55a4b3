"""The sums of host memory in one pass, compiled by numba; imported only where numba is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from wdyn.capture.sums import Sums

_BLOCK = 2048
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compile(**options: Any) -> Callable[[_Function], _Function]:
    """Compile without the interpreter lock, keeping the result on disk where a folder for it can be written."""

    def decorate(function: _Function) -> _Function:
        try:
            compiled: _Function = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            compiled = numba.njit(nogil=True, **options)(function)
        return compiled

    return decorate


@_compile(fastmath={"reassoc", "contract", "nsz"})  # NaN and Inf must survive: the caller looks for them
def _sum(block: npt.NDArray[np.float64], count: int) -> float:
    total = 0.0
    for at in range(count):
        total += block[at]
    return total


@_compile(fastmath=True)  # only given finite values
def _moments(block: npt.NDArray[np.float64], count: int, mean: float) -> tuple[float, ...]:
    m2 = m3 = m4 = l1 = zeros = 0.0
    low = high = block[0]
    for at in range(count):
        value = block[at]
        deviation = value - mean
        square = deviation * deviation
        m2 += square
        m3 += square * deviation
        m4 += square * square
        l1 += abs(value)
        zeros += value == 0.0
        low = min(low, value)
        high = max(high, value)
    return m2, m3, m4, l1, low, high, zeros


@_compile()
def _load(values: Any, before: Any, start: int, count: int, block: npt.NDArray[np.float64]) -> None:
    if before.size:
        for at in range(count):
            block[at] = np.float64(values[start + at]) - np.float64(before[start + at])
    else:
        for at in range(count):
            block[at] = values[start + at]


@_compile()
def _keep_finite(block: npt.NDArray[np.float64], count: int, total: npt.NDArray[np.float64]) -> int:
    """Move the finite values to the front, counting the others; return how many there are."""
    kept = 0
    for at in range(count):
        value = block[at]
        if np.isnan(value):
            total[9] += 1
        elif np.isinf(value):
            total[10] += 1
        else:
            block[kept] = value
            kept += 1
    return kept


@_compile()
def _join(total: npt.NDArray[np.float64], nb: float, mean: float, part: tuple[float, ...]) -> None:
    """Join a block to the total, as `wdyn.capture.sums.merge` does."""
    m2, m3, m4, l1, low, high, zeros = part
    na = total[0]
    n = na + nb
    d = mean - total[1]
    e = d / n
    total[4] += m4 + d * e * e * e * na * nb * (na * na - na * nb + nb * nb)
    total[4] += 6 * e * e * (na * na * m2 + nb * nb * total[2]) + 4 * e * (na * m3 - nb * total[3])
    total[3] += m3 + d * e * e * na * nb * (na - nb) + 3 * e * (na * m2 - nb * total[2])
    total[2] += m2 + d * e * na * nb
    total[1] += e * nb
    total[0] = n
    total[5] += l1
    total[6] = min(total[6], low)
    total[7] = max(total[7], high)
    total[8] += zeros


@_compile()
def _accumulate(values: Any, before: Any, total: npt.NDArray[np.float64]) -> None:
    block = np.empty(_BLOCK, dtype=np.float64)
    for start in range(0, values.size, _BLOCK):
        count = min(_BLOCK, values.size - start)
        _load(values, before, start, count, block)
        whole = _sum(block, count)
        if not np.isfinite(whole):
            count = _keep_finite(block, count, total)
            whole = _sum(block, count)
        if count:
            mean = whole / count
            _join(total, count, mean, _moments(block, count, mean))


def compiled_sums(values: Any, before: Any) -> Sums:
    """Sum up ``values - before`` (1-D, float32 or float64; an empty `before` subtracts nothing)."""
    total = np.zeros(11)
    total[6], total[7] = np.inf, -np.inf
    _accumulate(values, before, total)
    return total
