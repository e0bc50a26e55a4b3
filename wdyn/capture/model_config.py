"""What does a run keep of its model: its name, its config, and which weights were not asked for?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from wdyn.capture.tensors import class_name
from wdyn.naming import DATA_PARALLEL, WRAPPERS

_MOST_BYTES = 2**18
"""A config beyond this size is not kept: it stands in the run's root, which every commit writes anew."""
_EXAMPLES = 20


def model_config(model: nn.Module) -> dict[str, Any]:
    """Give the config of a model as transformers writes it, ``architectures`` included; empty where there is none."""
    for inner in reversed(list(_unwrapped(model))):  # a wrapper may show the config of what it holds as its own
        if found := as_config(_told_by(getattr(inner, "config", None))):
            return found | {"architectures": found.get("architectures") or [class_name(inner)]}
    return {}


def model_name(model: nn.Module) -> str:
    """Name the class of a model, of a wrapped one that of what the wrappers hold."""
    *_, inner = _unwrapped(model)
    return class_name(inner)


def as_config(told: object) -> dict[str, Any]:
    """Give what may be a config of transformers as JSON holds it; empty where it is none, or too large to keep."""
    if not isinstance(told, dict) or not isinstance(told.get("model_type"), str):
        return {}
    try:
        text = json.dumps(told, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return {}
    found: dict[str, Any] = json.loads(text)
    return found if len(text) <= _MOST_BYTES else {}


def left_out(names: Sequence[str]) -> dict[str, Any]:
    """Say of how many weights nothing is recorded, with some examples; nothing where all are."""
    return {"left_out": {"count": len(names), "examples": list(names[:_EXAMPLES])}} if names else {}


def _unwrapped(model: nn.Module) -> Iterator[nn.Module]:
    """A model, and what the wrappers around it hold, outermost first."""
    inner: nn.Module | None = model
    while inner is not None:
        yield inner
        held = inner._modules
        inner = next((held[name] for name in (DATA_PARALLEL, *WRAPPERS) if name in held and len(held) == 1), None)


def _told_by(config: object) -> object:
    try:
        return config.to_dict()  # type: ignore[attr-defined]
    except Exception:  # it is the user's object, and training must not fail for what it does
        return None
