"""Which piece of a tensor lies in this process?

A DTensor shows the shape of the whole and holds a piece of it. Its pieces are told by the protocol of torch's own
distributed checkpoints, so a new placement is known here as soon as it can be saved there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wdyn.errors import InvalidArgument


@dataclass(frozen=True)
class Piece:
    """A block of a tensor: where it begins in the whole, and how long it is along each axis."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Count of elements."""
        total = 1
        for length in self.size:
            total *= length
        return total

    def of(self, whole: Tensor) -> Tensor:
        """Show this block of a whole tensor."""
        for axis, (first, length) in enumerate(zip(self.start, self.size, strict=True)):
            whole = whole.narrow(axis, first, length)
        return whole


def is_spread(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which each process holds a piece or a copy."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Tensor) -> Tensor:
    """Show what of a tensor lies in this process, without its history: all of it, but for a DTensor."""
    if not is_spread(tensor):
        return tensor.detach()
    with torch.no_grad():
        held: Tensor = tensor.to_local()  # type: ignore[attr-defined]  # of a DTensor
        return held.detach()


def is_divided(tensor: Tensor) -> bool:
    """Whether what lies in this process is not all of a tensor: a block of it, or a summand."""
    return is_spread(tensor) and not all(placement.is_replicate() for placement in getattr(tensor, "placements", ()))


def piece(tensor: Tensor) -> Piece:
    """Say which piece of a tensor lies in this process.

    Raises
    ------
    InvalidArgument
        It is in several pieces here, or in one that does not fit what is held.
    """
    if not is_spread(tensor):
        return Piece((0,) * tensor.dim(), tuple(tensor.shape))
    held = tuple(local(tensor).shape)
    chunks = tensor.__create_chunk_list__()  # type: ignore[attr-defined]  # of a DTensor
    found = [Piece(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in chunks]
    some = [one for one in found if one.numel]
    if not some:
        return Piece((0,) * len(held), held)
    if len(some) > 1 or some[0].size != held:
        raise InvalidArgument(
            f"A DTensor of shape {tuple(tensor.shape)} with placements {getattr(tensor, 'placements', '?')} lies here "
            f"as {[one.size for one in some]} and holds {held}; recorded are tensors of which a process holds one block"
        )
    return some[0]
