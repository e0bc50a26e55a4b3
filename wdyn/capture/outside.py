"""What does each tensor outside the blocks do?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wdyn.capture import hints
from wdyn.capture.evidence import Member, Owner, Scene
from wdyn.capture.roles import block_roles, branch, branch_role, common_role, fallback, is_conv, only_matrix_below
from wdyn.capture.spelling import snake
from wdyn.schema import Role


def outside_roles(members: tuple[Member, ...], *, with_blocks: bool) -> tuple[Role, ...]:
    """Judge what stands outside blocks together. A model without blocks has all of its tensors here."""
    if not with_blocks and _is_one_block(members):
        return block_roles(members)
    scene = Scene(members)
    biased = {m.names[:-1] for m in members if m.bias}
    # An embedding has no bias, whatever it is called.
    tables = frozenset(m for m in members if _is_token_table(m) and m.names[:-1] not in biased)
    roles = {member: _judge(member, scene, tables, with_blocks) for member in members}
    sizes = {table.shape[0] for table in tables}
    for member in members:
        if member.bias and roles[member] is not Role.NORM:
            roles[member] = _bias_role(member, roles, sizes)
    return tuple(roles[member] for member in members)


def _is_one_block(members: tuple[Member, ...]) -> bool:
    """Say whether the model is itself a block: it has an attention and nothing that embeds tokens."""
    scene = Scene(members)
    found = scene.attention_roots or scene.state_space_roots or scene.expert_roots
    return bool(found) and not any(_is_token_table(m) for m in members)


def _says(pattern: re.Pattern[str], member: Member) -> bool:
    """Compare with what the tensor is called by, or with any component above."""
    above = (snake(name) for name in member.names[:-1]) if member.real else ()
    return any(pattern.fullmatch(name) for name in (member.subject, member.called, *above))


def _is_token_table(member: Member) -> bool:
    if (
        len(member.shape) != 2
        or member.buffer
        or member.adapter
        or member.owner not in (Owner.EMBEDDING, Owner.UNKNOWN)
    ):
        return False
    if _says(hints.TYPE_EMBEDDING, member) or _says(hints.POSITION, member) or _says(hints.VALUE_EMBEDDING, member):
        return False
    if member.owner is Owner.EMBEDDING:
        return True
    named = hints.EMBEDDING.fullmatch(member.called) and not hints.EMBEDDING_PROJECTION.fullmatch(member.called)
    return bool(named) and not hints.UNEMBEDDING.fullmatch(member.subject) and not _says(hints.PATCH, member)


def _judge(member: Member, scene: Scene, tables: frozenset[Member], with_blocks: bool) -> Role:
    role = common_role(member, scene)
    if role is not None:
        return role
    for judge in (_embedding, _unembedding, _projection, _head):
        if (role := judge(member, tables)) is not None:
            return role
    inside = with_blocks and not is_conv(member) and branch(member, scene)
    return (branch_role(member, scene) if inside else None) or fallback(member, scene)


_EMBEDDINGS = (
    (Role.TYPE_EMBEDDING, hints.TYPE_EMBEDDING),
    (Role.POS_EMBEDDING, hints.POSITION),
    (Role.PATCH_EMBEDDING, hints.PATCH),
    (Role.VALUE_EMBEDDING, hints.VALUE_EMBEDDING),
)


def _embedding(member: Member, tables: frozenset[Member]) -> Role | None:
    for role, pattern in _EMBEDDINGS:
        # Patches are what a linear or a convolution embeds; the others are looked up.
        if _says(pattern, member) and (role is Role.PATCH_EMBEDDING or member.owner is not Owner.LINEAR):
            return role
    if member in tables:
        return Role.EMBEDDING
    return Role.EMBEDDING if hints.EMBEDDING.fullmatch(member.tensor) and not member.bias else None


def _unembedding(member: Member, tables: frozenset[Member]) -> Role | None:
    """Judge by the vocabulary on one axis; by its name where no embedding tells the size of the vocabulary."""
    if member.owner in (Owner.CONV, Owner.EMBEDDING):
        return None
    sizes = {table.shape[0] for table in tables}
    if len(member.shape) == 2 and sizes & set(member.shape) and not hints.EMBEDDING_PROJECTION.fullmatch(member.called):
        return Role.UNEMBEDDING
    named = hints.UNEMBEDDING.fullmatch(member.subject) or hints.UNEMBEDDING.fullmatch(member.called)
    return Role.UNEMBEDDING if named and not sizes else None


def _projection(member: Member, tables: frozenset[Member]) -> Role | None:
    return Role.EMBED_PROJ if hints.EMBEDDING_PROJECTION.fullmatch(member.called) else None


def _head(member: Member, tables: frozenset[Member]) -> Role | None:
    if member.size == 1 or is_conv(member) or not member.real:
        return None
    return Role.HEAD if _says(hints.HEAD, member) or hints.PLAIN_HEAD.fullmatch(member.called) else None


def _bias_role(member: Member, roles: dict[Member, Role], sizes: set[int]) -> Role:
    """A bias has the role of its matrix; one of the vocabulary's length without a matrix belongs to the unembedding."""
    partners = _partners(member, roles)
    partner = next(partners, None)
    if partner is not None:
        return partner
    return Role.UNEMBEDDING if member.shape and member.shape[-1] in sizes else roles[member]


def _partners(member: Member, roles: dict[Member, Role]) -> Iterator[Role]:
    for other, role in roles.items():
        beside = other.names[:-1] == member.names[:-1] and not other.bias and not other.buffer
        if beside and (other.tensor == "weight" if member.tensor == "bias" else other.subject == member.subject):
            yield role
    yield from only_matrix_below(member, roles)
