"""How many heads has the attention that a tensor belongs to?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from wdyn.schema import FAN_IN, FAN_OUT, HEAD, HEAD_DIM, Role

_QUERY = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
_KEY_VALUE = (
    "num_key_value_heads",
    "num_kv_heads",
    "n_kv_heads",
    "n_kv_head",
    "kv_heads",
    "n_head_kv",
    "num_query_groups",
)
_SIZE = ("head_dim", "d_head", "attention_head_size", "key_value_proj_dim", "d_kv", "head_size")
_Q = frozenset({Role.Q, Role.CROSS_Q})
_K = frozenset({Role.K, Role.V, Role.CROSS_K, Role.CROSS_V})
_O = frozenset({Role.O, Role.CROSS_O})
_QKV = frozenset({Role.QKV, Role.CROSS_QKV})
ATTENTION = _Q | _K | _O | _QKV | {Role.KV}


@dataclass(frozen=True)
class Heads:
    """Heads of one attention; 0 is unknown. `source` is ``module`` or ``config``."""

    query: int = 0
    key_value: int = 0
    size: int = 0
    source: str = ""


UNKNOWN = Heads()


def declared_heads(chain: Sequence[nn.Module], config: object, stack: str) -> Heads:
    """Read the head counts off the modules above a tensor, else off their configs, else off `config`."""
    configs = [own for module in reversed(chain) if (own := get(module, "config")) is not None]
    for module in reversed(chain):
        if _number(module, _QUERY):
            return _read((module, *configs[:1]), stack, "module")
    for own in configs:
        if (heads := _read(tuple(_views(own, stack)), stack, "module")).query:
            return heads
    return _read(tuple(_views(config, stack)), stack, "config") if config is not None else UNKNOWN


def fitting_heads(heads: Heads, role: Role, shape: Sequence[int], dims: Sequence[str]) -> Heads:
    """Keep the head counts that agree with the shape: what was declared but does not fit is unknown."""
    if HEAD in dims:
        count = shape[dims.index(HEAD)]
        return Heads(heads.query or count, heads.key_value or count, shape[dims.index(HEAD_DIM)], "module")
    if not heads.query or FAN_OUT not in dims or FAN_IN not in dims:
        return UNKNOWN
    fan_out, fan_in = shape[dims.index(FAN_OUT)], shape[dims.index(FAN_IN)]
    groups = heads.key_value or _groups_by_shape(heads, role, fan_out, fan_in)
    length, count = (fan_in if role in _O else fan_out), _count(heads.query, groups, role)
    size = length // count if count else 0
    fits = size > 0 and length % count == 0 and heads.size in (0, size)
    return Heads(heads.query, groups, size, heads.source) if fits else UNKNOWN


def _count(query: int, groups: int, role: Role) -> int:
    """How many heads lie along the axis of heads; 0 is unknown."""
    if role in _Q | _O:
        return query
    if not groups:
        return 0
    return query + 2 * groups if role in _QKV else 2 * groups if role is Role.KV else groups


def _groups_by_shape(heads: Heads, role: Role, fan_out: int, fan_in: int) -> int:
    """Key heads where nobody declared them: as many as queries when the key maps the stream to its own width."""
    if (role in _K and fan_out == fan_in) or (role in _QKV and fan_out == 3 * fan_in):
        return heads.query
    return fan_out // heads.size if role in _K and heads.size else 0


def get(source: object, key: str) -> object:
    """Read a setting of a module, of a config object or of a mapping; None where it has none.

    What the object itself or its class holds, and nothing computed: a miss on a module or on a config of transformers
    is an exception that costs more than all of the reading.
    """
    if isinstance(source, dict):
        return source.get(key)
    own = getattr(source, "__dict__", None)
    if own is not None and key in own:
        return own[key]
    if isinstance(source, nn.Module) or not isinstance(source, Mapping):
        return getattr(type(source), key, None)
    return source.get(key)


def _views(config: object, stack: str) -> Iterator[object]:
    """Give the config of a tower before that of the whole."""
    towers = (stack, "text") if stack == "decoder" else (stack,)
    for key in (f"{tower}_config" for tower in towers):
        if (part := get(config, key)) is not None:
            yield part
    yield config


def _read(sources: Sequence[object], stack: str, source: str) -> Heads:
    query = _first(sources, (f"{stack}_attention_heads", *_QUERY))
    return Heads(query, _groups(sources, query), _first(sources, _SIZE), source) if query else UNKNOWN


def _groups(sources: Sequence[object], query: int) -> int:
    if any(_multi_query(source) for source in sources):
        return _first(sources, ("multi_query_group_num",)) or 1
    if per_group := _first(sources, ("num_key_value_groups",)):
        return query // per_group
    # A config that does not speak of key heads means one for each query head; a module of its own may not say.
    return _first(sources, _KEY_VALUE) or (0 if isinstance(sources[-1], nn.Module) else query)


def _multi_query(source: object) -> bool:
    """Say whether all queries share one key head; Falcon's newer architecture ignores its own switch for that."""
    if source is None or get(source, "new_decoder_architecture"):
        return False
    return get(source, "multi_query") is True or get(source, "multi_query_attention") is True


def _first(sources: Sequence[object], keys: Sequence[str]) -> int:
    return next((found for source in sources if source is not None and (found := _number(source, keys))), 0)


def _number(source: object, keys: Sequence[str]) -> int:
    for key in keys:
        value = get(source, key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
