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


def like(tensor: Tensor, parameter: Tensor) -> Tensor | None:
    """Show what in this process of `tensor` belongs to what is here of `parameter`, element by element.

    A gradient need not be divided as its parameter is: of one that is whole here, the block is shown. None where it is
    only a summand, or divided otherwise: then the other processes hold a part of each element.
    """
    held = local(tensor)
    if not is_spread(parameter):
        return held if not is_divided(tensor) else None
    if not is_spread(tensor):
        return held if held.shape == local(parameter).shape else piece(parameter).of(held)
    if getattr(tensor, "placements", None) == getattr(parameter, "placements", None):
        return held
    return None if is_divided(tensor) else piece(parameter).of(held)


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


def piece(tensor: Tensor, *, called: str = "a parameter") -> Piece:
    """Say which piece of a tensor lies in this process; an error says how it is `called`.

    Raises
    ------
    InvalidArgument
        It is in several pieces here, or in one that does not fit what is held.
    """
    if not is_spread(tensor):
        return Piece((0,) * tensor.dim(), tuple(tensor.shape))
    if (axis := _scattered_axis(tensor)) is not None:
        raise InvalidArgument(
            f"{called} of shape {tuple(tensor.shape)} with placements {getattr(tensor, 'placements', '?')} lies in "
            f"several pieces along axis {axis} in one process; recorded are tensors of which a process holds one block"
        )
    held = tuple(local(tensor).shape)
    chunks = tensor.__create_chunk_list__()  # type: ignore[attr-defined]  # of a DTensor
    found = [Piece(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in chunks]
    some = [one for one in found if one.numel]
    if not some:
        return Piece((0,) * len(held), held)
    if len(some) > 1 or some[0].size != held:
        raise InvalidArgument(
            f"{called} of shape {tuple(tensor.shape)} with placements {getattr(tensor, 'placements', '?')} lies here "
            f"as {[one.size for one in some]} and holds {held}; recorded are tensors of which a process holds one block"
        )
    return some[0]


def _scattered_axis(tensor: Tensor) -> int | None:
    """Give an axis along which this process holds no run of neighbours; None where there is none.

    What torch tells of a piece is where it begins and how long it is. That is not all where a mesh divides an axis in
    strides (a fused weight for tensor parallelism), so there the places themselves are divided, which asks nobody.
    """
    # Loaded here: who holds a DTensor has loaded it, and nobody else needs it.
    from torch.distributed.tensor import Replicate, distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]  # of a DTensor
    for axis in sorted({one.dim for one in placements if hasattr(one, "split_factor")}):
        shape = [1] * tensor.dim()
        shape[axis] = tensor.shape[axis]
        along = [one if getattr(one, "dim", None) == axis else Replicate() for one in placements]
        places = torch.arange(tensor.shape[axis], device=mesh.device_type).view(shape)
        held = local(distribute_tensor(places, mesh, along, src_data_rank=None)).flatten()
        if bool((held.diff() != 1).any()):
            return int(axis)
    return None
