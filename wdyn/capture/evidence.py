"""What is known of a tensor besides its name: what kind of module owns it, its shape, and its place?"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from wdyn.capture import hints
from wdyn.capture.spelling import is_bias, position, snake, subject
from wdyn.capture.tensors import class_name

_RNN_TENSOR = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?")


class Owner(Enum):
    """What kind of module holds a tensor; UNKNOWN for a bare state dict and for a class of the user's own."""

    LINEAR = auto()
    TRANSPOSED = auto()
    EMBEDDING = auto()
    NORM = auto()
    CONV = auto()
    RNN = auto()
    ACTIVATION = auto()
    UNKNOWN = auto()


_KINDS: tuple[tuple[type | tuple[type, ...], Owner], ...] = (
    (nn.Linear, Owner.LINEAR),
    ((nn.Embedding, nn.EmbeddingBag), Owner.EMBEDDING),
    ((_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), Owner.NORM),
    (nn.modules.conv._ConvNd, Owner.CONV),
    ((nn.RNNBase, nn.RNNCellBase), Owner.RNN),
    (nn.PReLU, Owner.ACTIVATION),
)


def owner_kind(module: nn.Module | None) -> Owner:
    """Recognise a module by its type, and norms and transposed linears of other libraries by their class name."""
    kind = next((kind for types, kind in _KINDS if isinstance(module, types)), Owner.UNKNOWN)
    if kind is Owner.UNKNOWN and module is not None:
        if class_name(module) == "Conv1D":
            return Owner.TRANSPOSED
        if hints.NORM_CLASS.fullmatch(snake(class_name(module))):
            return Owner.NORM
    return kind


@dataclass(frozen=True)
class Member:
    """A tensor as the rules see it: `names` are plain components, below its block or, outside blocks, all of them."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    owner: Owner = Owner.UNKNOWN
    buffer: bool = False
    real: bool = True
    adapter: bool = False

    @cached_property
    def subject(self) -> str:
        """What it is called by; "" for a bare module of a Sequential, which nobody named."""
        return subject(self.names) if self.real else ""

    @cached_property
    def called(self) -> str:
        """The last word for it alone: `subject` without the component above a vague one."""
        if not self.real or self.tensor not in {"weight", "bias"}:
            return self.subject
        return next((snake(name) for name in reversed(self.names[:-1]) if not name.isdigit()), "")

    @cached_property
    def above(self) -> tuple[str, ...]:
        """Components above the one that names it, indices of a Sequential included: of ``mlp.0.weight``, ``mlp``."""
        if not self.real:
            return ()
        return self.names[:-2] if self.tensor in {"weight", "bias"} else self.names[:-1]

    @property
    def tensor(self) -> str:
        """Last component of its name."""
        return self.names[-1]

    @cached_property
    def bias(self) -> bool:
        """It is called a bias."""
        vector = len(self.shape) <= 1 or self.tensor not in {"b", "b_2", "beta"}
        return is_bias(self.tensor) and vector and not self.buffer

    @property
    def rnn(self) -> re.Match[str] | None:
        """Its name, when that is one of torch's recurrent modules."""
        return _RNN_TENSOR.fullmatch(self.tensor)

    @property
    def size(self) -> int:
        """Count of elements."""
        return math.prod(self.shape)

    @property
    def matrix(self) -> bool:
        """It maps something to something: at least two axes."""
        return len(self.shape) >= 2


@dataclass(frozen=True)
class Scene:
    """The tensors that are judged together: those of one block, or all that stand outside blocks."""

    members: tuple[Member, ...]
    attention_roots: frozenset[tuple[str, ...]] = field(init=False)
    state_space_roots: frozenset[tuple[str, ...]] = field(init=False)
    expert_roots: frozenset[tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Find the parents that their children give away."""
        object.__setattr__(self, "attention_roots", frozenset(_attention_roots(self.members)))
        object.__setattr__(self, "state_space_roots", frozenset(_state_space_roots(self.members)))
        object.__setattr__(self, "expert_roots", frozenset(_expert_roots(self.members)))

    @cached_property
    def width(self) -> int:
        """Size of the residual stream: of the lengths of norms, the one on most matrices; 0 when nothing tells."""
        axes = Counter(length for m in self.members if m.matrix and not m.buffer for length in set(m.shape))
        norms = {m.shape[0] for m in self.members if len(m.shape) == 1 and is_norm(m, self)}
        return max(norms & axes.keys() or axes, key=lambda length: (axes[length], -length), default=0)

    @cached_property
    def with_matrix(self) -> frozenset[tuple[str, ...]]:
        """Modules that hold a matrix: their vectors are no norms."""
        return frozenset(m.names[:-1] for m in self.members if m.matrix and not m.buffer)


def is_norm(member: Member, scene: Scene) -> bool:
    """Say whether a tensor scales or shifts a normalised activation."""
    if member.owner is not Owner.UNKNOWN:
        return member.owner is Owner.NORM
    if len(member.shape) > 1 or member.buffer:
        return False
    if member.names[:-1] in scene.with_matrix:
        return False
    if hints.NORM.fullmatch(member.subject):
        return True
    nameless = member.tensor in {"weight", "bias"} and len(member.shape) == 1 and member.shape[0] > 1
    # A vector called weight in a module without a matrix is a scale, and norms are what has one.
    return nameless and (*member.names[:-1], "weight") in {m.names for m in scene.members}


def _attention_roots(members: Iterable[Member]) -> Iterable[tuple[str, ...]]:
    """Find the parents of q and k, or of a fused qkv, above what only groups heads."""
    found: dict[tuple[str, ...], set[str]] = {}
    for member in members:
        if member.buffer or member.bias or not member.matrix:
            continue
        role = hints.lookup(hints.ATTENTION_ROLES, member.subject)
        if role is not None and role != "o":
            found.setdefault(_holder(member), set()).add(role)
    for root, roles in found.items():
        if "qkv" in roles or {"q", "k"} <= roles or {"q", "kv"} <= roles:
            while root and (root[-1].isdigit() or snake(root[-1]) in {"self", "heads", "head"}):
                root = root[:-1]
            yield root


def _holder(member: Member) -> tuple[str, ...]:
    """Give the module that holds the named one: of ``attn.to_q.0.weight``, ``attn``."""
    return member.above[:-1] if position(member.names) >= 0 else member.above


def _state_space_roots(members: Iterable[Member]) -> Iterable[tuple[str, ...]]:
    return (m.names[:-1] for m in members if hints.STATE_SPACE.fullmatch(snake(m.tensor)))


def _expert_roots(members: Iterable[Member]) -> Iterable[tuple[str, ...]]:
    for member in members:
        for at, component in enumerate(member.names):
            if snake(component) in hints.EXPERTS:
                yield member.names[:at]
