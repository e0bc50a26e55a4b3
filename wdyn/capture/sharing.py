"""Which process records which piece of which parameter?

Each block of a tensor is recorded by the lowest of the processes that hold it. Where the blocks of all lie on one
regular grid, each is a chunk of the stored array that its process writes by itself; where they do not, such as those of
an uneven axis that two dimensions of a mesh divide, the first process puts them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from wdyn.arrays import WeightArray
from wdyn.capture.pieces import Piece
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.rows import Snapshot

Grid = tuple[int, ...]
"""Length of a block along each axis; () where no regular grid holds all blocks, or there is but one."""


@dataclass(frozen=True)
class Held:
    """What a process tells of a tensor that it holds a piece of."""

    shape: tuple[int, ...]
    dtype: str
    piece: Piece
    spread: bool
    """Whether it is a DTensor."""


@dataclass(frozen=True)
class Division:
    """How one tensor is divided.

    Attributes
    ----------
    pieces
        By rank, of those that hold any of it.
    speakers
        The ranks that record a piece, each of which is no other's.
    grid
        That of the pieces.
    spread
        Whether it is a DTensor.
    """

    pieces: Mapping[int, Piece]
    speakers: tuple[int, ...]
    grid: Grid
    spread: bool

    def replicas(self) -> dict[int, tuple[int, ...]]:
        """For each speaker the other ranks that hold the same piece."""
        of = {self.pieces[rank]: rank for rank in self.speakers}
        copies: dict[int, list[int]] = {rank: [] for rank in self.speakers}
        for rank, held in self.pieces.items():
            if held.numel and of[held] != rank:
                copies[of[held]].append(rank)
        return {rank: tuple(others) for rank, others in copies.items()}


@dataclass(frozen=True)
class Sharing:
    """Who records what; without any process beside this one, it records all.

    Attributes
    ----------
    rank, processes
        This process, and how many there are.
    divisions
        By name of the tensor.
    """

    rank: int = 0
    processes: int = 1
    divisions: Mapping[str, Division] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Whether several processes record together."""
        return bool(self.divisions)

    def speaks_for(self, name: str) -> bool:
        """Whether this process records a piece of a tensor."""
        return not self.divisions or (name in self.divisions and self.rank in self.divisions[name].speakers)

    def piece(self, name: str) -> Piece | None:
        """Give the piece of a tensor that lies in this process; None where it is whole, or was never divided."""
        return self.divisions[name].pieces.get(self.rank) if name in self.divisions else None

    def spread(self, name: str) -> bool:
        """Whether a tensor is a DTensor."""
        return name in self.divisions and self.divisions[name].spread

    def grid(self, name: str) -> Grid:
        """Give the grid of the pieces of a tensor."""
        return self.divisions[name].grid if name in self.divisions else ()

    def is_whole_in_first(self, name: str) -> bool:
        """Whether the first process records all of a tensor."""
        one = self.divisions.get(name)
        return one is None or (one.speakers == (0,) and not one.grid)

    def alike(self, name: str) -> object:
        """Give what two tensors of one shape have in common if and only if they are divided in the same way."""
        one = self.divisions.get(name)
        return None if one is None else (one.speakers, tuple(sorted(one.pieces.items(), key=lambda item: item[0])))


ALONE = Sharing()
"""One process, which records all."""


def shared(held: Sequence[Mapping[str, Held]], *, rank: int) -> Sharing:
    """Say who records what, from what each process holds, by rank.

    Raises
    ------
    InvalidArgument
        Processes hold different parameters, or pieces that do not make up the whole.
    """
    first = held[0]
    for other, tensors in enumerate(held):
        differing = [name for name in {**first, **tensors} if not _same(first.get(name), tensors.get(name))]
        if differing:
            raise InvalidArgument(
                f"Processes 0 and {other} hold different parameters, such as {examples(differing)}. Those that train "
                f"parts of a model of their own (pipeline stages) record a run each, if their tensors are plain: "
                f"watch(..., to=<one for each>, alone=True). Stages whose parameters are DTensors over a part of the "
                f"processes cannot be recorded yet"
            )
    return Sharing(rank, len(held), _divisions(held))


def _same(one: Held | None, other: Held | None) -> bool:
    return one is not None and other is not None and (one.shape, one.dtype) == (other.shape, other.dtype)


def _divisions(held: Sequence[Mapping[str, Held]]) -> dict[str, Division]:
    """Divide each tensor; many are divided alike, and these have one division together."""
    made: dict[tuple[tuple[int, ...], bool, tuple[Piece, ...]], Division] = {}
    divisions = {}
    for name, one in held[0].items():
        pieces = tuple(tensors[name].piece for tensors in held)
        kind = (one.shape, one.spread, pieces)
        if kind not in made:
            made[kind] = _division(name, one, pieces)
        divisions[name] = made[kind]
    return divisions


def _division(name: str, tensor: Held, pieces: Sequence[Piece]) -> Division:
    shape, held = tensor.shape, dict(enumerate(pieces))
    speakers: dict[Piece, int] = {}
    for rank, piece in held.items():
        if piece.numel:
            speakers.setdefault(piece, rank)
    if not speakers:  # of a tensor without elements
        return Division(held, (0,), (), tensor.spread)
    total = sum(one.numel for one in speakers)
    grid = _grid(shape, speakers)
    # Different cells of one grid do not overlap.
    if total != math.prod(shape) or (not grid and _any_overlap(speakers)):
        raise InvalidArgument(
            f"The pieces of {name} of shape {shape} hold {total} elements together, or overlap: needed are blocks that "
            f"make up the whole, each of one process or alike in several"
        )
    return Division(held, tuple(speakers.values()), grid, tensor.spread)


def _any_overlap(pieces: Iterable[Piece]) -> bool:
    """Whether any two of some pieces overlap: each is compared with those that begin before it ends."""
    ordered = sorted(pieces, key=lambda one: one.start)
    for at, one in enumerate(ordered):
        for other in ordered[at + 1 :]:
            if other.start[0] >= one.start[0] + one.size[0]:
                break
            if _overlap(one, other):
                return True
    return False


def _overlap(one: Piece, other: Piece) -> bool:
    axes = zip(one.start, one.size, other.start, other.size, strict=True)
    return all(max(first, start) < min(first + length, start + size) for first, length, start, size in axes)


def _grid(shape: tuple[int, ...], pieces: Iterable[Piece]) -> Grid:
    """Give the regular grid in which each piece is one cell; () where there is none, or all is one piece."""
    blocks = list(pieces)
    if len(blocks) == 1:
        return ()
    grid = tuple(max(one.size[axis] for one in blocks) for axis in range(len(shape)))
    for one in blocks:
        for start, size, length, step in zip(one.start, one.size, shape, grid, strict=True):
            if start % step or size != min(step, length - start):
                return ()
    return grid


def divided(snapshot: Snapshot, arrays: Mapping[str, WeightArray], sharing: Sharing) -> Snapshot:
    """Say of a snapshot where the blocks begin that this process holds, and which are to be put together.

    Parameters
    ----------
    snapshot
        The blocks of this process.
    arrays
        The arrays of all tensors, by name of these.
    """
    names = {array.slug: name for name, array in arrays.items()}
    whole = frozenset(slug for slug, name in names.items() if sharing.is_whole_in_first(name))
    scattered = {
        array.slug for name, array in arrays.items() if not sharing.grid(name) or sharing.grid(name) != array.grid
    }
    pieces = {slug: sharing.piece(names[slug]) for slug in snapshot.values if slug not in whole}
    starts = {slug: piece.start for slug, piece in pieces.items() if piece is not None}
    return replace(snapshot, starts=starts, slugs=tuple(names), scattered=frozenset(scattered) - whole)
