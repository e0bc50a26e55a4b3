"""What is each parameter of a model: which layer, which role, tied to what, fused how?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from wdyn.capture.axes import axis_names
from wdyn.capture.blocks import Place, places
from wdyn.capture.declared import Declared, with_declared_parts
from wdyn.capture.evidence import Member
from wdyn.capture.heads import ATTENTION, UNKNOWN, declared_heads, fitting_heads
from wdyn.capture.judging import judge, members
from wdyn.capture.parts import bias_parts, fused_parts
from wdyn.capture.stacks import stacks
from wdyn.capture.tensors import Leaf, model_leaves, state_leaves
from wdyn.capture.ties import tied_to
from wdyn.errors import InvalidArgument
from wdyn.schema import Address, Kind, Role


def addresses(
    model: nn.Module | Mapping[str, object],
    *,
    config: object = None,
    parts: Declared | None = None,
    held: Mapping[str, Tensor] | None = None,
) -> tuple[Address, ...]:
    """Tell where each parameter stands, and what it is.

    Parameters
    ----------
    model
        A module, or a state dict.
    config
        The model's config (an object or a mapping), where there is no module to ask. It tells head counts.
    parts
        Splits of fused weights that the user declared; see `check_parts`.
    held
        Tensors by name that stand for those that the model shows, where it shows others for a while.

    Returns
    -------
    tuple of Address
        In the order of ``named_parameters(remove_duplicate=False)``, then persistent buffers.

    Raises
    ------
    InvalidArgument
        `model` is neither.
    """
    shown = held or {}
    leaves = [replace(leaf, tensor=shown.get(leaf.name, leaf.tensor)) for leaf in _leaves(model)]
    where = places([leaf.name for leaf in leaves])
    known = members(leaves, where)
    roles = judge(known, where)
    towers = stacks(leaves, where, roles)
    axes = axis_names(known, roles, where)
    ties = tied_to({leaf.name: leaf.tensor for leaf in leaves})
    found = []
    for leaf in leaves:
        name = leaf.name
        address = _address(leaf, where[name], known[name], roles[name], axes[name])
        address = replace(address, stack=towers[name], tied_to=ties[name])
        address = _with_parts(address, leaf, known[name], config)
        found.append(with_declared_parts(address, parts) if parts else address)
    return _with_bias_parts(found, known)


def _leaves(model: nn.Module | Mapping[str, object]) -> list[Leaf]:
    if isinstance(model, nn.Module):
        return model_leaves(model)
    if isinstance(model, Mapping):
        return state_leaves(model)
    raise InvalidArgument(
        f"Cannot describe a {type(model).__name__}. Needed is a torch module, a state dict (name -> tensor) or the "
        "path of a checkpoint"
    )


def _address(leaf: Leaf, place: Place, member: Member, role: Role, dims: tuple[str, ...]) -> Address:
    return Address(
        name=leaf.name,
        path=place.path,
        role=role,
        kind=Kind.BUFFER if member.buffer else Kind.BIAS if member.bias else Kind.WEIGHT,
        stack="",
        layer=place.layer,
        shape=member.shape,
        dims=dims,
        dtype=leaf.dtype,
        # A state dict does not say what trains; what is no buffer may.
        trainable=leaf.tensor.requires_grad if leaf.chain else not member.buffer,
        module=leaf.module,
    )


def _with_parts(address: Address, leaf: Leaf, member: Member, config: object) -> Address:
    if member.adapter:  # one axis of a factor is its rank, which no head counts
        return address
    heads = UNKNOWN
    if address.role in ATTENTION:
        declared = declared_heads(leaf.chain, config, address.stack)
        heads = fitting_heads(declared, address.role, address.shape, address.dims)
    return replace(
        address,
        parts=fused_parts(member, address.role, address.dims, heads=heads, chain=leaf.chain, config=config),
        heads=heads.query,
        kv_heads=heads.key_value,
        head_dim=heads.size,
    )


def _with_bias_parts(found: list[Address], known: Mapping[str, Member]) -> tuple[Address, ...]:
    """Give each bias the split and the heads of its matrix."""
    matrices = {_owner(a.name, known): a for a in found if a.kind == Kind.WEIGHT and (a.parts or a.heads)}
    out = []
    for address in found:
        matrix = matrices.get(_owner(address.name, known))
        if address.kind == Kind.BIAS and matrix is not None and matrix.role == address.role:
            split = bias_parts(matrix, address.dims)
            address = replace(
                address, parts=split, heads=matrix.heads, kv_heads=matrix.kv_heads, head_dim=matrix.head_dim
            )
        out.append(address)
    return tuple(out)


def _owner(name: str, known: Mapping[str, Member]) -> tuple[str, str]:
    """Give what a matrix and its bias have in common: the module, and what both are called by."""
    return name.rpartition(".")[0], known[name].subject
