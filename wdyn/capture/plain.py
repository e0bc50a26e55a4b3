"""How is host memory measured where nothing compiled is at hand?

By whole-array operations on batches that stay in a cache, with many small tensors taken as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn import bins
from wdyn.capture.layout import Aligned, cut, exact_in_float32
from wdyn.capture.sums import EMPTY, Sums

BATCH = 1 << 17
TOGETHER = 64
"""Most pieces that are measured as one: each needs counters."""
_FEW = 8
"""Up to so many pieces of a batch are gone through one by one: what spreads a number over each costs more."""
_UNTHREADED = 1 << 15
"""Elements up to which torch starts no threads, which would stall where cores are shared with training."""
_DOT = 1 << 12

Block = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Wide = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


class PlainKernel:
    """Measures batches of at most `TOGETHER` pieces and `BATCH` elements, in memory that it uses again."""

    def __init__(self) -> None:
        self._values, self._codes = np.empty(BATCH, dtype=np.float32), np.empty(BATCH, dtype=np.int32)
        self._wide, self._deviation, self._square = np.empty((3, BATCH))

    def __call__(self, batch: Sequence[Aligned]) -> tuple[Sums, Counts]:
        """Give the sums (piece, `sums.NAMES`) and counts (piece, `bins.CODES`) of a batch of one kind."""
        lengths = np.array([piece[0].numel() for piece in batch])
        size = int(lengths.sum())
        wide, codes = self._wide[:size], self._codes[:size]
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and Inf are counted; so is what they turn into
            if narrow(batch[0]):
                values: Block = self._narrow_values(batch, size)
                np.right_shift(values.view(np.uint32), 21, out=codes.view(np.uint32))
                np.copyto(wide, values)
            else:
                place(batch, wide)
                values = wide
                _lead(wide, codes)
            return self._measure(values, wide, codes, lengths)

    def _narrow_values(self, batch: Sequence[Aligned], size: int) -> Block:
        tensor = batch[0][0]
        if len(batch) == 1 and tensor.dtype == torch.float32 and tensor.is_contiguous():
            own: Block = tensor.view(-1).numpy()
            return own
        values = self._values[:size]
        place(batch, values)
        return values

    def _measure(self, values: Block, wide: Wide, codes: Codes, lengths: Counts) -> tuple[Sums, Counts]:
        counts = _counts(codes, lengths)
        starts = np.cumsum(lengths) - lengths
        sums = np.zeros((len(lengths), 11))
        if counts[:, bins.CODES_NEAR_ZERO].any():
            sums[:, 8] = _move_zeros(wide, starts, counts)
        if counts[:, bins.CODES_BEYOND].any() and not (finite := np.isfinite(wide)).all():
            sums[:, 9:] = _move_nans(wide, starts, codes, counts)
            lengths = np.add.reduceat(finite, starts, dtype=np.int64)
            values = wide = wide[finite]
        some = lengths > 0
        if some.all():
            sums[:, :8] = self._moments(values, wide, lengths)
        else:
            sums[:, :8] = EMPTY[:8]
            sums[some, :8] = self._moments(values, wide, lengths[some])
        return sums, counts

    def _moments(self, values: Block, wide: Wide, n: Counts) -> Sums:
        """Sums of finite numbers, up to the zeros; no piece is empty, but there may be none."""
        if len(n) == 0:
            return np.empty((0, 8))
        starts = np.cumsum(n) - n
        deviation, square = self._deviation[: len(wide)], self._square[: len(wide)]
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        mean = np.add.reduceat(wide, starts) / n
        mean = np.minimum(np.maximum(mean, low), high)  # equal numbers are not to differ from their mean by rounding
        _less(wide, mean, starts, deviation)
        np.multiply(deviation, deviation, out=square)
        pairs = (deviation, deviation), (square, deviation), (square, square)
        m2, m3, m4 = (_dots(a, b, starts) for a, b in pairs)
        l1 = np.add.reduceat(np.abs(wide, out=deviation), starts)
        return np.array([n, mean, m2, m3, m4, l1, low, high]).T


def narrow(piece: Aligned) -> bool:
    """Say whether float32 holds what is to be measured."""
    return len(piece) == 1 and exact_in_float32(piece[0].dtype)


def modulus(tensor: Tensor, minus: Tensor | None = None) -> Tensor:
    """The modulus of complex numbers, or of their difference, in float64."""
    wide = tensor.to(torch.complex128)
    return (wide if minus is None else wide - minus).abs()


def place(batch: Sequence[Aligned], into: Block) -> None:
    """Put pieces into a buffer, one after another, less what is to be subtracted."""
    buffer, at = torch.from_numpy(into), 0
    for piece in batch:
        tensor = piece[0]
        here = buffer[at : at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
        for to, *numbers in cut((here, *piece), size=_UNTHREADED):
            if numbers[0].is_complex():
                to.copy_(modulus(*numbers))
            else:
                to.copy_(numbers[0])
                for before in numbers[1:]:
                    to.sub_(before.to(torch.float64))


def _lead(wide: Wide, codes: Codes) -> None:
    """Write the code of each float64 number: what would lead it as float32, rounded towards zero."""
    np.right_shift(wide.view(np.int64), 32, out=codes, casting="unsafe")
    sign = (codes >> 31) & bins.SIGN
    codes &= 0x7FFFFFFF
    codes >>= 18
    codes -= 4 * (1023 - 127)
    np.maximum(codes, 0, out=codes)
    np.minimum(codes, bins.SIGN - 1, out=codes)
    codes |= sign


def _counts(codes: Codes, lengths: Counts) -> Counts:
    """Count codes by piece."""
    pieces, leading = len(lengths), 2 * bins.SIGN
    if pieces > 1:
        codes = codes + np.repeat(np.arange(pieces, dtype=np.int32) * leading, lengths)
    counts = np.zeros((pieces, bins.CODES), dtype=np.int64)
    counts[:, :leading] = np.bincount(codes, minlength=pieces * leading).reshape(pieces, leading)
    return counts


def _move_zeros(wide: Wide, starts: Counts, counts: Counts) -> Counts:
    """Give zeros, which share their codes with the smallest numbers, one of their own; tell how many there are."""
    zero = wide == 0
    zeros: Counts = np.add.reduceat(zero, starts, dtype=np.int64)
    negative = np.add.reduceat(zero & np.signbit(wide), starts, dtype=np.int64)
    counts[:, 0] -= zeros - negative
    counts[:, bins.SIGN] -= negative
    counts[:, bins.CODE_OF_ZERO] = zeros
    return zeros


def _move_nans(wide: Wide, starts: Counts, codes: Codes, counts: Counts) -> Counts:
    """Give NaN, which shares its codes with infinity, one of its own; tell how many NaN and Inf there are."""
    at = np.flatnonzero(np.isnan(wide))
    piece = np.searchsorted(starts, at, side="right") - 1
    np.subtract.at(counts, (piece, codes[at]), 1)
    nans = np.bincount(piece, minlength=len(starts))
    counts[:, bins.CODE_OF_NAN] = nans
    infs = np.add.reduceat(np.isinf(wide), starts, dtype=np.int64)
    return np.stack([nans, infs], axis=1)


def _dots(a: Wide, b: Wide, starts: Counts) -> Wide:
    """Sum of products in each piece."""
    if len(starts) > _FEW:
        products: Wide = np.add.reduceat(a * b, starts)
        return products
    return np.array([dot(a[piece], b[piece]) for piece in _slices(starts, len(a))])


def _less(wide: Wide, mean: Wide, starts: Counts, out: Wide) -> None:
    """Subtract from each piece its mean."""
    if len(starts) > _FEW:
        np.subtract(wide, np.repeat(mean, np.diff(starts, append=len(wide))), out=out)
        return
    for piece, centre in zip(_slices(starts, len(wide)), mean, strict=True):
        np.subtract(wide[piece], centre, out=out[piece])


def _slices(starts: Counts, size: int) -> list[slice]:
    places = starts.tolist()
    return [slice(start, stop) for start, stop in zip(places, [*places[1:], size], strict=True)]


def dot(a: Wide, b: Wide) -> float:
    """Sum of products, in rows so short that the linear algebra library behind numpy starts no threads for them."""
    whole = len(a) // _DOT * _DOT
    rows = np.vecdot(a[:whole].reshape(-1, _DOT), b[:whole].reshape(-1, _DOT))
    return float(rows.sum() + np.vecdot(a[whole:], b[whole:]))
