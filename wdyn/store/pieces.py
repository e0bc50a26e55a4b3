"""Which chunks does a selection touch, and where does each of them go in the result?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Wanted = int | slice | npt.NDArray[np.int64]
"""What is wanted along one axis: one, a range with a positive step, or positions in ascending order."""


class Piece(NamedTuple):
    """What one chunk gives along one axis."""

    chunk: int
    inside: slice | npt.NDArray[Any]
    """Positions within the chunk."""
    at: slice
    """Positions in the result."""
    whole: bool
    """Whether it is all of the chunk."""


def cut(wanted: Wanted, *, length: int, chunk: int) -> list[Piece]:
    """Cut what is wanted along an axis of `length` into what each chunk gives, in order.

    Raises
    ------
    IndexError
        The axis has no such position.
    """
    if isinstance(wanted, slice):
        start, stop, step = wanted.indices(length)
        return _range(start, stop, chunk) if step == 1 else _positions(np.arange(start, stop, step), chunk)
    at = np.atleast_1d(wanted)
    if len(at) and not 0 <= at[0] <= at[-1] < length:
        raise IndexError(f"positions {at[0]} to {at[-1]} are out of range: there are {length}")
    return _positions(at, chunk) if isinstance(wanted, np.ndarray) else _range(int(wanted), int(wanted) + 1, chunk)


def lengths(wanted: Sequence[Wanted], shape: Sequence[int]) -> tuple[int, ...]:
    """Lengths of the axes of the result, with one of length 1 for each single position."""
    return tuple(_length(one, length) for one, length in zip(wanted, shape, strict=True))


def chunks(wanted: Sequence[Wanted], shape: Sequence[int], chunk: Sequence[int]) -> int:
    """Count the chunks that a selection touches, at most."""
    lengths_of_grid = [-(-length // one) for length, one in zip(shape, chunk, strict=True)]
    return math.prod(map(min, lengths(wanted, shape), lengths_of_grid))


def _length(wanted: Wanted, length: int) -> int:
    if isinstance(wanted, slice):
        return len(range(*wanted.indices(length)))
    return len(wanted) if isinstance(wanted, np.ndarray) else 1


def _range(start: int, stop: int, chunk: int) -> list[Piece]:
    pieces = []
    for number in range(start // chunk, -(-stop // chunk) if stop > start else 0):
        origin = number * chunk
        first, last = max(start, origin), min(stop, origin + chunk)
        inside = slice(first - origin, last - origin)
        pieces.append(Piece(number, inside, slice(first - start, last - start), last - first == chunk))
    return pieces


def _positions(wanted: npt.NDArray[Any], chunk: int) -> list[Piece]:
    numbers = wanted // chunk
    bounds = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1)).tolist() if len(wanted) else []
    pieces = []
    for first, last in pairwise(bounds):
        number = int(numbers[first])
        inside = wanted[first:last] - number * chunk
        unbroken = bool((np.diff(inside) == 1).all())
        taken = slice(int(inside[0]), int(inside[-1]) + 1) if unbroken else inside
        pieces.append(Piece(number, taken, slice(first, last), unbroken and len(inside) == chunk))
    return pieces
