"""Which tower of the model does a block belong to?

Words above the block come first (``text_model.encoder.layers``), then what its modules say of themselves (a class
called ``LlamaDecoderLayer``, an attention that is causal), then what the model has beside it: patches and masked-token
heads go with encoders, an unembedding with decoders. A net with none of these is ``root``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wdyn.capture import hints
from wdyn.capture.blocks import Place
from wdyn.capture.spelling import snake, words
from wdyn.capture.tensors import Leaf, class_name
from wdyn.schema import NO_LAYER, Role

ROOT = "root"


def stacks(leaves: Sequence[Leaf], places: Mapping[str, Place], roles: Mapping[str, Role]) -> dict[str, str]:
    """Name the stack of every leaf; outside blocks it is the nearest one, as advice only."""
    containers: dict[tuple[str, ...], list[Leaf]] = {}
    for leaf in leaves:
        place = places[leaf.name]
        if place.layer != NO_LAYER:
            containers.setdefault(_key(leaf, place), []).append(leaf)
    two_towers = any(_tower(container, two_towers=False) == "vision" for container in containers)
    named = {
        container: _tower(container, two_towers=two_towers) or _by_evidence(members, places, roles)
        for container, members in containers.items()
    }
    towers = set(named.values())
    only = next(iter(towers)) if len(towers) == 1 else ""
    return {
        leaf.name: named[_key(leaf, places[leaf.name])]
        if places[leaf.name].layer != NO_LAYER
        else only
        or _tower(tuple(leaf.name.split(".")[:-1]), two_towers=two_towers)
        or _outside(roles[leaf.name], towers)
        for leaf in leaves
    }


def _key(leaf: Leaf, place: Place) -> tuple[str, ...]:
    """Give the components of the full name above the block."""
    raw = leaf.name.split(".")
    return tuple(raw[: len(raw) - 1]) if not place.container else _above(raw, place)


def _above(raw: list[str], place: Place) -> tuple[str, ...]:
    at = 0
    for component in place.container:
        at = raw.index(component, at) + 1
    return tuple(raw[:at])


def _tower(components: tuple[str, ...], *, two_towers: bool) -> str:
    found = [words(component) for component in components]
    if two_towers and any(said & hints.LANGUAGE for said in found):
        return "text"
    return next((tower for tower, meaning in hints.TOWERS if any(said & meaning for said in found)), "")


def _by_evidence(members: Sequence[Leaf], places: Mapping[str, Place], roles: Mapping[str, Role]) -> str:
    inside = {roles[leaf.name] for leaf in members}
    if inside & {Role.RNN_IH, Role.RNN_HH}:
        return "rnn"
    said = _by_module(members)
    if said:
        return said
    if inside & {Role.CROSS_Q, Role.CROSS_QKV}:
        return "decoder"
    everywhere = set(roles.values())
    outside = {name for name, place in places.items() if place.layer == NO_LAYER}
    if _encodes(everywhere, outside, roles) or _is_torch_encoder(members, places):
        return "encoder"
    sequence = inside & {Role.Q, Role.K, Role.QKV, Role.SSM, Role.KV}
    return "decoder" if sequence and everywhere & {Role.EMBEDDING, Role.UNEMBEDDING} else ROOT


def _by_module(members: Sequence[Leaf]) -> str:
    """Ask the modules around a block's tensors, outermost first, then its attention whether it is causal."""
    chain = members[0].chain
    for module in chain:
        said = words(class_name(module))
        for tower in ("encoder", "decoder"):
            if tower in said and snake(class_name(module)).endswith(("layer", "block", tower)):
                return tower
    causal = {
        getattr(module, "is_causal", None)
        for leaf in members
        for module in leaf.chain
        if hints.ATTENTION.fullmatch(snake(class_name(module)))
    }
    if True in causal:
        return "decoder"
    return "encoder" if False in causal else ""


def _encodes(everywhere: set[Role], outside: set[str], roles: Mapping[str, Role]) -> bool:
    """Say whether the model looks like an encoder: patches, token types, a transform before its unembedding."""
    if everywhere & {Role.PATCH_EMBEDDING, Role.TYPE_EMBEDDING}:
        return True
    masked = Role.UNEMBEDDING in everywhere and any(roles[name] is Role.HEAD for name in outside)
    # A container of embeddings with a norm of its own is how encoders of the BERT line begin.
    normed = any(roles[name] is Role.NORM and "embeddings" in name.lower().split(".")[:-2] for name in outside)
    return masked or normed


def _is_torch_encoder(members: Sequence[Leaf], places: Mapping[str, Place]) -> bool:
    """Recognise the tensors of ``nn.TransformerEncoderLayer``; its decoder twin also has a ``multihead_attn``."""
    firsts = {component for leaf in members for component in places[leaf.name].inner[:1]}
    return {"self_attn", "linear1", "linear2", "norm1", "norm2"} == firsts


def _outside(role: Role, towers: set[str]) -> str:
    return "decoder" if role is Role.UNEMBEDDING and "decoder" in towers else ROOT
