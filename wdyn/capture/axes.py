"""What does each stored axis of a tensor mean?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wdyn.capture.blocks import Place
from wdyn.capture.evidence import Member, Owner, Scene
from wdyn.capture.judging import block_of
from wdyn.schema import EXPERT, FAN_IN, FAN_OUT, HEAD, HEAD_DIM, NO_LAYER, Role

_OUTPUTS = frozenset({Role.O, Role.CROSS_O})
_INPUTS = frozenset({Role.Q, Role.K, Role.V, Role.CROSS_Q, Role.CROSS_K, Role.CROSS_V})
_UPS = frozenset({Role.MLP_UP, Role.MLP_GATE, Role.MLP_GATE_UP, Role.QKV})
_MLP = frozenset({Role.MLP_UP, Role.MLP_GATE, Role.MLP_GATE_UP, Role.MLP_DOWN})
_KERNELS = frozenset({Role.CONV, Role.PATCH_EMBEDDING})

_Axes = tuple[str, ...]


def axis_names(
    members: Mapping[str, Member], roles: Mapping[str, Role], where: Mapping[str, Place]
) -> dict[str, _Axes]:
    """Name the axes of every tensor in their stored order.

    ``fan_out`` and ``fan_in`` are what the layer computes: a transposed linear is stored (fan_in, fan_out).
    """
    blocks: dict[object, list[str]] = {}
    for name, place in where.items():
        blocks.setdefault(block_of(place), []).append(name)
    judged: dict[object, list[_Axes]] = {}
    axes: dict[str, _Axes] = {}
    for names in blocks.values():
        group = tuple((members[name], roles[name]) for name in names)
        if group not in judged:
            judged[group] = _axes_of_block(group, inside=where[names[0]].layer != NO_LAYER)
        axes.update(zip(names, judged[group], strict=True))
    return axes


def _axes_of_block(block: Sequence[tuple[Member, Role]], *, inside: bool) -> list[_Axes]:
    width = Scene(tuple(member for member, _ in block)).width
    downs = [member.shape for member, role in block if role is Role.MLP_DOWN and not member.bias]
    told = [_transposed(member, role, width, downs) for member, role in block]
    # One author stores all matrices of a block the same way, so the square ones go with those that tell.
    habit = {len(member.shape): one for (member, _), one in zip(block, told, strict=True) if one is not None}
    axes = []
    for (member, role), one in zip(block, told, strict=True):
        # An adapter has another author: its factors are stored as nn.Linear does.
        usual = habit.get(len(member.shape)) if inside and not member.adapter else None
        axes.append(_axes(member, role, width, bool(usual if one is None else one)))
    return axes


def _transposed(member: Member, role: Role, width: int, downs: Sequence[tuple[int, ...]]) -> bool | None:
    """Say whether fan_in is stored before fan_out; None where nothing tells."""
    if not member.matrix or member.buffer or member.bias or member.adapter:
        return None
    if member.owner is not Owner.UNKNOWN:
        return member.owner is Owner.TRANSPOSED
    *_, first, last = member.shape
    if role is Role.UNEMBEDDING:
        return member.tensor != "weight" and first == width
    down = next((shape for shape in downs if len(shape) == len(member.shape)), None)
    if role is Role.MLP_GATE_UP and down is not None:
        return last == 2 * down[-2]
    if first == last or width not in (first, last):
        return None
    if role in _UPS:
        return first == width
    return last == width if role is Role.MLP_DOWN else None


def _axes(member: Member, role: Role, width: int, transposed: bool) -> _Axes:
    pair = (FAN_IN, FAN_OUT) if transposed else (FAN_OUT, FAN_IN)
    rank = len(member.shape)
    if rank == 1:
        return (FAN_OUT,)
    if role is Role.BUFFER:
        return _numbered(rank)
    if member.owner is Owner.UNKNOWN and (special := _special(member, role, width, pair)):
        return special
    if rank == 2:
        return pair
    if role in _KERNELS or member.owner is Owner.CONV:
        return (*pair, *(f"kernel_{axis}" for axis in range(rank - 2)))
    return _numbered(rank)


def _special(member: Member, role: Role, width: int, pair: tuple[str, str]) -> _Axes:
    """Name the axes of bare parameters that hold all heads or all experts in one."""
    rank = len(member.shape)
    if role in _MLP and rank == 3 - member.bias:
        return (EXPERT, FAN_OUT) if member.bias else (EXPERT, *pair)
    if role in _INPUTS and member.bias and rank == 2:
        return (HEAD, HEAD_DIM)
    if role not in _INPUTS | _OUTPUTS or rank != 3 or member.shape.count(width) != 1:
        return ()
    # The stream's width tells which axis meets it: W_Q is (head, d, head_dim), W_O (head, head_dim, d), or d is first.
    layouts: tuple[_Axes, ...] = ((FAN_IN, HEAD, HEAD_DIM), (HEAD, FAN_IN, HEAD_DIM), ())
    if role in _OUTPUTS:
        layouts = ((FAN_OUT, HEAD, HEAD_DIM), (), (HEAD, HEAD_DIM, FAN_OUT))
    return layouts[member.shape.index(width)]


def _numbered(rank: int) -> _Axes:
    return tuple(f"dim_{axis}" for axis in range(rank))
