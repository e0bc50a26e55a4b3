"""How do two tensors of one shape differ, element by element and as a whole?

Everything is summed in float64, piece by piece, so that memory beyond the pair itself is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

PIECE = 2**17
"""Elements that are widened to float64 at once: few enough to stay in the cache of a processor."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NARROWER = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass
class Pair:
    """What was counted and summed over two tensors, a and b. An element whose bits are equal has not changed.

    Attributes
    ----------
    is_matrix
        Whether they have two axes or more.
    numel, changed
        Count of elements, and of those that differ: in their bits, or in value where the dtypes differ.
    squares_a, squares_b, squares_change, dot
        Sums of a², b², (b - a)² and a b.
    max_abs
        Largest absolute b - a; NaN where a changed element has one.
    ulps
        Largest count of representable numbers from a to b, in the coarser of the dtypes; NaN for integers, and where a
        changed element is NaN.
    nans_a, infs_a, nans_b, infs_b
        Counts of elements.
    rounds_to
        The dtypes to which a may have been rounded to give b, bit for bit; none where nothing changed at all.
    rounded_from
        Those to which b would be rounded to give a.
    """

    numel: int
    is_matrix: bool = False
    changed: int = 0
    squares_a: float = 0.0
    squares_b: float = 0.0
    squares_change: float = 0.0
    dot: float = 0.0
    max_abs: float = 0.0
    ulps: float = 0.0
    nans_a: int = 0
    infs_a: int = 0
    nans_b: int = 0
    infs_b: int = 0
    rounds_to: list[torch.dtype] = field(default_factory=list)
    rounded_from: list[torch.dtype] = field(default_factory=list)

    @property
    def relative(self) -> float:
        """Frobenius norm of the change over that of a: 0 for none, infinite where a was zero."""
        if self.squares_change == 0:
            return 0.0
        return math.sqrt(self.squares_change / self.squares_a) if self.squares_a else math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between a and b; NaN where one is zero."""
        norms = math.sqrt(self.squares_a) * math.sqrt(self.squares_b)
        return max(-1.0, min(1.0, self.dot / norms)) if norms and math.isfinite(self.dot) else math.nan


def compare(a: Tensor, b: Tensor) -> Pair:
    """Compare two tensors of one shape, of any dtypes; a complex one counts as pairs of real ones."""
    is_matrix = a.ndim > 1
    a, b = _real(a).reshape(-1), _real(b).reshape(-1)
    pair = Pair(a.numel(), is_matrix, rounds_to=_roundings(a.dtype, b.dtype), rounded_from=_roundings(b.dtype, a.dtype))
    coarser = _coarser(a.dtype, b.dtype)
    for start in range(0, a.numel(), PIECE):
        _add(pair, a[start : start + PIECE], b[start : start + PIECE], coarser)
    if not pair.changed and a.dtype == b.dtype:
        pair.rounds_to, pair.rounded_from = [], []
    return pair


def alone(tensor: Tensor) -> tuple[float, int, int]:
    """Give the Frobenius norm of one tensor, and the counts of its NaN and of its infinities."""
    squares, nans, infs = 0.0, 0, 0
    flat = _real(tensor).reshape(-1)
    for start in range(0, flat.numel(), PIECE):
        wide = flat[start : start + PIECE].to(torch.float64)
        squares += float(wide.square().sum())
        nans, infs = nans + int(wide.isnan().sum()), infs + int(wide.isinf().sum())
    return math.sqrt(squares), nans, infs


def changes(a: Tensor, b: Tensor, *, columns: int) -> Iterator[Tensor]:
    """Give b - a in float64, in blocks of whole rows of matrices; elements with equal bits are 0."""
    rows = max(1, PIECE // max(columns, 1))
    for start in range(0, a.shape[0], rows):
        one, other = a[start : start + rows], b[start : start + rows]
        yield _change(one, other, _same(one, other))


def real_bits(tensor: Tensor) -> Tensor:
    """Give the bits of a tensor as integers of the size of its elements."""
    return _real(tensor).contiguous().view(_BITS[_real(tensor).element_size()])


def _add(pair: Pair, a: Tensor, b: Tensor, coarser: torch.dtype | None) -> None:
    same = _same(a, b)
    wide_a, wide_b, change = a.to(torch.float64), b.to(torch.float64), _change(a, b, same)
    pair.changed += a.numel() - int(same.sum())
    pair.squares_a += float(wide_a.square().sum())
    pair.squares_b += float(wide_b.square().sum())
    pair.squares_change += float(change.square().sum())
    pair.dot += float((wide_a * wide_b).sum())  # summed as the squares are, so that of equal ones it is their square
    pair.max_abs = _largest(pair.max_abs, float(change.abs().max()))
    pair.nans_a, pair.infs_a = pair.nans_a + int(wide_a.isnan().sum()), pair.infs_a + int(wide_a.isinf().sum())
    pair.nans_b, pair.infs_b = pair.nans_b + int(wide_b.isnan().sum()), pair.infs_b + int(wide_b.isinf().sum())
    pair.ulps = _largest(pair.ulps, _ulps(a[~same], b[~same], coarser) if not same.all() else 0.0)
    pair.rounds_to = [dtype for dtype in pair.rounds_to if _rounds(a, b, dtype)]
    pair.rounded_from = [dtype for dtype in pair.rounded_from if _rounds(b, a, dtype)]


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _same(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype == b.dtype:
        return real_bits(a) == real_bits(b)
    one, other = a.to(torch.float64), b.to(torch.float64)
    return (one == other) | (one.isnan() & other.isnan())


def _change(a: Tensor, b: Tensor, same: Tensor) -> Tensor:
    whole = not (a.dtype.is_floating_point or b.dtype.is_floating_point)
    kind = torch.int64 if whole else torch.float64  # integers beyond 2^53 have no float64 of their own
    change = (b.to(kind) - a.to(kind)).to(torch.float64)
    return change.masked_fill(same, 0.0)


def _ulps(a: Tensor, b: Tensor, coarser: torch.dtype | None) -> float:
    if coarser is None or bool((a.isnan() | b.isnan()).any()):
        return math.nan
    one, other = _place(a.to(coarser)), _place(b.to(coarser))
    # Of unequal signs the distance is beyond what int64 holds.
    apart = torch.where(
        (one < 0) == (other < 0), (one - other).abs().double(), one.abs().double() + other.abs().double()
    )
    return float(apart.max())


def _place(tensor: Tensor) -> Tensor:
    """Number the values of a float dtype in order, 0 for both zeros."""
    bits = real_bits(tensor).to(torch.int64)
    size = bits & (2 ** (8 * tensor.element_size() - 1) - 1)
    return torch.where(bits < 0, -size, size)


def _rounds(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    rounded = a.to(dtype).to(b.dtype)
    return bool(((real_bits(rounded) == real_bits(b)) | (rounded.isnan() & b.isnan())).all())


def _roundings(source: torch.dtype, target: torch.dtype) -> list[torch.dtype]:
    """To which dtypes one of `source` may have been rounded, to be kept as one of `target`."""
    if source != target:
        return [target]
    return [one for one in _NARROWER if source.is_floating_point and one.itemsize < source.itemsize]


def _coarser(a: torch.dtype, b: torch.dtype) -> torch.dtype | None:
    if not (a.is_floating_point and b.is_floating_point):
        return None
    return max(a, b, key=lambda dtype: torch.finfo(dtype).eps)


def _largest(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
