"""What does a person read of a model, or of a saved one, that nobody trained here?"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.reports.outline import Block, outline, spans
from wdyn.reports.summary import size


@dataclass(frozen=True)
class Anatomy:
    """The card of a model.

    Attributes
    ----------
    source
        What it was asked for by: a path, or a name on the hub.
    model
        Class name of the model, "" where only its tensors are there.
    names, values
        Count of parameters by name, buffers included, and of distinct elements (a tied weight counts once).
    bytes_by_dtype
        Memory of the distinct elements, largest first.
    stacks
        Layers of each stack: ``{"decoder": "0–11"}``.
    tied, frozen
        Count of names that share another one's weights, and of elements that do not train.
    blocks
        What it is made of.
    """

    source: str
    model: str
    names: int
    values: int
    bytes_by_dtype: dict[str, int]
    stacks: dict[str, str]
    tied: int
    frozen: int
    blocks: tuple[Block, ...]


def anatomy(parameters: xr.Dataset, *, source: str = "") -> Anatomy:
    """Count what `describe` found."""
    own = parameters.isel({schema.PARAMETER: np.flatnonzero(parameters["tied_to"].values == "")})
    counted: Counter[str] = Counter()
    for dtype, count in zip(own["dtype"].values.tolist(), own["numel"].values.tolist(), strict=True):
        counted[dtype] += count * itemsize(dtype)
    return Anatomy(
        source=source,
        model=str(parameters.attrs.get("model", "")),
        names=parameters.sizes[schema.PARAMETER],
        values=int(own["numel"].sum()),
        bytes_by_dtype=dict(counted.most_common()),
        stacks=_stacks(parameters),
        tied=parameters.sizes[schema.PARAMETER] - own.sizes[schema.PARAMETER],
        frozen=int(own["numel"].values[~own["trainable"].values & (own["kind"].values != schema.Kind.BUFFER)].sum()),
        blocks=outline(parameters),
    )


def facts(found: Anatomy) -> dict[str, str]:
    """Say the card in words, one line each."""
    lines = {
        "Model": f"{found.model or 'a state dict'}, {found.names} parameters, {found.values:,} values",
        "Size": ", ".join(f"{size(count)} {dtype}" for dtype, count in found.bytes_by_dtype.items()) or size(0),
        "Layers": "; ".join(f"{stack} {layers}" for stack, layers in found.stacks.items()) or "none",
    }
    if found.tied:
        lines["Tied"] = f"{found.tied} name{'s share' if found.tied > 1 else ' shares'} the weights of another"
    if found.frozen:
        lines["Frozen"] = f"{found.frozen:,} values"
    return lines


def itemsize(dtype: str) -> int:
    """Bytes of one element of a torch dtype: ``bfloat16`` has 2, ``bool`` 1."""
    bits = re.search(r"\d+", dtype)
    return max(int(bits[0]) // 8, 1) if bits else 1


def _stacks(parameters: xr.Dataset) -> dict[str, str]:
    layers: dict[str, list[int]] = {}
    for stack, layer in zip(parameters["stack"].values.tolist(), parameters["layer"].values.tolist(), strict=True):
        if layer != schema.NO_LAYER:
            layers.setdefault(stack, []).append(layer)
    return {stack: spans(found) for stack, found in layers.items()}
