"""How do the elements of a tensor lie in memory, and how is it cut into pieces without copying it?

The order of elements means nothing to a sum, so axes are sorted and merged until a transposed matrix is one run of
memory and a part of a fused one is a few long rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wdyn.errors import InvalidArgument

Aligned = tuple[Tensor, ...]
"""Tensors of one shape, of which equal places belong together."""


def pieces(tensors: Aligned, *, size: int) -> Iterator[Aligned]:
    """Cut tensors that belong together into views of at most `size` elements, none of them empty.

    Raises
    ------
    InvalidArgument
        Their shapes differ.
    """
    first = tensors[0]
    if any(one.shape != first.shape for one in tensors):
        shapes = " and ".join(str(tuple(one.shape)) for one in tensors)
        raise InvalidArgument(f"Tensors of the shapes {shapes} are to be compared by element; give equal shapes.")
    if first.numel():
        yield from cut(_merged(tuple(map(_plain, tensors))), size=size)


def _plain(tensor: Tensor) -> Tensor:
    detached = tensor.detach()
    return detached.resolve_neg().resolve_conj() if detached.is_neg() or detached.is_conj() else detached


def _merged(tensors: Aligned) -> Aligned:
    """Views with the fewest axes, the longest stride of the first tensor first."""
    if all(one.is_contiguous() for one in tensors):
        return tuple(one.view(-1) for one in tensors)
    first = tensors[0]
    axes = [axis for axis in range(first.dim()) if first.shape[axis] > 1]
    lengths: list[int] = []
    strides: list[list[int]] = []
    for axis in sorted(axes, key=first.stride().__getitem__, reverse=True):
        length, steps = first.shape[axis], [one.stride(axis) for one in tensors]
        if lengths and strides[-1] == [length * step for step in steps]:
            lengths[-1] *= length
            strides[-1] = steps
        else:
            lengths.append(length)
            strides.append(steps)
    return tuple(
        torch.as_strided(one, lengths, [steps[at] for steps in strides], one.storage_offset())
        for at, one in enumerate(tensors)
    )


def cut(tensors: Aligned, *, size: int) -> Iterator[Aligned]:
    """Cut tensors of one shape along their first axes."""
    first = tensors[0]
    if first.numel() <= size:
        yield tensors
    elif (row := first.numel() // len(first)) <= size:
        yield from zip(*(one.split(size // row) for one in tensors), strict=True)
    else:
        for rows in zip(*(one.unbind(0) for one in tensors), strict=True):
            yield from cut(rows, size=size)


def exact_in_float32(dtype: torch.dtype) -> bool:
    """Say whether float32 holds every number of this type."""
    return dtype == torch.float32 or (dtype.itemsize <= 2 and not dtype.is_complex)
