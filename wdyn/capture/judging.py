"""Which role has every tensor of a model?

Blocks are judged one by one, and blocks that look the same only once; what stands outside them is judged together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from wdyn.capture.blocks import Place
from wdyn.capture.evidence import Member, owner_kind
from wdyn.capture.hints import BUFFER
from wdyn.capture.outside import outside_roles
from wdyn.capture.roles import block_roles
from wdyn.capture.spelling import plain, shared_front, snake
from wdyn.capture.tensors import Leaf
from wdyn.naming import is_adapter
from wdyn.schema import NO_LAYER, Role

Block = tuple[tuple[str, ...], int]
"""A block: the components of its container, and its layer."""


def block_of(place: Place) -> Block:
    """Give the block that a place belongs to; everything outside blocks is one."""
    return place.container, place.layer


def members(leaves: Sequence[Leaf], where: Mapping[str, Place]) -> dict[str, Member]:
    """Collect the evidence on every leaf."""
    front = _shared_front(leaves)
    return {leaf.name: _member(leaf, where[leaf.name], front) for leaf in leaves}


def _shared_front(leaves: Sequence[Leaf]) -> int:
    paths = [plain(leaf.name)[:-1] for leaf in leaves]
    shared = shared_front(paths)
    # A state dict of one module has nothing but that module's name.
    alone = all(len(path) == shared for path in paths) and not any(leaf.chain for leaf in leaves)
    return max(shared - 1, 0) if alone else shared


def judge(known: Mapping[str, Member], where: Mapping[str, Place]) -> dict[str, Role]:
    """Give every name its role."""
    blocks: dict[Block, list[str]] = {}
    outside = []
    for name, place in where.items():
        if place.layer != NO_LAYER and place.real:
            blocks.setdefault(block_of(place), []).append(name)
        else:
            outside.append(name)
    roles: dict[str, Role] = {}
    seen: dict[tuple[Member, ...], tuple[Role, ...]] = {}
    for names in blocks.values():
        group = tuple(known[name] for name in names)
        if group not in seen:
            seen[group] = block_roles(group)
        roles.update(zip(names, seen[group], strict=True))
    rest = outside_roles(tuple(known[name] for name in outside), with_blocks=bool(blocks))
    roles.update(zip(outside, rest, strict=True))
    return roles | _roles_of_adapters(known, roles)


def _roles_of_adapters(known: Mapping[str, Member], roles: Mapping[str, Role]) -> dict[str, Role]:
    """Give adapters the role of the weight that they adapt: their own shapes are those of its rank, and mislead."""
    alone = {name: roles[name] for name, member in known.items() if member.adapter}
    if not alone:
        return {}
    # The one kind that says in its own name what it adapts, for where the weights themselves are not at hand.
    alone |= {name: Role.EMBEDDING for name, role in alone.items() if role is Role.OTHER and ".lora_embedding_" in name}
    adapted = {plain(name): roles[name] for name, m in known.items() if not (m.adapter or m.buffer)}
    return {name: adapted.get(plain(name), role) for name, role in alone.items()}


def _member(leaf: Leaf, place: Place, front: int) -> Member:
    names = place.inner if place.real and place.layer != NO_LAYER else plain(leaf.name)[front:]
    buffer = leaf.buffer or (not leaf.chain and _looks_like_buffer(leaf.tensor, names[-1]))
    return Member(names, tuple(leaf.tensor.shape), owner_kind(leaf.owner), buffer, place.real, is_adapter(leaf.name))


def _looks_like_buffer(tensor: torch.Tensor, called: str) -> bool:
    """Judge a tensor of a state dict, where nothing else tells parameters and buffers apart."""
    if BUFFER.fullmatch(snake(called)) or tensor.dtype in (torch.bool, torch.int64, torch.int32):
        return True
    # A bias of four axes is the causal mask of an attention.
    return called == "bias" and tensor.dim() == 4
