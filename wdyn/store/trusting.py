"""Can what the metadata of a run says be true, and may one act upon it?

It is data from outside: a path in it could lead out of the run, a length could be negative, or no number at all. What
passes here can be opened; how much of it may be loaded is another question (`wdyn.store.bounds`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.store.dtypes import BITS_OF, STORED_TYPES
from wdyn.store.tables import LONGEST
from wdyn.store.written import UNWRITTEN

_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_MOST: Final = 2**62  # elements of an array: what numpy can count
_LONGEST: Final = 2**24  # characters of a name
_TYPES: Final = frozenset(stored.dtype for stored in STORED_TYPES.values())
_SHARDS: Final = "sharding_indexed"


def check_nodes(nodes: Any) -> None:
    """Refuse metadata of groups and arrays that no run can have.

    Raises
    ------
    ValueError
        Something in it cannot be; the message says of which node.
    """
    _need(isinstance(nodes, dict), "the metadata of its groups is not there")
    for path, node in nodes.items():
        try:
            _check(path, node, nodes)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"{error} is not there" if isinstance(error, KeyError) else error
            raise ValueError(f"the metadata of {path!r} cannot be: {reason}") from error


def check_attributes(attributes: Mapping[str, Any]) -> None:
    """Refuse root attributes that no run can have.

    Raises
    ------
    ValueError
        Something in them cannot be.
    """
    attempts = _list_of(attributes.get("attempts"), dict, "attempts")
    _need(bool(attempts), "its list of attempts is empty")
    numbered = [one.get("number") for one in attempts]
    _need(numbered == list(range(len(numbered))), "its attempts are numbered {}", numbered)
    _need(
        all(_is_int(one.get("resumed_from_step"), least=-1) for one in attempts), "an attempt tells not where it began"
    )
    _need(isinstance(attributes.get("model", ""), str), "the name of its model is no text")
    for optimizer in _list_of(attributes.get("optimizers", []), dict, "optimizers"):
        _list_of(optimizer.get("groups", []), dict, "groups of an optimizer")
    for name in ("rows", "lost"):
        counts = attributes.get(name, {})
        _need(
            isinstance(counts, dict) and all(_is_int(one) for one in counts.values()),
            "{!r} holds what is no count",
            name,
        )


def _check(path: str, node: Any, nodes: Mapping[str, Any]) -> None:
    _need(_PATH.fullmatch(path) is not None, "this is no path within a run")
    parent = path.rpartition("/")[0]
    _need(not parent or nodes[parent]["node_type"] == "group", "it stands in {!r}, which is no group", parent)
    attributes, kind = node["attributes"], node["node_type"]
    _need(isinstance(attributes, dict), "its attributes are no object")
    if kind == "array":
        _check_array(node, attributes)
    else:
        _need(kind == "group", "it is a {!r}", kind)
        _check_group(path, parent, attributes)


def _check_group(path: str, parent: str, attributes: Mapping[str, Any]) -> None:
    about = attributes.get(schema.ATTRIBUTES, {})
    _need(isinstance(about, dict), "wdyn's attributes of it are no object")
    if parent == schema.WEIGHTS:
        array = WeightArray.from_attributes(path.rpartition("/")[2], about)
        _list_of(array.names, str, "names")
        _list_of(array.dims, str, "dims")
        _need(all(_is_int(one) for one in array.shape), "its shape is {}", array.shape)
        _need(all(_is_int(one) for one in array.layers), "its layers are {}", array.layers)
        _need(len(array.names) == max(1, len(array.layers)), "it has not one name for each layer")
        _need(array.dtype in STORED_TYPES, "its dtype is {!r}", array.dtype)


def _check_array(node: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    shape, dims, dtype = node["shape"], node["dimension_names"], node["data_type"]
    _check_lengths(shape, "shape", least=0)
    _list_of(dims, str, "dimension_names")
    _need(len(dims) == len(shape) == len(set(dims)), "its dimensions {} do not fit its shape {}", dims, shape)
    _need(isinstance(dtype, str), "its type {!r} is none of a run", dtype)
    text = dtype == "string"
    _need(text or dtype in _TYPES, "its type {!r} is none of a run", dtype)
    _need(isinstance(node["fill_value"], str) or not text, "its fill value is no text")
    chunk = node["chunk_grid"]["configuration"]["chunk_shape"]
    _check_lengths(chunk, "chunk_shape", least=1)
    _need(len(chunk) == len(shape), "its chunks {} do not fit its shape {}", chunk, shape)
    codecs = _list_of(node["codecs"], dict, "codecs")
    _need(bool(codecs) and all(isinstance(codec["name"], str) for codec in codecs), "it has no codecs")
    if codecs[0]["name"] == _SHARDS:
        _check_shards(codecs[0]["configuration"], chunk)
    _check_words(attributes, dtype)


def _check_shards(configuration: Mapping[str, Any], whole: Sequence[int]) -> None:
    inner = configuration["chunk_shape"]
    _check_lengths(inner, "chunk_shape of its shards", least=1)
    _need(
        len(inner) == len(whole) and all(a % b == 0 for a, b in zip(whole, inner, strict=True)),
        "its shards {} are no multiple of their chunks {}",
        whole,
        inner,
    )


def _check_words(attributes: Mapping[str, Any], dtype: str) -> None:
    """Look at the attributes of an array that readers act upon."""
    if not attributes:
        return
    bits = attributes.get(BITS_OF)
    known = STORED_TYPES.get(bits) if isinstance(bits, str) else None
    _need(
        bits is None or (known is not None and known.bits_of == bits and known.dtype == dtype),
        "{} holds no bits of {!r}",
        dtype,
        bits,
    )
    longest, missing = attributes.get(LONGEST, 0), attributes.get("missing_value", 0)
    _need(_is_int(longest) and 0 <= longest <= _LONGEST, "its longest text has {!r} characters", longest)
    _need(_is_int(missing, least=-(2**63)) and missing < 2**63, "its missing value is {!r}", missing)
    for ranges in _list_of(attributes.get(UNWRITTEN, []), list, UNWRITTEN):
        ends = [end for one in ranges for end in one]
        _need(
            all(len(one) == 2 for one in ranges) and all(_is_int(end) for end in ends) and sorted(set(ends)) == ends,
            "the chunks that were never written are {}",
            ranges,
        )


def _check_lengths(lengths: Any, name: str, *, least: int) -> None:
    _need(
        isinstance(lengths, list) and all(_is_int(one, least=least) for one in lengths),
        "its {} is {!r}",
        name,
        lengths,
    )
    _need(math.prod(filter(None, lengths)) <= _MOST, "its {} {} is beyond what can be counted", name, lengths)


def _list_of(values: Any, kind: type, name: str) -> Sequence[Any]:
    _need(
        isinstance(values, list | tuple) and all(isinstance(one, kind) for one in values),
        "its {!r}, a list of {}, is not there",
        name,
        "texts" if kind is str else "objects",
    )
    found: Sequence[Any] = values
    return found


def _is_int(value: Any, *, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _need(holds: bool, otherwise: str, *found: object) -> None:
    if not holds:
        raise ValueError(otherwise.format(*found))  # written when it is needed: there are thousands of nodes
