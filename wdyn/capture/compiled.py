"""How is host memory measured in one pass, compiled by numba? Imported only where numba is installed.

Each block is small enough to stay in the first cache while three loops go over it. The integer loop of the extremes
and the loop of the moments are written so that LLVM turns them into vector instructions; counting cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import uint32, uint64
from numba.extending import overload

from wdyn import bins
from wdyn.capture.sums import NAMES

Array = npt.NDArray[Any]
Geometry = tuple[int, int, int, int]
"""Of a piece of a flat array: count of rows, distance between them, length of a row, distance between its elements."""

ORIGIN = len(NAMES)
"""Where totals hold, behind `NAMES`, what their mean is counted from: a mean far from zero would be rounded at each
block otherwise."""
_BLOCK = 2048
_WAYS = 4
_APART = 2176
"""Counters are kept four times, since the next equal code would wait for the count before it to be stored; a distance
that is no multiple of 4096 bytes keeps the processor from taking one for the other."""
_Function = TypeVar("_Function", bound=Callable[..., Any])
_FINITE = {"reassoc", "contract", "nsz", "nnan", "ninf"}


def _compile(**options: Any) -> Callable[[_Function], _Function]:
    """Compile without the interpreter lock, keeping the result on disk where a folder for it can be written."""

    def decorate(function: _Function) -> _Function:
        try:
            compiled: _Function = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            compiled = numba.njit(nogil=True, **options)(function)
        return compiled

    return decorate


def _value(flat: Any, table: Any, at: Any) -> Any:
    """Read a number; narrow ones are codes, whose numbers stand in a table."""
    raise NotImplementedError


@overload(_value)
def _value_of(flat: Any, table: Any, at: Any) -> Any:
    """Choose by type how `_value` is compiled; numba wants the names and annotations to be equal."""

    def read(flat: Any, table: Any, at: Any) -> Any:
        return flat[at]

    def look_up(flat: Any, table: Any, at: Any) -> Any:
        return table[flat[at]]

    return look_up if flat.dtype in (numba.types.uint8, numba.types.uint16) else read


@_compile()
def _load(flat: Array, table: Array, geometry: Geometry, first: int, block: Array) -> None:
    """Fill a block with the elements of a piece from `first` on."""
    _, between, run, step = geometry
    row, column, done = first // run, first % run, 0
    while done < block.size:
        count, start = min(run - column, block.size - done), row * between + column * step
        here = block[done : done + count]
        if step == 1:
            there = flat[start : start + count]
            for at in range(count):
                here[at] = _value(there, table, at)
        else:
            there = flat[start : start + (count - 1) * step + 1]
            for at in range(count):
                here[at] = _value(there, table, at * step)
        done, row, column = done + count, row + 1, 0


@_compile()
def _count(words: Array, counters: Array) -> None:
    """Count float32 numbers by their leading 11 bits."""
    for quarter in range(uint64(words.size) >> uint64(2)):
        at = uint64(quarter) << uint64(2)
        counters[uint64(words[at] >> uint32(21))] += 1
        counters[uint64(words[at + uint64(1)] >> uint32(21)) + uint64(_APART)] += 1
        counters[uint64(words[at + uint64(2)] >> uint32(21)) + uint64(2 * _APART)] += 1
        counters[uint64(words[at + uint64(3)] >> uint32(21)) + uint64(3 * _APART)] += 1
    for rest in range(words.size & ~3, words.size):
        counters[uint64(words[rest] >> uint32(21))] += 1


@_compile()
def _leading(block: Array, words: Array) -> None:
    """Give the leading bits of what float64 numbers would be as float32, rounded towards zero."""
    bits = block.view(np.uint64)
    for at in range(block.size):
        high = np.int32(bits[at] >> uint64(32))
        code = ((high & np.int32(0x7FFFFFFF)) >> np.int32(18)) - np.int32(4 * (1023 - 127))
        code = min(max(code, np.int32(0)), np.int32(1023))
        words[at] = (uint32(code) << uint32(21)) | (uint32(high) & uint32(0x80000000))


def _extremes_of(integer: Any, floating: Any) -> Callable[[Array], tuple[Any, Any]]:
    """Make the function that finds lowest and highest, as integers that are ordered as the floats are."""
    most, sign = integer(np.iinfo(integer).max), integer(np.iinfo(integer).bits - 1)

    @_compile()
    def extremes(block: Array) -> tuple[Any, Any]:
        bits = block.view(integer)
        low, high = most, integer(~most)
        for at in range(bits.size):
            key = integer(bits[at] ^ ((bits[at] >> sign) & most))
            low = min(low, key)
            high = max(high, key)
        low = integer(low ^ ((low >> sign) & most))
        high = integer(high ^ ((high >> sign) & most))
        return low.view(floating), high.view(floating)

    return extremes


_extremes32 = _extremes_of(np.int32, np.float32)
_extremes64 = _extremes_of(np.int64, np.float64)


@_compile(fastmath=_FINITE)
def _powers(block: Array, centre: float) -> tuple[float, ...]:
    """Sums of the first four powers of what is about a centre, and of magnitudes, of finite numbers."""
    s1 = s2 = s3 = s4 = l1 = 0.0
    for at in range(block.size):
        value = np.float64(block[at])
        deviation = value - centre
        square = deviation * deviation
        s1 += deviation
        s2 += square
        s3 += square * deviation
        s4 += square * square
        l1 += abs(value)
    return s1, s2, s3, s4, l1


@_compile()
def _join(total: Array, block: Array, low: float, high: float) -> None:
    """Join finite numbers to the total, by the formulas of `wdyn.capture.sums.join`."""
    # The mean of the blocks before is near that of this one; where it is not, that of this one is known by then.
    if total[0] == 0:
        total[ORIGIN] = low / 2 + high / 2
    centre = min(max(total[ORIGIN] + total[1], low), high)
    s1, s2, s3, s4, l1 = _powers(block, centre)
    count = float(block.size)
    if s1 * s1 > 0.25 * count * s2:
        centre = min(max(centre + s1 / count, low), high)
        s1, s2, s3, s4, l1 = _powers(block, centre)
    off, n = s1 / count, total[0] + count
    m2 = max(s2 - count * off * off, 0.0)
    m3 = s3 - 3 * off * s2 + 2 * count * off**3
    m4 = s4 - 4 * off * s3 + 6 * off * off * s2 - 3 * count * off**4
    apart = (centre - total[ORIGIN]) + off - total[1]
    old, new = -apart * (count / n), apart * (total[0] / n)  # from the joint mean to that of either
    total[4] += 4 * old * total[3] + 6 * old * old * total[2] + total[0] * old**4
    total[4] += m4 + 4 * new * m3 + 6 * new * new * m2 + count * new**4
    total[3] += 3 * old * total[2] + total[0] * old**3 + m3 + 3 * new * m2 + count * new**3
    total[2] += total[0] * old * old + m2 + count * new * new
    total[1] += apart * (count / n)
    total[0] = n
    total[5] += l1
    total[6], total[7] = min(total[6], low), max(total[7], high)


@_compile()
def _zeros_until_now(counters: Array) -> int:
    """How many numbers had the leading bits of zero."""
    seen = 0
    for way in range(_WAYS):
        seen += counters[way * _APART] + counters[way * _APART + bins.SIGN]
    return seen


@_compile()
def _count_zeros(block: Array, counters: Array, total: Array) -> None:
    """Move zeros from the codes that they share with the smallest numbers to one of their own."""
    zeros, negative = 0, 0
    for at in range(block.size):
        zeros += block[at] == 0
        negative += (block[at] == 0) & np.signbit(block[at])
    counters[0] -= zeros - negative
    counters[bins.SIGN] -= negative
    counters[bins.CODE_OF_ZERO] += zeros
    total[8] += zeros


@_compile()
def _keep_finite(block: Array, words: Array, counters: Array, total: Array) -> Array:
    """Give the finite numbers, counting the others; NaN leaves the code that it shares with infinity."""
    kept, count = np.empty(block.size, dtype=np.float64), 0
    for at in range(block.size):
        if np.isnan(block[at]):
            total[9] += 1
            counters[words[at] >> uint32(21)] -= 1
            counters[bins.CODE_OF_NAN] += 1
        elif np.isinf(block[at]):
            total[10] += 1
        else:
            kept[count] = block[at]
            count += 1
    return kept[:count]


@_compile()
def _add(block: Array, words: Array, ends: tuple[float, float], counters: Array, total: Array) -> None:
    """Add a block with its leading bits, and the lowest and highest of its floats in the order of their bits."""
    zeros = _zeros_until_now(counters)
    _count(words, counters)
    if _zeros_until_now(counters) > zeros:
        _count_zeros(block, counters, total)
    if np.isfinite(ends[0]) and np.isfinite(ends[1]):
        _join(total, block, np.float64(ends[0]), np.float64(ends[1]))
        return
    kept = _keep_finite(block, words, counters, total)
    if kept.size:
        low, high = _extremes64(kept)
        _join(total, kept, low, high)


@_compile()
def _add_all_counters(counters: Array, counts: Array) -> None:
    for way in range(_WAYS):
        for code in range(bins.CODES):
            counts[code] += counters[way * _APART + code]


@_compile()
def measure_rows(flat: Array, geometry: Geometry, total: Array, counts: Array) -> None:
    """Measure float32 rows where they lie."""
    rows, between, run, _ = geometry
    counters = np.zeros(_WAYS * _APART, dtype=np.int32)
    for row in range(rows):
        for first in range(0, run, _BLOCK):
            start = row * between + first
            block = flat[start : start + min(_BLOCK, run - first)]
            _add(block, block.view(np.uint32), _extremes32(block), counters, total)
    _add_all_counters(counters, counts)


@_compile()
def measure_narrow(flat: Array, table: Array, geometry: Geometry, total: Array, counts: Array) -> None:
    """Measure numbers that float32 holds exactly."""
    counters, buffer = np.zeros(_WAYS * _APART, dtype=np.int32), np.empty(_BLOCK, dtype=np.float32)
    size = geometry[0] * geometry[2]
    for first in range(0, size, _BLOCK):
        block = buffer[: min(_BLOCK, size - first)]
        _load(flat, table, geometry, first, block)
        _add(block, block.view(np.uint32), _extremes32(block), counters, total)
    _add_all_counters(counters, counts)


@_compile()
def measure_wide(
    flat: Array, table: Array, geometry: Geometry, minus: Array, minus_table: Array, minus_geometry: Geometry,
    total: Array, counts: Array,
) -> None:  # fmt: skip
    """Measure a difference in float64, or the numbers themselves where `minus` is empty."""
    counters, words = np.zeros(_WAYS * _APART, dtype=np.int32), np.empty(_BLOCK, dtype=np.uint32)
    buffer, before = np.empty(_BLOCK, dtype=np.float64), np.empty(_BLOCK, dtype=np.float64)
    size = geometry[0] * geometry[2]
    for first in range(0, size, _BLOCK):
        count = min(_BLOCK, size - first)
        block = buffer[:count]
        _load(flat, table, geometry, first, block)
        if minus.size:
            _load(minus, minus_table, minus_geometry, first, before[:count])
            for at in range(count):
                block[at] -= before[at]
        _leading(block, words[:count])
        _add(block, words[:count], _extremes64(block), counters, total)
    _add_all_counters(counters, counts)
