"""How are parameters, arrays and files named?

Names of parameters are data from outside: they never become a path, and every wrapper's prefix is stripped once, here.
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections import Counter
from collections.abc import Iterable

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""Path components that torch.compile, FSDP, activation checkpointing and Lightning Fabric put into names."""

DATA_PARALLEL = "module"
"""The component of (Distributed)DataParallel. It is stripped in front only: inside a name it is the user's own word."""

ADAPTER = re.compile(r"lora_(A|B|embedding_A|embedding_B|magnitude_vector)|ia3_l|adapter_(A|B)")
"""Components that PEFT puts between a module and the small weights which adapt it."""

_SLUG_LENGTH = 40
_NAME_LENGTH = 60


def canonical_name(name: str) -> str:
    """Strip the components that wrappers add: ``module._orig_mod.h.0.weight`` is ``h.0.weight``."""
    *path, tensor = name.split(".")
    inner = [part for part in path if part not in WRAPPERS]
    while inner and inner[0] == DATA_PARALLEL:
        inner = inner[1:]
    return ".".join([*inner, tensor])


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to its canonical one, or to itself where two names would become the same one.

    A model with both ``weight`` and ``module.weight`` keeps them apart: its author meant two things.
    """
    canonical = {name: canonical_name(name) for name in names}
    claims = Counter(canonical.values())
    return {name: short if claims[short] == 1 else name for name, short in canonical.items()}


def is_adapter(name: str) -> bool:
    """Say whether a name belongs to an adapter beside the weight that it adapts."""
    hinted = "lora_" in name or "ia3_l" in name or "adapter_" in name
    return hinted and any(ADAPTER.fullmatch(component) for component in name.split("."))


def slug(name: str, number: int) -> str:
    """Make a file name that is safe on any system, and unique by its number: ``h-attn-c-attn-weight-0012``."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{words}-{number:04d}" if words else f"{number:04d}"


def sanitised(name: str) -> str:
    """Leave of a name what is safe in a path: ``train/tokens`` becomes ``train_tokens``; "" where nothing is left."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:_NAME_LENGTH]


def with_checksum(name: str) -> str:
    """Make a safe name that no other name shares, the same one each time: ``train_tokens_5f0e8c2a``."""
    return f"{sanitised(name) or 'unnamed'}_{zlib.crc32(name.encode()):08x}"


def part_label(parameter: str, part: str) -> str:
    """Name a part of a parameter, uniquely in a run: ``h.0.attn.qkv.weight[k]``."""
    return f"{parameter}[{part}]"


def closest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Names in `known` that a person may have meant by `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.4)


def examples(names: Iterable[str], count: int = 3) -> str:
    """Write at most `count` names, and how many more there are: ``a, b, c and 9 more``."""
    listed = list(names)
    text = ", ".join(listed[:count])
    return text if len(listed) <= count else f"{text} and {len(listed) - count} more"
