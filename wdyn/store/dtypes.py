"""How is each torch dtype kept on disk, bit for bit?

numpy has no bfloat16 and no float8. Their bits are stored as unsigned integers; float32 holds every one of their
values, so readers see float32, and `narrow` gives back the very bits, NaN payloads included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np
import numpy.typing as npt

BITS_OF = "bits_of"
"""Array attribute that names the true dtype of stored bits."""


@dataclass(frozen=True)
class StoredType:
    """How values of one torch dtype lie on disk."""

    dtype: str
    """Zarr data type, which is numpy's name too."""
    fill: float | int | bool | str | tuple[str, str]
    """Zarr fill value: what a lost chunk shows."""
    bits_of: str = ""
    """The true dtype, where numpy lacks it."""


_NATIVE = {
    **{name: StoredType(name, "NaN") for name in ("float64", "float32", "float16")},
    **{name: StoredType(name, ("NaN", "NaN")) for name in ("complex64", "complex128")},
    **{f"{sign}int{bits}": StoredType(f"{sign}int{bits}", 0) for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": StoredType("bool", False),
}

# The fill values are the bits of each type's NaN.
_BITS = {
    "bfloat16": StoredType("uint16", 0x7FC0, "bfloat16"),
    "float8_e4m3fn": StoredType("uint8", 0x7F, "float8_e4m3fn"),
    "float8_e5m2": StoredType("uint8", 0x7E, "float8_e5m2"),
    "float8_e4m3fnuz": StoredType("uint8", 0x80, "float8_e4m3fnuz"),
    "float8_e5m2fnuz": StoredType("uint8", 0x80, "float8_e5m2fnuz"),
    "float8_e8m0fnu": StoredType("uint8", 0xFF, "float8_e8m0fnu"),
}

STORED_TYPES = _NATIVE | _BITS
"""Torch's name of every dtype that can be kept, with how."""


@cache
def _float32_of_byte(name: str) -> npt.NDArray[np.uint32]:
    """Bits of the float32 for each of the 256 codes of a float8; a NaN keeps its code as payload."""
    codes = np.arange(256, dtype=np.uint8)
    values = codes.view(getattr(ml_dtypes, name)).astype(np.float32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000) | codes, values.view(np.uint32))


def widen(bits: npt.NDArray[np.unsignedinteger], *, bits_of: str) -> npt.NDArray[np.float32]:
    """Show stored bits as the float32 values that they mean; same shape, no rounding."""
    wide = _float32_of_byte(bits_of)[bits] if bits_of != "bfloat16" else bits.astype(np.uint32) << np.uint32(16)
    return np.asarray(wide, dtype=np.uint32).view(np.float32)  # an array again, where numpy made a scalar of 0-d


def narrow(values: npt.NDArray[np.float32], *, bits_of: str) -> npt.NDArray[np.unsignedinteger]:
    """Give back the bits that `widen` was given; same shape.

    Raises
    ------
    ValueError
        A value is none that the dtype can hold.
    """
    wide = np.asarray(values, dtype=np.float32).view(np.uint32)
    if bits_of == "bfloat16":
        bits: npt.NDArray[np.unsignedinteger] = np.asarray(wide >> np.uint32(16), dtype=np.uint16)
    else:
        table = _float32_of_byte(bits_of)
        order = np.argsort(table)
        found = np.searchsorted(table[order], wide).clip(max=255)
        bits = np.asarray(order[found], dtype=np.uint8)
    if not np.array_equal(widen(bits, bits_of=bits_of).view(np.uint32), wide):
        raise ValueError(f"some values are none that {bits_of} can hold")
    return bits
