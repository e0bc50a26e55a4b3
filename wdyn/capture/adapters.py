"""By what does PEFT multiply each LoRA adapter of a model? By alpha / r, which its two matrices do not tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from wdyn.capture.tensors import Leaf, model_leaves

_FIRST = ("lora_A", "lora_embedding_A")
Scales = Mapping[str, Mapping[str, Any]]
"""By name of the adapter: ``scale``, that of most of its modules, and ``others``, by module, where it differs."""


def adapter_scales(model: nn.Module) -> dict[str, Scales]:
    """Give the attribute ``adapters`` of an attempt; nothing where the model has none.

    Asked for is what PEFT multiplies by, ``scaling`` of the module: alpha / r, alpha / sqrt(r) for rsLoRA.
    """
    found: dict[str, dict[str, float]] = {}
    for module, adapter, scale in _found(model):
        found.setdefault(adapter, {})[module] = scale
    return {"adapters": {name: _described(scales) for name, scales in found.items()}} if found else {}


def _described(scales: dict[str, float]) -> dict[str, Any]:
    usual = Counter(scales.values()).most_common(1)[0][0]
    return {"scale": usual, "others": {module: scale for module, scale in scales.items() if scale != usual}}


def _found(model: nn.Module) -> Iterator[tuple[str, str, float]]:
    for leaf in model_leaves(model):
        for first in _FIRST:
            module, between, rest = leaf.name.partition(f".{first}.")
            scale = _scale(leaf, adapter := rest.removesuffix(".weight"))
            if between and scale is not None:
                yield module, adapter, scale


def _scale(leaf: Leaf, adapter: str) -> float | None:
    """Ask the module that holds both factors."""
    for module in reversed(leaf.chain):
        held = getattr(module, "scaling", None)
        if isinstance(held, Mapping) and isinstance(held.get(adapter), int | float):
            scale = float(held[adapter])
            return scale if math.isfinite(scale) else None
    return None
