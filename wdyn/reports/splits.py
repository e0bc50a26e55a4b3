"""How does a fused weight split, in words?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wdyn.schema import Parts, Role, parts_from_json

UNKNOWN = "parts unknown"

_FUSED = frozenset({Role.QKV, Role.CROSS_QKV, Role.KV, Role.MLP_GATE_UP})
_OF_KEYS = frozenset({Role.K, Role.V, Role.KV, Role.CROSS_K, Role.CROSS_V})
_EVIDENCE = {"convention": " by convention", "user": " as declared"}


def split_words(row: Mapping[str, Any]) -> str:
    """Say how a matrix splits into parts and heads: ``q 32, k 8, v 8; 4 heads of 8, 1 of k and v``.

    Parameters
    ----------
    row
        One row of the table of parameters; what it lacks is not spoken of.
    """
    parts = parts_from_json(str(row.get("parts", "")))
    told = [_parts(parts)] if parts else [UNKNOWN] if "parts" in row and row["role"] in _FUSED else []
    return "; ".join([*told, *_heads(row)])


def _parts(parts: Parts) -> str:
    listed = ", ".join(f"{name} {size}" for name, size in zip(parts.names, parts.sizes, strict=True))
    return (f"{parts.repeats} × ({listed})" if parts.repeats > 1 else listed) + _EVIDENCE.get(parts.source, "")


def _heads(row: Mapping[str, Any]) -> list[str]:
    heads, groups, size = (int(row.get(column, 0)) for column in ("heads", "kv_heads", "head_dim"))
    if not heads or not size:
        return []
    if row["role"] in _OF_KEYS:
        return [_count(groups or heads, size)]
    shared = f", {groups} of k and v" if row["role"] in _FUSED and groups not in (0, heads) else ""
    return [_count(heads, size) + shared]


def _count(heads: int, size: int) -> str:
    return f"{heads} head{'s' if heads > 1 else ''} of {size}"
