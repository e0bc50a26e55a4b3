"""What are the weights of a model together with a LoRA adapter that PEFT saved beside it?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wdyn.checkpoints.beside import json_beside
from wdyn.checkpoints.saved import Saved, Source
from wdyn.errors import InvalidArgument
from wdyn.naming import closest, examples

CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.*)\.lora_(?P<embedding>embedding_)?(?P<which>[AB])(\.weight)?")


def is_adapter(folder: Path) -> bool:
    """Whether PEFT saved an adapter in this folder."""
    return (folder / CONFIG).is_file()


@dataclass(frozen=True)
class Factors:
    """Two small matrices whose product is added to a weight."""

    a: str
    b: str
    scale: float
    transposed: bool


@dataclass(frozen=True)
class Adapted:
    """The tensors of a base model, changed or replaced by an adapter, as a `wdyn.checkpoints.saved.Source`."""

    base: Saved
    adapter: Source
    added: Mapping[str, Factors]
    replaced: Mapping[str, str]
    headers: Mapping[str, Tensor] = field(repr=False)

    def read(self, name: str) -> Tensor:
        """Read one tensor, the adapter merged in as PEFT merges it."""
        if name in self.replaced:
            return self.adapter.read(self.replaced[name])
        weight = self.base.read(name)
        return weight if name not in self.added else weight + self._delta(self.added[name]).to(weight.dtype)

    def _delta(self, factors: Factors) -> Tensor:
        a, b = (self.adapter.read(name) for name in (factors.a, factors.b))
        half = a.dtype in (torch.float16, torch.bfloat16)  # which a processor multiplies less exactly
        product = (b.float() @ a.float()) if half else b @ a
        return (product.T if factors.transposed else product) * factors.scale


def adapted(base: Saved, adapter: Source, folder: Path) -> Adapted:
    """Put an adapter onto its base.

    Raises
    ------
    InvalidArgument
        The adapter is no LoRA, or of a kind that cannot be merged, or does not fit the base.
    """
    config = json_beside(folder / CONFIG)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        kind = "DoRA" if config.get("use_dora") else config.get("peft_type")
        raise InvalidArgument(f"{folder} is a {kind} adapter, and only LoRA is merged into a base. Leave base= out")
    pairs: dict[tuple[str, bool], dict[str, str]] = {}
    replaced: dict[str, str] = {}
    for name in adapter.headers:
        if match := _FACTOR.fullmatch(name):
            pairs.setdefault((match["module"], bool(match["embedding"])), {})[match["which"]] = name
        else:
            replaced[_own_name(name, base, must=False)] = name
    added = {
        _own_name(f"{module}.weight", base, must=True): _factors(module, pair, adapter, config, embedding=embedding)
        for (module, embedding), pair in pairs.items()
    }
    _check_shapes(base, adapter, added, folder)
    headers = dict(base.tensors) | {name: adapter.headers[stored] for name, stored in replaced.items()}
    return Adapted(base, adapter, added, replaced, headers)


def _own_name(name: str, base: Saved, *, must: bool) -> str:
    """Name of a tensor of the adapter in the base, whose file may have been saved without its head."""
    name = name.removeprefix(_PREFIX)
    if name in base.tensors:
        return name
    shorter = [one for one in base.tensors if name.endswith(f".{one}")]
    if len(shorter) == 1 or not must:
        return shorter[0] if len(shorter) == 1 else name
    near = examples(closest(name, base.tensors, 1) or base.tensors)
    raise InvalidArgument(
        f"{base.called} has no {name}, which the adapter changes, but {near}. Needed is the model that it was made for"
    )


def _factors(
    module: str, pair: Mapping[str, str], adapter: Source, config: Mapping[str, Any], *, embedding: bool
) -> Factors:
    if set(pair) != {"A", "B"}:
        raise InvalidArgument(f"The adapter has only one of the two factors of {module}")
    rank = adapter.headers[pair["A"]].shape[0]
    name = module.removeprefix(_PREFIX)
    patterns = config.get("alpha_pattern") or {}
    alphas = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name))
    alpha = next(alphas, config.get("lora_alpha", rank))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Factors(pair["A"], pair["B"], scale, transposed=embedding or bool(config.get("fan_in_fan_out")))


def _check_shapes(base: Saved, adapter: Source, added: Mapping[str, Factors], folder: Path) -> None:
    for name, factors in added.items():
        made = (adapter.headers[factors.b].shape[0], adapter.headers[factors.a].shape[-1])
        made = made[::-1] if factors.transposed else made
        if made != base.shape(name):
            raise InvalidArgument(
                f"{folder} does not fit {base.called}: it adds {made} to {name}, which is {base.shape(name)}"
            )
