"""Which bins does every histogram have, of every parameter, in every run, for all time?

The bins are signed and logarithmic: 4 to an octave, over the range of normal float32 numbers. A bin is read off the
exponent and the two leading bits of the mantissa, so sorting a value into it is exact, and counts of shards, layers and
steps add up. From the lowest value to the highest there are

* one bin for everything at or below -2^128, minus infinity included,
* `NORMAL` bins for -2^128 < x <= -2^-126,
* one for -2^-126 < x < 0, one for zero (of either sign), and one for 0 < x < 2^-126,
* `NORMAL` bins for 2^-126 <= x < 2^128,
* one for everything at or above 2^128, infinity included,

and a last one for NaN. Each bin holds its edge of smaller magnitude, and not the one of larger magnitude.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

PER_OCTAVE: Final = 4
LOWEST_EXPONENT, HIGHEST_EXPONENT = -126, 128
NORMAL: Final = PER_OCTAVE * (HIGHEST_EXPONENT - LOWEST_EXPONENT)

NEGATIVE_OVERFLOW: Final = 0
NEGATIVE_UNDERFLOW: Final = NORMAL + 1
ZERO: Final = NORMAL + 2
POSITIVE_UNDERFLOW: Final = NORMAL + 3
POSITIVE_OVERFLOW: Final = 2 * NORMAL + 4
NAN: Final = 2 * NORMAL + 5
COUNT: Final = 2 * NORMAL + 6

Edges = npt.NDArray[np.float64]

_FIRST_CODE = (1023 + LOWEST_EXPONENT) * PER_OCTAVE  # exponent and two bits of mantissa of the smallest normal float32

SIGN: Final = 1024
CODE_OF_ZERO: Final = 2 * SIGN
CODE_OF_NAN: Final = CODE_OF_ZERO + 1
CODES: Final = CODE_OF_NAN + 1
"""Codes are what is counted by: the leading 11 bits of a float32 (sign, exponent, two bits of mantissa), and one code
each for zero and NaN, which share their leading bits with other numbers. `SIGN` stands before negative codes."""
CODES_NEAR_ZERO: Final = (0, SIGN)
CODES_BEYOND: Final = tuple(code for sign in (0, SIGN) for code in range(sign + SIGN - PER_OCTAVE, sign + SIGN))


def magnitudes() -> Edges:
    """Edges of the bins of magnitude, from 2^-126 to 2^128: `NORMAL` + 1 of them, exact."""
    octave, quarter = np.divmod(np.arange(NORMAL + 1), PER_OCTAVE)
    size: Edges = np.ldexp(1.0 + quarter / PER_OCTAVE, octave + LOWEST_EXPONENT)
    return size


def edges() -> tuple[Edges, Edges]:
    """Lower and upper edge of each bin, as values: 0 and 0 for zero, infinite beyond the range, NaN for NaN."""
    size = magnitudes()
    lower = np.concatenate([[-np.inf], -size[:0:-1], [-size[0], 0.0, 0.0], size, [np.nan]])
    upper = np.concatenate([-size[::-1], [0.0, 0.0, size[0]], size[1:], [np.inf, np.nan]])
    return lower, upper


def bin_of(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Sort float64 values, or what float64 holds exactly, into their bins."""
    wide = np.asarray(values, dtype=np.float64)
    code = (wide.view(np.int64) >> 50) & 0x1FFF
    place = np.clip(code - _FIRST_CODE, -1, NORMAL)  # -1 below the range, `NORMAL` above it
    at: npt.NDArray[np.int64] = np.where(wide < 0, NEGATIVE_UNDERFLOW - 1 - place, POSITIVE_UNDERFLOW + 1 + place)
    at[wide == 0] = ZERO
    at[np.isnan(wide)] = NAN
    return at


def of_codes(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Turn counts by code (..., `CODES`) into counts by bin (..., `COUNT`)."""
    binned = np.empty((*counts.shape[:-1], COUNT), dtype=np.int64)
    binned[..., ZERO], binned[..., NAN] = counts[..., CODE_OF_ZERO], counts[..., CODE_OF_NAN]
    smallest, over = PER_OCTAVE, SIGN - PER_OCTAVE  # exponents of zero and denormals, and of infinity and NaN
    positive, negative = counts[..., :SIGN], counts[..., SIGN : 2 * SIGN]
    binned[..., POSITIVE_UNDERFLOW] = positive[..., :smallest].sum(-1)
    binned[..., NEGATIVE_UNDERFLOW] = negative[..., :smallest].sum(-1)
    binned[..., POSITIVE_UNDERFLOW + 1 : POSITIVE_OVERFLOW] = positive[..., smallest:over]
    binned[..., NEGATIVE_OVERFLOW + 1 : NEGATIVE_UNDERFLOW] = negative[..., smallest:over][..., ::-1]
    binned[..., POSITIVE_OVERFLOW] = positive[..., over:].sum(-1)
    binned[..., NEGATIVE_OVERFLOW] = negative[..., over:].sum(-1)
    return binned
