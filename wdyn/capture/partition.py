"""Into which cells is a tensor cut, and which of them make up each of its parts?

A cell is a strided view. The cells of a tensor are disjoint and cover it, so that each element is measured once: a part
is some of them together, the tensor all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from torch import Tensor

from wdyn.capture.heads import ATTENTION
from wdyn.schema import EXPERT, FAN_IN, FAN_OUT, HEAD, Address, Parts, Role

NONE = -1
"""The expert, or the head, of a part that is none."""

_QUERY = ("q", "o")
_KEY = ("k", "v")
_HEADED = frozenset({Role.Q, Role.K, Role.V, Role.O, Role.CROSS_Q, Role.CROSS_K, Role.CROSS_V, Role.CROSS_O})
_RECURRENT = frozenset({Role.RNN_IH, Role.RNN_HH})


@dataclass(frozen=True)
class Cut:
    """Of every run of `period` along `axis`, the `size` from `start` on."""

    axis: int
    period: int
    start: int
    size: int
    within: tuple[int, int] | None = None
    """Where along the axis the runs begin, and how long they are together; None for all of it."""

    def view(self, tensor: Tensor) -> Tensor:
        """Show what the cut leaves; where runs repeat, they stay an axis of their own."""
        if self.within is not None:
            tensor = tensor.narrow(self.axis, *self.within)
        repeats, axis = tensor.shape[self.axis] // self.period, self.axis
        if repeats > 1:
            tensor, axis = tensor.unflatten(axis, (repeats, self.period)), axis + 1
        return tensor.narrow(axis, self.start, self.size)


@dataclass(frozen=True)
class Part:
    """A part of a parameter: its name there, what it does, its cells, and the expert or the head that it is."""

    name: str
    role: Role
    cells: tuple[int, ...]
    expert: int = NONE
    head: int = NONE


@dataclass(frozen=True)
class Partition:
    """The cells of a tensor, each by its cuts, and the parts that they make."""

    cells: tuple[tuple[Cut, ...], ...]
    parts: tuple[Part, ...]

    def views(self, tensor: Tensor) -> Iterator[Tensor]:
        """Show each cell of a tensor; nothing is copied."""
        for cuts in self.cells:
            view = tensor
            for cut in sorted(cuts, key=lambda one: -one.axis):  # a cut may add an axis behind its own
                view = cut.view(view)
            yield view


@dataclass(frozen=True)
class _Piece:
    """What one position along one axis is."""

    cut: Cut
    name: str = ""
    expert: int = NONE
    head: int = NONE


def partition(address: Address, *, heads: bool) -> Partition | None:
    """Cut a parameter into its fused parts, its experts and, on request, its heads; None for one without any."""
    axes = [pieces for pieces in (_experts(address), _fused(address, heads=heads)) if pieces]
    if not axes:
        return None
    cells = list(product(*axes))
    members: dict[_Key, list[int]] = {}
    for at, cell in enumerate(cells):
        for key in (key for piece in cell for key in _keys(piece, address)):
            members.setdefault(key, []).append(at)
    parts = [Part(_called(key), _role(key.name, address), tuple(at), *key[1:]) for key, at in members.items()]
    return Partition(tuple(tuple(piece.cut for piece in cell) for cell in cells), tuple(parts))


class _Key(NamedTuple):
    """What sets a part apart from the others of its parameter."""

    name: str
    expert: int = NONE
    head: int = NONE


def _keys(piece: _Piece, address: Address) -> Iterator[_Key]:
    """Which parts a piece belongs to: a head to the part that it is of, and to itself."""
    if piece.expert != NONE or address.parts is not None:
        yield _Key(piece.name, piece.expert)
    if piece.head != NONE:
        yield _Key(piece.name, head=piece.head)


def _called(key: _Key) -> str:
    if key.expert != NONE:
        return f"expert {key.expert}"
    return key.name if key.head == NONE else f"{key.name} head {key.head}"


def _role(name: str, address: Address) -> Role:
    """The gates of a recurrent layer have names of their own: its "o" is no attention."""
    known = address.role not in _RECURRENT and name in list(Role)
    return Role(name) if known else address.role


def _experts(address: Address) -> list[_Piece]:
    if EXPERT not in address.dims:
        return []
    axis = address.dims.index(EXPERT)
    count = address.shape[axis]
    return [_Piece(Cut(axis, count, at, 1), expert=at) for at in range(count)]


def _fused(address: Address, *, heads: bool) -> list[_Piece]:
    """Pieces along the axis of the fused parts, or of the heads of a weight that is not fused."""
    if address.parts is not None:
        return _parts_pieces(address, address.parts, heads=heads)
    if not heads or address.role not in _HEADED:
        return []
    axis = _heads_axis(address)
    if axis is None:
        return []
    whole = Parts(axis, (str(address.role),), (address.shape[axis],))
    count = address.shape[axis] if address.dims[axis] == HEAD else _count(str(address.role), address)
    return _head_pieces(whole, 0, count)


def _heads_axis(address: Address) -> int | None:
    along = FAN_IN if address.role in (Role.O, Role.CROSS_O) else FAN_OUT
    dim = HEAD if HEAD in address.dims else along
    return address.dims.index(dim) if dim in address.dims else None


def _parts_pieces(address: Address, parts: Parts, *, heads: bool) -> list[_Piece]:
    pieces: list[_Piece] = []
    for at, name in enumerate(parts.names):
        count = _count(name, address) if heads and address.role in ATTENTION else 0
        start = sum(parts.sizes[:at])
        whole = [_Piece(Cut(parts.axis, sum(parts.sizes), start, parts.sizes[at]), name)]
        pieces += _head_pieces(parts, at, count) or whole
    return pieces


def _head_pieces(parts: Parts, at: int, count: int) -> list[_Piece]:
    """The heads of part number `at`, in their order; none where they do not fill it evenly, or are unknown."""
    size, period = parts.sizes[at], sum(parts.sizes)
    length = size * parts.repeats
    if count < 1 or length % count or size % (each := length // count):
        return []
    starts = (head * each // size * period + sum(parts.sizes[:at]) + head * each % size for head in range(count))
    cuts = (Cut(parts.axis, period * parts.repeats, start, each) for start in starts)
    return [_Piece(cut, parts.names[at], head=head) for head, cut in enumerate(cuts)]


def _count(name: str, address: Address) -> int:
    """How many heads a part has, by its name; 0 for one without, or where it is not known."""
    short = name.removeprefix("cross_")
    return address.heads if short in _QUERY else address.kv_heads if short in _KEY else 0
