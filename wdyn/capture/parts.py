"""How does a fused weight split into its parts?

Two questions that are easily mixed: where q, k and v lie, and where the heads lie. The first has a usual answer for a
weight of three equal thirds under a usual name; whatever is interleaved or unequal needs the head counts. What cannot
be known stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from wdyn.capture.evidence import Member
from wdyn.capture.heads import Heads, get
from wdyn.schema import FAN_IN, FAN_OUT, Address, Parts, Role

_CONCATENATED = re.compile(r"(.*_)?(w?qkv|c_attn|in_proj|att_proj|w_?pack)(_.*)?")
_USUAL = re.compile(r"(to_)?qkv|wqkv|c_attn|in_proj")
"""The names under which three equal parts are q, k, v in this order, head counts or not."""
_BY_GROUP = re.compile(r"(.*_)?(query_key_value|linear_qkv)(_.*)?")
_KV = re.compile(r"(.*_)?(w?kv|c_attn|key_value)(_proj)?")
_GATE_FIRST = re.compile(r"gate_up.*|gate_and_up.*|wi|w_?12|input_linear|linear_fc_1|dense_h_to_4h")
_UP_FIRST = re.compile(r"up_gate.*|ff_proj|(.*_)?net_proj")

# Families whose fused weights do not lie the way their names suggest: how q, k, v (or gate, up) lie there.
_EXCEPTIONS = {
    ("codegen", Role.QKV): "unknown",
    ("chatglm", Role.QKV): "concatenated",
    ("gpt_bigcode", Role.QKV): "by group",
    ("internlm2", Role.QKV): "by group",
    ("gpt_oss", Role.MLP_GATE_UP): "interleaved",
    ("openai_privacy_filter", Role.MLP_GATE_UP): "interleaved",
}
_GATES = {4: ("i", "f", "g", "o"), 3: ("r", "z", "n")}
_THREE = {Role.QKV: ("q", "k", "v"), Role.CROSS_QKV: ("cross_q", "cross_k", "cross_v")}


def fused_parts(
    member: Member,
    role: Role,
    dims: Sequence[str],
    *,
    heads: Heads,
    chain: Sequence[nn.Module] = (),
    config: object = None,
) -> Parts | None:
    """Split a fused matrix; None for one that is not fused, or whose split nobody can know."""
    if FAN_OUT not in dims or FAN_IN not in dims:
        return None
    axis = dims.index(FAN_OUT)
    fan_out, fan_in = member.shape[axis], member.shape[dims.index(FAN_IN)]
    if role in _THREE:
        how = _exception(role, chain, config) or _usual(member)
        if heads.query == 0 and not _USUAL.fullmatch(member.called):
            return None
        return _attention_parts(how, axis, _THREE[role], fan_out, fan_in, heads)
    if role is Role.KV:
        return _kv_parts(member, axis, fan_out, fan_in, chain, config)
    if role is Role.MLP_GATE_UP:
        return _gate_parts(member, dims, fan_out, chain, config)
    if role in (Role.RNN_IH, Role.RNN_HH):
        return _recurrent_parts(axis, role, fan_out, fan_in, chain)
    return None


def _usual(member: Member) -> str:
    if _BY_GROUP.fullmatch(member.called):
        return "by group"
    return "concatenated" if _CONCATENATED.fullmatch(member.called) else "unknown"


def _exception(role: Role, chain: Sequence[nn.Module], config: object) -> str | None:
    return _EXCEPTIONS.get((_model_type(chain, config), role))


def _model_type(chain: Sequence[nn.Module], config: object) -> str:
    for source in (*(get(module, "config") for module in reversed(chain)), config):
        if source is not None and isinstance(found := get(source, "model_type"), str) and found:
            return found
    return ""


def _attention_parts(
    how: str, axis: int, names: tuple[str, ...], fan_out: int, fan_in: int, heads: Heads
) -> Parts | None:
    if how == "unknown":
        return None
    if heads.query:
        q, kv = heads.query * heads.size, heads.key_value * heads.size
        if how == "by group":
            groups = heads.key_value
            return Parts(axis, names, (q // groups, heads.size, heads.size), groups, heads.source)
        return Parts(axis, names, (q, kv, kv), 1, heads.source)
    if how == "concatenated" and fan_out == 3 * fan_in:
        return Parts(axis, names, (fan_in,) * 3, 1, "convention")
    return None


def _kv_parts(
    member: Member, axis: int, fan_out: int, fan_in: int, chain: Sequence[nn.Module], config: object
) -> Parts | None:
    latent = _latent_sizes(chain, config)
    if member.called.startswith("kv_b") and latent is not None:
        key, value, source = latent
        return Parts(axis, ("k", "v"), (key, value), fan_out // (key + value), source)
    names = ("cross_k", "cross_v") if member.called == "c_attn" else ("k", "v")
    if _KV.fullmatch(member.called) and fan_out == 2 * fan_in:
        return Parts(axis, names, (fan_in,) * 2, 1, "convention")
    return None


def _latent_sizes(chain: Sequence[nn.Module], config: object) -> tuple[int, int, str] | None:
    """Rows of one head's key and value in a multi-head latent attention."""
    for source, said in (*((module, "module") for module in reversed(chain)), (config, "config")):
        sizes = (get(source, "qk_nope_head_dim"), get(source, "v_head_dim")) if source is not None else (None, None)
        if isinstance(sizes[0], int) and isinstance(sizes[1], int):
            return sizes[0], sizes[1], said
    return None


def _gate_parts(
    member: Member, dims: Sequence[str], fan_out: int, chain: Sequence[nn.Module], config: object
) -> Parts | None:
    axis, half = dims.index(FAN_OUT), fan_out // 2
    first_gate, first_up = _GATE_FIRST.fullmatch(member.called), _UP_FIRST.fullmatch(member.subject)
    if fan_out % 2 or not (first_gate or first_up):
        return None
    names = ("mlp_gate", "mlp_up") if first_gate else ("mlp_up", "mlp_gate")
    exception = _exception(Role.MLP_GATE_UP, chain, config)
    concatenated = get(chain[-1], "is_concatenated") if chain else None
    if exception == "interleaved" or concatenated is False:
        return Parts(axis, names, (1, 1), half, "module" if chain else "config")
    # Experts stored as (fan_in, fan_out) come in both fashions under one name.
    if len(dims) == 3 and dims.index(FAN_IN) < axis and concatenated is None and not _model_type(chain, config):
        return None
    source = "module" if concatenated else "convention"
    return Parts(axis, names, (half, half), 1, source)


def bias_parts(matrix: Address, dims: Sequence[str]) -> Parts | None:
    """Give a bias the split of its matrix, on the axis that it has."""
    parts = matrix.parts
    if parts is None or FAN_OUT not in dims or matrix.dims[parts.axis] != FAN_OUT:
        return None
    return replace(parts, axis=dims.index(FAN_OUT))


def _recurrent_parts(axis: int, role: Role, fan_out: int, fan_in: int, chain: Sequence[nn.Module]) -> Parts | None:
    """Split the gates of an LSTM or GRU, in torch's order; without a module, by the square recurrent matrix."""
    hidden = get(chain[-1], "hidden_size") if chain else (fan_in if role is Role.RNN_HH else 0)
    if not isinstance(hidden, int) or not hidden or fan_out % hidden:
        return None
    gates = _GATES.get(fan_out // hidden)
    return Parts(axis, gates, (hidden,) * len(gates), 1, "module" if chain else "convention") if gates else None
