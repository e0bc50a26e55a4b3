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

BATCH = 1 << 18
TOGETHER = 64
"""Most pieces that are measured as one: each needs counters."""
_SHORT = 1 << 14
"""Length below which pieces are, on average, too short to be gone through one by one."""
_UNTHREADED = 1 << 15
"""Elements up to which torch starts no threads, which would stall where cores are shared with training."""
_COUNTED = 30 << 10
"""Elements that torch counts at once: it looks for their extremes first, in threads where there are more."""
_DOT = 1 << 12
_OFF_CENTRE = 0.25
"""Share of the mean in the mean square from which on powers are summed about the mean, and not about zero."""
_LEADING = np.int64(-1 << 50)
"""Sign, exponent and two bits of mantissa of a float64."""
_DIRECT = frozenset({torch.float32, torch.float64})
"""What numpy reads and widens by itself."""

Block = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Wide = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


class PlainKernel:
    """Measures batches of at most `TOGETHER` pieces and `BATCH` elements, in memory that it uses again."""

    def __init__(self) -> None:
        self._values, self._codes = np.empty(BATCH, dtype=np.float32), np.empty(BATCH, dtype=np.int32)
        self._wide, self._square, self._product = np.empty((3, BATCH))

    def __call__(self, batch: Sequence[Aligned]) -> tuple[Sums, Counts]:
        """Give the sums (piece, `sums.NAMES`) and counts (piece, `bins.CODES`) of a batch of one kind."""
        lengths = np.array([piece[0].numel() for piece in batch])
        size = int(lengths.sum())
        wide, codes = self._wide[:size], self._codes[:size]
        with np.errstate(
            invalid="ignore", over="ignore", under="ignore"
        ):  # NaN and Inf are counted; so is what they turn into
            if narrow(batch[0]):
                values: Block = (own := self._narrow_values(batch, size))
                _lead(own, codes)
                np.copyto(wide, values)
            else:
                place(batch, wide)
                values = wide
                short = self._values[:size]
                np.bitwise_and(wide.view(np.int64), _LEADING, out=self._product[:size].view(np.int64))
                np.copyto(short, self._product[:size], casting="same_kind")  # exact, but for what is tiny, or too large
                _lead(short, codes)
            return self._measure(values, wide, codes, lengths)

    def _narrow_values(self, batch: Sequence[Aligned], size: int) -> npt.NDArray[np.float32]:
        tensor = batch[0][0]
        if len(batch) == 1 and tensor.dtype == torch.float32 and tensor.is_contiguous():
            own: npt.NDArray[np.float32] = tensor.view(-1).numpy()
            return own
        values = self._values[:size]
        place(batch, values)
        return values

    def _measure(self, values: Block, wide: Wide, codes: Codes, lengths: Counts) -> tuple[Sums, Counts]:
        counts = _counts(codes, lengths)
        starts = np.cumsum(lengths) - lengths
        sums = np.zeros((len(lengths), 11))
        _move_zeros(wide, starts, lengths, counts)
        sums[:, 8] = counts[:, bins.CODE_OF_ZERO]
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
        """Sums of finite numbers, up to the zeros; no piece is empty, but there may be none. It changes `wide`."""
        if len(n) == 0:
            return np.empty((0, 8))
        starts = np.cumsum(n) - n
        square, product = self._square[: len(wide)], self._product[: len(wide)]
        low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        total = np.add.reduceat(wide, starts)
        mean = np.minimum(np.maximum(total / n, low), high)  # equal numbers are not to differ from it by rounding
        l1 = np.add.reduceat(np.abs(wide, out=product), starts)
        s2 = np.add.reduceat(np.multiply(wide, wide, out=square), starts)
        far = ~(total * total < _OFF_CENTRE * n * s2)
        for piece in np.flatnonzero(far):
            here = slice(starts[piece], starts[piece] + n[piece])
            wide[here] -= mean[piece]
            s2[piece] = np.multiply(wide[here], wide[here], out=square[here]).sum()
        s3, s4 = dots(square, wide, starts, product), dots(square, square, starts, product)
        return np.array([n, mean, *_about(np.where(far, 0, mean), n, s2, s3, s4), l1, low, high]).T


def _about(mean: Wide, n: Counts, s2: Wide, s3: Wide, s4: Wide) -> tuple[Wide, Wide, Wide]:
    """Turn sums of powers into those about the mean: by so little that nothing is lost, for it is near zero."""
    m2 = s2 - n * mean**2
    m3 = s3 - 3 * mean * s2 + 2 * n * mean**3
    return m2, m3, s4 - 4 * mean * s3 + 6 * mean**2 * s2 - 3 * n * mean**4


def narrow(piece: Aligned) -> bool:
    """Say whether float32 holds what is to be measured."""
    return len(piece) == 1 and exact_in_float32(piece[0].dtype)


def modulus(tensor: Tensor, minus: Tensor | None = None) -> Tensor:
    """The modulus of complex numbers, or of their difference, in float64."""
    wide = tensor.to(torch.complex128)
    return (wide if minus is None else wide - minus).abs()


def place(batch: Sequence[Aligned], into: Block) -> None:
    """Put pieces into a buffer, one after another, less what is to be subtracted."""
    if all(one.dtype in _DIRECT and one.dim() == 1 for piece in batch for one in piece):
        columns = [[one.numpy() for one in same] for same in zip(*batch, strict=True)]
        np.concatenate(columns[0], out=into)
        for others in columns[1:]:
            into -= others[0] if len(others) == 1 else np.concatenate(others)
        return
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


def _lead(values: npt.NDArray[np.float32], codes: Codes) -> None:
    """Write the code of each number, which are its leading bits."""
    np.right_shift(values.view(np.uint32), 21, out=codes.view(np.uint32))


def _counts(codes: Codes, lengths: Counts) -> Counts:
    """Count codes by piece."""
    leading, sizes = 2 * bins.SIGN, lengths.tolist()
    counts = np.zeros((len(sizes), bins.CODES), dtype=np.int64)
    for row, size, piece in zip(counts, sizes, torch.from_numpy(codes).split(sizes), strict=True):
        for some in piece.split(_COUNTED) if size > _COUNTED else (piece,):
            row[:leading] += torch.bincount(some, minlength=leading).numpy()
    return counts


def _move_zeros(wide: Wide, starts: Counts, lengths: Counts, counts: Counts) -> None:
    """Give zeros, which share their codes with the smallest numbers, one of their own."""
    for piece in np.flatnonzero(counts[:, bins.CODES_NEAR_ZERO].any(axis=1)):
        here = wide[starts[piece] : starts[piece] + lengths[piece]]
        zero = here == 0
        zeros, negative = np.count_nonzero(zero), np.count_nonzero(zero & np.signbit(here))
        counts[piece, [0, bins.SIGN, bins.CODE_OF_ZERO]] += (negative - zeros, -negative, zeros)


def _move_nans(wide: Wide, starts: Counts, codes: Codes, counts: Counts) -> Counts:
    """Give NaN, which shares its codes with infinity, one of its own; tell how many NaN and Inf there are."""
    at = np.flatnonzero(np.isnan(wide))
    piece = np.searchsorted(starts, at, side="right") - 1
    np.subtract.at(counts, (piece, codes[at]), 1)
    nans = np.bincount(piece, minlength=len(starts))
    counts[:, bins.CODE_OF_NAN] = nans
    infs = np.add.reduceat(np.isinf(wide), starts, dtype=np.int64)
    return np.stack([nans, infs], axis=1)


def dots(a: Wide, b: Wide, starts: Counts, product: Wide) -> Wide:
    """Sum of products in each piece."""
    if len(a) < len(starts) * _SHORT:
        products: Wide = np.add.reduceat(np.multiply(a, b, out=product), starts)
        return products
    return np.array([_dot(a[piece], b[piece]) for piece in _slices(starts, len(a))])


def _slices(starts: Counts, size: int) -> list[slice]:
    places = starts.tolist()
    return [slice(start, stop) for start, stop in zip(places, [*places[1:], size], strict=True)]


def _dot(a: Wide, b: Wide) -> float:
    """Sum of products, in rows so short that the linear algebra library behind numpy starts no threads for them."""
    whole = len(a) // _DOT * _DOT
    rows = np.vecdot(a[:whole].reshape(-1, _DOT), b[:whole].reshape(-1, _DOT))
    return float(rows.sum() + np.vecdot(a[whole:], b[whole:]))
