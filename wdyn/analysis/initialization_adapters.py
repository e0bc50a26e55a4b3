"""Do the two factors of each adapter begin as one that is drawn and one that is zero?

An adapter adds B A to a frozen weight (LoRA, Hu et al. 2021). It should begin as nothing, B A = 0, and be able to
learn: the gradient of A is a product with B and that of B one with A, so exactly one of the two must be zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema

_FACTORS = (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B"))


def still_adapters(result: xr.Dataset) -> list[str]:
    """Name both factors of each adapter that cannot learn, since both are zero."""
    return [name for pair in _pairs(result) for name in pair if all(_is_zero(result, one) for one in pair)]


def adapters_off_zero(result: xr.Dataset) -> list[str]:
    """Name both factors of each adapter that changes the model at once, since neither is zero."""
    return [name for pair in _pairs(result) for name in pair if not any(_is_zero(result, one) for one in pair)]


def _pairs(result: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Give the names of both factors of each adapter of which both were recorded."""
    recorded = [str(name) for name in result[schema.PARAMETER].values[result["std"].notnull().values]]
    known = set(recorded)
    for name in recorded:
        parts = name.split(".")
        for first, second in _FACTORS:
            other = ".".join(second if part == first else part for part in parts)
            if first in parts and other in known:
                yield name, other


def _is_zero(result: xr.Dataset, name: str) -> bool:
    one = result.sel({schema.PARAMETER: name})
    return bool(np.all([one["std"] == 0, one["mean"] == 0]))
