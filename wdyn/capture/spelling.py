"""What does a name say, once the components that only re-parametrise a module are read through?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile

from wdyn.naming import ADAPTER

_TRANSPARENT = frozenset({"base_layer", "original_module"})
_GENERIC = frozenset({"dense", "linear", "lin", "proj", "projection", "layer", "fc", "self", "net"})
_WEIGHT = frozenset({"weight", "bias", "w", "b", "a_2", "b_2", "gamma", "beta", "scale"})
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_WEIGHT_NORM = re.compile(r"(weight\w*)_(orig|g|v)")


@lru_cache(maxsize=65536)
def plain(name: str) -> tuple[str, ...]:
    """Components of a name without those of parametrisations and adapters.

    ``h.0.q.base_layer.weight``, ``h.0.q.lora_A.default.weight`` and ``h.0.q.parametrizations.weight.original0`` all
    read as ``h.0.q.weight``: each of them is (a factor of) that weight.
    """
    components = name.split(".")
    out: list[str] = []
    skip = False
    for at, component in enumerate(components):
        if skip:
            skip = False
        elif ADAPTER.fullmatch(component):
            return (*out, "bias" if components[-1] == "bias" and at < len(components) - 1 else "weight")
        elif component == "modules_to_save":
            skip = True  # the next one is the name of the adapter
        elif component == "parametrizations" and at + 2 < len(components):
            return (*out, components[at + 1])
        elif component not in _TRANSPARENT:
            out.append(component)
    if match := _WEIGHT_NORM.fullmatch(out[-1]):
        out[-1] = match[1]
    return tuple(out)


def shared_front(paths: Sequence[tuple[str, ...]]) -> int:
    """Count the components that all paths begin with: they wrap the model, so their words tell nothing apart."""
    columns = zip(*paths, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


@lru_cache(maxsize=65536)
def snake(component: str) -> str:
    """Spell a component in one way: ``EncDecAttention`` is ``enc_dec_attention``, ``fc1`` is ``fc_1``."""
    return "_".join(_WORD.findall(component)).lower()


def words(component: str) -> frozenset[str]:
    """The words of a component: ``k_proj`` has ``k`` and ``proj``."""
    return frozenset(snake(component).split("_"))


def subject(components: tuple[str, ...]) -> str:
    """Say what a tensor is called by: ``attn.c_proj.weight`` -> ``c_proj``, ``in_proj_bias`` -> ``in_proj``.

    A module whose own name says nothing (``dense``, or an index in a Sequential) is called by the one above it, too:
    ``attention.output.dense.weight`` -> ``output_dense``, ``to_out.0.weight`` -> ``to_out``.
    """
    *path, tensor = components
    if tensor not in _WEIGHT:
        return _bare(tensor)
    named = [component for component in path if not component.isdigit()]
    if not named:
        return ""
    called = snake(named[-1])
    if called in _GENERIC and len(named) > 1:
        return f"{snake(named[-2])}_{called}"
    return called


def position(components: tuple[str, ...]) -> int:
    """Index of the tensor's module in the Sequential that holds it, -1 when its own name is no index."""
    inside = len(components) > 1 and components[-1] in {"weight", "bias"} and components[-2].isdecimal()
    return int(components[-2]) if inside else -1


def is_bias(tensor: str) -> bool:
    """Say whether a last component is that of a bias: ``bias``, ``in_proj_bias``, ``bias_ih_l0``, ``b_Q``."""
    return tensor in {"bias", "b", "beta", "b_2"} or tensor.endswith("_bias") or bool(re.match(r"(bias|b)_", tensor))


def _bare(tensor: str) -> str:
    """Strip what only says weight or bias from a tensor's own name: ``W_Q`` and ``b_Q`` are ``q``."""
    if match := re.fullmatch(r"[Wb]_([A-Za-z]+)", tensor):
        return f"w_{match[1]}".lower()
    return snake(re.sub(r"(_weight|_bias)$|^(weight|bias)_", "", tensor))
