"""How is it written as JSON what a process holds, and who records what?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wdyn.capture.pieces import Piece
from wdyn.capture.sharing import Division, Held, Sharing


def to_plain(tensors: Mapping[str, Held]) -> list[Any]:
    """Write what a process holds as JSON can."""
    return [[name, one.shape, one.dtype, *_plain(one.piece), one.spread] for name, one in tensors.items()]


def from_plain(plain: Sequence[Any]) -> dict[str, Held]:
    """Read what `to_plain` wrote."""
    return {
        name: Held(tuple(shape), dtype, _piece(start, size), spread)
        for name, shape, dtype, start, size, spread in plain
    }


def told(sharing: Sharing) -> dict[str, Any]:
    """Write who records what as JSON can, each division once."""
    distinct = {id(one): one for one in sharing.divisions.values()}
    number = {key: at for at, key in enumerate(distinct)}
    return {
        "divisions": [
            [[_plain(piece) for piece in one.pieces.values()], one.speakers, one.grid, one.spread]
            for one in distinct.values()
        ],
        "tensors": {name: number[id(one)] for name, one in sharing.divisions.items()},
    }


def heard(plain: Mapping[str, Any], *, rank: int, processes: int) -> Sharing:
    """Read what `told` wrote, as another process."""
    divisions = [
        Division({at: _piece(*piece) for at, piece in enumerate(pieces)}, tuple(speakers), tuple(grid), spread)
        for pieces, speakers, grid, spread in plain["divisions"]
    ]
    return Sharing(rank, processes, {name: divisions[number] for name, number in plain["tensors"].items()})


def _plain(piece: Piece) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return piece.start, piece.size


def _piece(start: Iterable[int], size: Iterable[int]) -> Piece:
    return Piece(tuple(start), tuple(size))
