"""How does one say which parameters are meant, without listing them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.naming import examples


@dataclass(frozen=True)
class Frozen:
    """What did not change: whole layers, and roles beside them."""

    layers: str
    roles: str

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.layers, self.roles)))


def frozen_words(trained: xr.Dataset, still: npt.NDArray[np.bool_]) -> Frozen:
    """Say what did not change: ``layers 0–3 and embedding``."""
    stacks, layers = trained["stack"].values, trained["layer"].values
    several = len(set(stacks[layers != schema.NO_LAYER].tolist())) > 1
    whole: list[str] = []
    beside = still.copy()
    for stack in dict.fromkeys(stacks.tolist()):
        own = (stacks == stack) & (layers != schema.NO_LAYER)
        quiet = [layer for layer in sorted(set(layers[own].tolist())) if still[own & (layers == layer)].all()]
        if quiet:
            whole.append(f"{f'{stack} ' if several else ''}layer{'s' * (len(quiet) > 1)} {ranges(quiet)}")
            beside &= ~(own & np.isin(layers, quiet))
    of = trained["role"].values
    counts = {role: (int((beside & (of == role)).sum()), int((of == role).sum())) for role in dict.fromkeys(of[beside])}
    words = [
        str(role) if some == all_ else f"{some} of {all_} {role} parameters" for role, (some, all_) in counts.items()
    ]
    return Frozen(", ".join(whole), examples(words, 5))


def places(table: xr.Dataset) -> str:
    """Say where matrices stand: ``q, v of layers 0–11``."""
    roles = examples(dict.fromkeys(table["role"].values.tolist()), 4)
    layers = sorted({int(layer) for layer in table["layer"].values if layer != schema.NO_LAYER})
    return f"{roles} of layer{'s' * (len(layers) > 1)} {ranges(layers)}" if layers else roles


def ranges(numbers: list[int]) -> str:
    """Write ascending numbers in short: ``0–3, 7``."""
    ends = [at for at, one in enumerate(numbers) if at + 1 == len(numbers) or numbers[at + 1] != one + 1]
    starts = [0, *(at + 1 for at in ends[:-1])]
    return ", ".join(
        str(numbers[a]) if a == b else f"{numbers[a]}–{numbers[b]}" for a, b in zip(starts, ends, strict=True)
    )


def number(value: float) -> str:
    """Write a number with what tells it from 1: ``0.0121``, ``0.99998``."""
    if np.isnan(value):
        return "NaN"
    near_one = 1e-9 < abs(1 - abs(value)) < 0.01
    return f"{value:.{max(3, 1 - int(np.floor(np.log10(abs(1 - abs(value))))))}f}" if near_one else f"{value:.3g}"
