"""What does each tensor of a block do?

A tensor is judged by the evidence that is hardest to fake first: the type of its module, the company that it keeps
(siblings q and k make an attention, ``A_log`` a state-space mixer, experts a router), then words, then shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wdyn.capture import hints
from wdyn.capture.evidence import Member, Owner, Scene, is_norm
from wdyn.capture.spelling import position, snake, words
from wdyn.schema import Role

_CROSS = {
    Role.Q: Role.CROSS_Q,
    Role.K: Role.CROSS_K,
    Role.V: Role.CROSS_V,
    Role.QKV: Role.CROSS_QKV,
    Role.O: Role.CROSS_O,
}
_RNN = {"ih": Role.RNN_IH, "hh": Role.RNN_HH, "hr": Role.RNN_PROJ}
_UNSURE = (Role.LINEAR, Role.OTHER)
_VAGUE = frozenset("proj dense linear lin fc".split())


def block_roles(members: tuple[Member, ...]) -> tuple[Role, ...]:
    """Judge the tensors of one block together."""
    scene = Scene(members)
    roles = {member: _judge(member, scene) for member in members}
    _name_gates(roles)
    _find_fused_gates(roles)
    _inherit(roles)
    return tuple(roles[member] for member in members)


def common_role(member: Member, scene: Scene) -> Role | None:
    """Judge what is the same in a block and outside: buffers, recurrent weights, norms, state-space mixers."""
    if member.buffer:
        return Role.BUFFER
    if (match := member.rnn) is not None:
        return _RNN[match[2]]
    if is_norm(member, scene):
        return Role.NORM
    if any(member.names[: len(root)] == root for root in scene.state_space_roots):
        return Role.CONV if is_conv(member) or "conv" in member.subject else Role.SSM
    if hints.RECURRENCE.fullmatch(member.subject) and member.owner is Owner.UNKNOWN and member.tensor != "weight":
        return Role.SSM
    if hints.POSITION_BIAS.fullmatch(member.subject) or hints.POSITION_BIAS.fullmatch(snake(member.tensor)):
        return Role.POS_BIAS
    if member.matrix and hints.POSITION_PROJECTION.fullmatch(member.subject) and member.owner is not Owner.EMBEDDING:
        return Role.POS_PROJ
    return None


def is_conv(member: Member) -> bool:
    """Say whether a tensor is the kernel of a convolution."""
    if member.owner is not Owner.UNKNOWN:
        return member.owner is Owner.CONV
    return len(member.shape) >= 3 and member.tensor == "weight"


def branch_role(member: Member, scene: Scene) -> Role | None:
    """Judge a tensor by the branch (attention, MLP) that it stands in, or by a word that only one of them uses."""
    if _routes(member, scene):
        return Role.ROUTER
    where = branch(member, scene)
    if where == "mlp" or (not where and hints.PLAIN_MLP.fullmatch(member.subject)):
        return _mlp_role(member, scene)
    if where or () in scene.attention_roots:
        role = _lookup(hints.ATTENTION_ROLES, member)
        return _crossed(role, member) if where == "cross" else role
    return None


def fallback(member: Member, scene: Scene) -> Role:
    """Say what the module, or the shape alone, tells."""
    if is_conv(member):
        return Role.CONV
    linear = member.owner in (Owner.LINEAR, Owner.TRANSPOSED)
    return Role.LINEAR if linear or _looks_linear(member, scene) else Role.OTHER


def _looks_linear(member: Member, scene: Scene) -> bool:
    """Without a module, an embedding looks like a matrix, too: a bias beside it, or a word, tells that it is none."""
    if member.owner is not Owner.UNKNOWN or len(member.shape) != 2 or member.tensor != "weight":
        return False
    return bool(hints.LINEAR.fullmatch(member.subject)) or any(
        other.bias and other.names[:-1] == member.names[:-1] for other in scene.members
    )


def only_matrix_below(member: Member, roles: Mapping[Member, Role]) -> Iterator[Role]:
    """Give the role of the one matrix below the module of a bias, as a graph convolution keeps its own in ``lin``."""
    at = member.names[:-1]
    found = [
        r for m, r in roles.items() if len(m.shape) == 2 and not m.buffer and not m.bias and m.names[: len(at)] == at
    ]
    if member.tensor == "bias" and len(found) == 1:
        yield found[0]


def _judge(member: Member, scene: Scene) -> Role:
    role = common_role(member, scene)
    if role is None and (not is_conv(member) or branch(member, scene) in ("attention", "cross")):
        role = branch_role(member, scene)
        if role is None and _widens_and_narrows(member, scene):
            role = _mlp_by_shape(member, scene)
    return role or fallback(member, scene)


def branch(member: Member, scene: Scene) -> str:
    """Walk up from the tensor to the nearest component that says which branch of the block this is."""
    for depth in range(len(member.above), 0, -1):
        path = member.above[:depth]
        name = snake(path[-1])
        if hints.CROSS.fullmatch(name):
            return "cross"
        if hints.MLP.fullmatch(name) or path in scene.expert_roots:
            return "mlp"
        if hints.ATTENTION.fullmatch(name) or path in scene.attention_roots:
            return "cross" if _second_attention(path, scene) else "attention"
    return ""


def _lookup(table: hints.Table, member: Member) -> Role | None:
    return hints.lookup(table, member.subject) or hints.lookup(table, member.called)


def _second_attention(root: tuple[str, ...], scene: Scene) -> bool:
    """Beside an attention called self, the other one looks elsewhere."""
    selves = [other for other in scene.attention_roots if other and "self" in words(other[-1])]
    return root in scene.attention_roots and bool(selves) and root not in selves


def _routes(member: Member, scene: Scene) -> bool:
    path = [snake(component) for component in member.names] if member.real else []
    if any(hints.ROUTER.fullmatch(component) for component in path):
        return True
    return any(
        member.names[: len(root)] == root and len(path) > len(root) and path[len(root)] in {"gate", "classifier"}
        for root in scene.expert_roots
    )


def _mlp_role(member: Member, scene: Scene) -> Role | None:
    by_shape = _mlp_by_shape(member, scene)
    vague = member.called in _VAGUE or position(member.names) >= 0
    if vague and by_shape is not None:
        return by_shape
    role = _lookup(hints.MLP_ROLES, member) or by_shape
    return role or _by_order(member, scene)


def _mlp_by_shape(member: Member, scene: Scene) -> Role | None:
    """Say up for what leaves the width of the stream, down for what returns to it."""
    if len(member.shape) != 2 or not scene.width or member.adapter:
        return None
    fan_out, fan_in = member.shape[::-1] if member.owner is Owner.TRANSPOSED else member.shape
    if (fan_in == scene.width) == (fan_out == scene.width):
        return None
    return Role.MLP_UP if fan_in == scene.width else Role.MLP_DOWN


def _widens_and_narrows(member: Member, scene: Scene) -> bool:
    """In a block with attention, two matrices side by side that leave the stream and return to it are its MLP."""
    if not scene.attention_roots or not member.matrix:
        return False
    row = [m for m in scene.members if _parent(m) == _parent(member) and len(m.shape) == 2 and not m.buffer]
    row = [m for m in row if branch(m, scene) == "" and hints.lookup(hints.ATTENTION_ROLES, m.called) is None]
    return member in row and len(row) == 2 and row[0].shape == row[1].shape[::-1] and max(member.shape) > scene.width


def _parent(member: Member) -> tuple[str, ...]:
    return member.above[:-1] if position(member.names) >= 0 else member.above


def _by_order(member: Member, scene: Scene) -> Role | None:
    """Of the two matrices in a Sequential, the first goes up."""
    row = [m for m in scene.members if m.above == member.above and m.matrix and not m.buffer]
    if len(row) != 2 or member not in row:
        return None
    return Role.MLP_UP if row[0] is member else Role.MLP_DOWN


def _crossed(role: Role | None, member: Member) -> Role | None:
    """Give the role in cross-attention; there ``c_attn`` makes keys and values only."""
    if role is Role.QKV and len(member.shape) == 2 and max(member.shape) == 2 * min(member.shape):
        return Role.KV
    return _CROSS.get(role, role) if role is not None else None


def _name_gates(roles: dict[Member, Role]) -> None:
    """Among three matrices numbered 1, 2, 3 in one MLP, the first is the gate."""
    numbered: dict[tuple[str, ...], dict[str, list[Member]]] = {}
    for member, role in roles.items():
        match = hints.THREE.fullmatch(member.subject)
        if match and role in (Role.MLP_UP, Role.MLP_DOWN, *_UNSURE):
            at = next(i for i in range(len(member.names), 0, -1) if snake(member.names[i - 1]) == member.subject)
            numbered.setdefault(member.names[: at - 1], {}).setdefault(match[2], []).append(member)
    for found in numbered.values():
        if found.keys() == {"1", "2", "3"}:
            for number, role in (("1", Role.MLP_GATE), ("2", Role.MLP_DOWN), ("3", Role.MLP_UP)):
                roles.update(dict.fromkeys(found[number], role))


def _find_fused_gates(roles: dict[Member, Role]) -> None:
    """An up twice as large as the down beside it holds a gate as well."""
    downs = {_stem(m): m for m, role in roles.items() if role is Role.MLP_DOWN and m.matrix and not m.adapter}
    gates = {_stem(m) for m, role in roles.items() if role is Role.MLP_GATE}
    for member, role in roles.items():
        down = downs.get(_stem(member))
        lone = role is Role.MLP_UP and member.matrix and _stem(member) not in gates
        if lone and down is not None and member.size == 2 * down.size:
            roles[member] = Role.MLP_GATE_UP


def _stem(member: Member) -> tuple[str, ...]:
    """Give what the matrices of one MLP have in common: the component below the block, or the expert."""
    digits = [at for at, component in enumerate(member.names[:-2]) if component.isdigit()]
    inside = [at for at, component in enumerate(member.names[:-1]) if snake(component) in hints.EXPERTS]
    if inside and digits and digits[0] > inside[0]:
        return member.names[: digits[0] + 1]
    return member.names[: inside[0] + 1] if inside else ()


def _inherit(roles: dict[Member, Role]) -> None:
    """A bias (and whatever else stands beside a matrix in a module) has the role of its matrix."""
    by_module = {m.names[:-1]: role for m, role in roles.items() if m.tensor == "weight" and not m.buffer}
    by_subject = {(m.names[:-1], m.subject): role for m, role in roles.items() if m.matrix and not m.bias}
    for member, role in roles.items():
        if not member.bias or role in (Role.NORM, Role.BUFFER):
            continue
        partner = by_module.get(member.names[:-1]) if member.tensor == "bias" else None
        partner = partner or by_subject.get((member.names[:-1], member.subject))
        partner = partner or next(only_matrix_below(member, roles), None)
        if partner is not None:
            roles[member] = partner
