"""Which integer in a name is the depth?

Not the last one: sub-layers, experts and the places of a Sequential are integers, too. The depth is the index of the
outermost container whose members repeat one sub-structure. Names are all it takes, so it works on a bare state
dict as on a module; no container has to be called ``layers``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from wdyn.capture.hints import ATTENTION, BESIDE_BLOCKS, NUMBERED_BLOCK, STATE_SPACE
from wdyn.capture.spelling import plain, shared_front, snake, words

_ALIKE = 0.5
"""Share of common sub-names from which two members count as repetitions of each other."""

_RNN = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?")


@dataclass(frozen=True)
class Place:
    """Where a name stands: `inner` are the plain components below the block (all of them outside blocks)."""

    layer: int
    path: str
    container: tuple[str, ...]
    inner: tuple[str, ...]
    real: bool = True
    """False where the "block" is one bare module of a Sequential."""


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=lambda: defaultdict(_Node))
    tensor: bool = False

    def leaves(self, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        if self.tensor:
            yield prefix
        for key, child in self.children.items():
            yield from child.leaves((*prefix, key))


@dataclass(frozen=True)
class _Group:
    """The members of one container that are told apart by an integer."""

    at: tuple[str, ...]
    stem: str
    members: dict[int, _Node]

    @cached_property
    def templates(self) -> list[frozenset[tuple[str, ...]]]:
        """The sub-names of each member."""
        return [frozenset(member.leaves()) for member in self.members.values()]

    @property
    def bare(self) -> bool:
        """Each member is a single module: what it holds are tensors."""
        return all(len(leaf) <= 1 for template in self.templates for leaf in template)

    @property
    def beside(self) -> bool:
        """Called by a word for what is never the depth: experts, heads, a classifier."""
        return bool(self.at and words(self.at[-1]) & BESIDE_BLOCKS)

    @property
    def mixes(self) -> bool:
        """Each member has an attention or a state-space mixer: what heads, experts and embeddings have not."""
        return all(any(_mixes(part) for leaf in template for part in leaf) for template in self.templates)

    @cached_property
    def repeats(self) -> bool:
        """At least two members have one sub-structure."""
        return _alike(self.templates)


def places(names: Sequence[str]) -> dict[str, Place]:
    """Find layer, path and block of every (canonical) name."""
    spelled = [plain(name) for name in names]
    root = _tree(spelled)
    shared = shared_front([components[:-1] for components in spelled])
    # Whatever the container of the blocks is called: with no other blocks in sight, what attends is one.
    blocks = list(_blocks(root, (), shared)) or list(_blocks(root, (), shared, beside=True))
    groups = [*blocks, *_bare_groups(root, (), shared, blocks)]
    index = {(group.at, group.stem): not group.bare for group in groups}
    return {name: _place(name, components, index) for name, components in zip(names, spelled, strict=True)}


def _mixes(component: str) -> bool:
    word = snake(component)
    return bool(ATTENTION.fullmatch(word) or STATE_SPACE.fullmatch(word))


def _tree(spelled: Sequence[tuple[str, ...]]) -> _Node:
    root = _Node()
    for components in spelled:
        node = root
        for component in components:
            node = node.children[component]
        node.tensor = True
    return root


def _numbered(component: str) -> tuple[str, int] | None:
    """Split an index off: ``3`` -> ("", 3), ``encoder_layer_3`` -> ("encoder_layer", 3); ``fc1`` has none."""
    if component.isdecimal():
        return "", int(component)
    if match := NUMBERED_BLOCK.fullmatch(component):
        return match[1], int(match[2])
    return None


def _groups(node: _Node, at: tuple[str, ...]) -> list[_Group]:
    found: dict[str, dict[int, _Node]] = defaultdict(dict)
    for key, child in node.children.items():
        if (split := _numbered(key)) is not None:
            found[split[0]][split[1]] = child
    return [_Group(at, stem, members) for stem, members in found.items() if not stem or len(members) > 1]


def _blocks(node: _Node, at: tuple[str, ...], shared: int, *, beside: bool = False) -> Iterator[_Group]:
    """Descend to the outermost groups of real blocks."""
    taken: set[int] = set()
    for group in _groups(node, at):
        counts = not group.beside or len(at) <= shared or (beside and group.mixes)
        if not group.bare and counts and _is_depth(group):
            taken |= {id(member) for member in group.members.values()}
            yield group
    for key, child in node.children.items():
        if id(child) not in taken:
            yield from _blocks(child, (*at, key), shared, beside=beside)


def _is_depth(group: _Group) -> bool:
    """Take the outermost group, unless most of a member is blocks of its own: towers in a row, or an ensemble."""
    for member, template in zip(group.members.values(), group.templates, strict=True):
        inner = max(_repeating(member, ()), key=lambda one: len(one.templates[0]), default=None)
        if inner is None:
            continue
        outside = sum(leaf[: len(inner.at)] != inner.at for leaf in template)
        dominated = len(inner.templates[0]) > outside
        # Stages of equal shape are still stages; whole models have more than their blocks (embedding, head).
        if dominated and (not group.repeats or (outside > 1 and len(set(group.templates)) == 1)):
            return False
    return True


def _repeating(node: _Node, at: tuple[str, ...]) -> Iterator[_Group]:
    """Every group of repeated blocks below a node."""
    for group in _groups(node, at):
        if not group.bare and not group.beside and group.repeats:
            yield group
    for key, child in node.children.items():
        yield from _repeating(child, (*at, key))


def _bare_groups(node: _Node, at: tuple[str, ...], shared: int, blocks: list[_Group]) -> Iterator[_Group]:
    """Sequences of single modules: the depth of a net without blocks, else only lists that run beside the blocks."""
    for group in _groups(node, at):
        counts = group.bare and (not group.beside or len(at) <= shared)
        if counts and (not blocks or any(_parallel(group, block) for block in blocks)):
            yield group
    taken = {(block.at, block.stem) for block in blocks}
    for key, child in node.children.items():
        split = _numbered(key)
        if split is None or (at, split[0]) not in taken:
            yield from _bare_groups(child, (*at, key), shared, blocks)


def _parallel(group: _Group, block: _Group) -> bool:
    """``norms.0`` beside ``convs.0``: same parent, and no index that the blocks lack."""
    return group.at[:-1] == block.at[:-1] and bool(group.at) and group.members.keys() <= block.members.keys()


def _alike(templates: list[frozenset[tuple[str, ...]]]) -> bool:
    if len(set(templates)) < len(templates):
        return True
    ordered = sorted(templates, key=len, reverse=True)
    pairs = [(a, b) for at, a in enumerate(ordered[:8]) for b in ordered[at + 1 : at + 8]]
    return any(len(a & b) >= _ALIKE * len(a | b) for a, b in pairs)


def _place(name: str, components: tuple[str, ...], index: dict[tuple[tuple[str, ...], str], bool]) -> Place:
    for at, component in enumerate(components):
        split = _numbered(component)
        if split is not None and (key := (components[:at], split[0])) in index:
            path = _without(name, component, split[0], at, components)
            return Place(split[1], path, key[0], components[at + 1 :], index[key])
    if match := _RNN.fullmatch(components[-1]):
        path = name.replace(match[0], match[1] + (match[3] or ""))
        return Place(int(match[2]), path, components[:-1], (match[1],))
    return Place(-1, name, (), components)


def _without(name: str, component: str, stem: str, at: int, components: tuple[str, ...]) -> str:
    """Cut the index out of the full name (which may hold more components than the plain ones)."""
    raw = name.split(".")
    earlier = components[:at].count(component)
    spots = [spot for spot, part in enumerate(raw) if part == component]
    spot = spots[earlier]
    return ".".join([*raw[:spot], *([stem] if stem else []), *raw[spot + 1 :]])
