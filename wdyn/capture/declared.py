"""Which splits of fused weights did the user declare, and do they fit?

What the user says overrides all evidence. It is said as `wdyn.schema.Parts`, or in short::

    "q,k,v"               three equal parts along fan_out, in this order
    "q:32,k:8,v:8"        parts of these lengths
    "q,k,v per_head:4"    q, k, v of the first of 4 heads, then of the second, and so on
    "per_head:4"          the same, with the names that the role tells: k, v for one that is fused of those
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wdyn.errors import InvalidArgument
from wdyn.naming import closest, examples, is_adapter
from wdyn.schema import FAN_OUT, Address, Kind, Parts, Role

Scheme = Parts | str
Declared = Mapping[str, Scheme]
"""By name, path, or pattern with ``*`` of the fused weights: how they split."""

SOURCE = "user"

_LISTED = re.compile(r"\w+(:\d+)?(,\w+(:\d+)?)*")
_PER_HEAD = re.compile(r"per_head:([1-9]\d*)")
_QKV = ("q", "k", "v")
_NAMES = {
    Role.KV: ("k", "v"),
    Role.CROSS_QKV: ("cross_q", "cross_k", "cross_v"),
    Role.MLP_GATE_UP: ("mlp_gate", "mlp_up"),
}


def with_declared_parts(address: Address, declared: Declared) -> Address:
    """Split a weight the way that the user said; where that does not fit, how it splits is unknown."""
    scheme = next((scheme for pattern, scheme in declared.items() if _meant(address, pattern)), None)
    if scheme is None:
        return address
    try:
        return _split(address, scheme)
    except InvalidArgument:
        return replace(address, parts=None)


def check_parts(declared: Declared, known: Sequence[Address]) -> None:
    """Refuse what cannot be meant.

    Raises
    ------
    InvalidArgument
        A pattern matches no matrix, or a split cannot be read or does not add up to the matrix.
    """
    if not isinstance(declared, Mapping):
        raise InvalidArgument(f"parts={declared!r}: needed is a mapping such as {{'*.qkv.weight': 'q,k,v'}}")
    for pattern, scheme in declared.items():
        meant = [address for address in known if _meant(address, pattern)]
        if not meant:
            names = [address.name for address in known if _splittable(address)]
            near = ", ".join(closest(pattern, names)) or examples(names) or "none, this model has no matrix"
            raise InvalidArgument(f"parts={{{pattern!r}: ...}} matches no matrix. Closest: {near}")
        for address in meant:
            try:
                _split(address, scheme)
            except InvalidArgument as error:
                raise InvalidArgument(f"parts={{{pattern!r}: {scheme!r}}}: {error}") from error


def _meant(address: Address, pattern: str) -> bool:
    texts = (address.name, address.path)
    return _splittable(address) and (pattern in texts or any(fnmatch.fnmatchcase(text, pattern) for text in texts))


def _splittable(address: Address) -> bool:
    """Matrices only: a bias follows its matrix, and the factors of an adapter are no fused weights."""
    return address.kind == Kind.WEIGHT and len(address.shape) > 1 and not is_adapter(address.name)


def _split(address: Address, scheme: Scheme) -> Address:
    parts, heads = (scheme, 0) if isinstance(scheme, Parts) else _read(scheme, address)
    total = sum(parts.sizes) * parts.repeats
    found = f"{address.name} has axes {dict(zip(address.dims, address.shape, strict=True))}"
    if not 0 <= parts.axis < len(address.shape):
        raise InvalidArgument(f"{found}, and none is number {parts.axis}")
    if len(parts.names) != len(parts.sizes) or len(set(parts.names)) < len(parts.names) or min(parts.sizes) < 1:
        raise InvalidArgument(f"parts {parts.names} of sizes {parts.sizes}: needed is one length, 1 or more, for each")
    if total != address.shape[parts.axis]:
        sizes = " + ".join(f"{name} {size}" for name, size in zip(parts.names, parts.sizes, strict=True))
        times = f", {parts.repeats} times," if parts.repeats > 1 else ""
        raise InvalidArgument(
            f"{found}; {sizes}{times} make {total} of the {address.shape[parts.axis]} along axis {parts.axis}"
        )
    address = replace(address, parts=replace(parts, source=SOURCE))
    return address if not heads else _with_heads(address, parts, heads)


def _read(text: str, address: Address) -> tuple[Parts, int]:
    """Read the short form; give the heads as well, where it speaks of them."""
    words = re.sub(r"\s*,\s*", ",", text).split() if isinstance(text, str) else []
    match = _PER_HEAD.fullmatch(words[-1]) if words else None
    listed = words[:-1] if match else words
    if not words or len(listed) > 1 or not all(_LISTED.fullmatch(word) for word in listed):
        raise InvalidArgument(
            f"{text!r} is no split; needed is one such as 'q,k,v', 'q:32,k:8,v:8', 'q,k,v per_head:4', or a "
            "wdyn.schema.Parts"
        )
    if FAN_OUT not in address.dims:
        raise InvalidArgument(
            f"{address.name} has axes {address.dims}, none of them {FAN_OUT}; give a wdyn.schema.Parts with its axis"
        )
    axis, heads = address.dims.index(FAN_OUT), int(match[1]) if match else 0
    names = _NAMES.get(address.role, _QKV)
    pairs = [part.partition(":") for part in (listed[0].split(",") if listed else names)]
    equal = address.shape[axis] // (len(pairs) * max(heads, 1))
    sizes = tuple(int(size) if size else equal for _, _, size in pairs)
    return Parts(axis, tuple(name for name, _, _ in pairs), sizes, max(heads, 1), SOURCE), heads


def _with_heads(address: Address, parts: Parts, heads: int) -> Address:
    """One repeat holds one head of keys, and the queries that look at it."""
    size_of = {name.removeprefix("cross_"): size for name, size in zip(parts.names, parts.sizes, strict=True)}
    size = size_of.get("k", 0)
    if not size or size_of.get("v", size) != size or size_of.get("q", size) % size:
        return address
    return replace(address, heads=heads * size_of.get("q", size) // size, kv_heads=heads, head_dim=size)
