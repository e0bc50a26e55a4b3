"""How is a snapshot copied out of the model while training waits? Once, into memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.arrays import WeightArray
from wdyn.capture.pieces import local

_BITS = {1: torch.uint8, 2: torch.uint16}
Buffers = dict[str, Tensor]


class Staging:
    """Sets of host buffers, one buffer an array; a set comes back when its snapshot is on the disk.

    Fresh memory costs several times the copy itself (the kernel must clear each page), so sets are kept and used
    again. There are never more of them than snapshots waiting at once.
    """

    def __init__(self) -> None:
        self._free: list[Buffers] = []

    def copy(
        self, arrays: Iterable[WeightArray], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, npt.NDArray[Any]], Callable[[], None]]:
        """Copy every array, in its stored bits; return the arrays by slug, and how to give their memory back.

        Of DTensors the blocks that lie in this process are copied. A layer whose tensor is gone, or has another shape
        or dtype by now, is filled with NaN (0 for integers).
        """
        buffers = self._free.pop() if self._free else {}
        values = {}
        for array in arrays:
            buffer = buffers.get(array.slug)
            if buffer is None:
                buffer = buffers[array.slug] = _new_buffer(array, tensors)
            _fill(buffer, array, tensors)
            values[array.slug] = as_stored(buffer)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.current_stream().synchronize()
        return values, lambda: self._free.append(buffers)


def as_stored(tensor: Tensor) -> npt.NDArray[Any]:
    """Show a host tensor as numpy does, or as its bits where numpy lacks the dtype; shares the memory."""
    bits = tensor.is_floating_point() and tensor.element_size() <= 2 and tensor.dtype != torch.float16
    array: npt.NDArray[Any] = (tensor.view(_BITS[tensor.element_size()]) if bits else tensor).numpy()
    return array


def fits(array: WeightArray, tensor: Tensor) -> bool:
    """Whether a tensor can be a layer of the array."""
    return tuple(tensor.shape) == array.shape and str(tensor.dtype) == f"torch.{array.dtype}"


def same_view(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors show the very same elements in the same order, so that keeping one keeps both."""
    if one is other:
        return True
    same_layout = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
    return same_layout and one.device == other.device and one.data_ptr() == other.data_ptr() != 0


def _new_buffer(array: WeightArray, tensors: Mapping[str, Tensor]) -> Tensor:
    held = [local(tensors[name]) for name in array.names if name in tensors and fits(array, tensors[name])]
    on_cuda = any(tensor.is_cuda for tensor in held)
    shape = tuple(held[0].shape) if held else array.shape  # a block of it, of a DTensor
    full_shape = (len(array.layers), *shape) if array.layers else shape
    return torch.empty(full_shape, dtype=getattr(torch, array.dtype), pin_memory=on_cuda)


def _fill(buffer: Tensor, array: WeightArray, tensors: Mapping[str, Tensor]) -> None:
    rows = list(buffer.unbind(0)) if array.layers else [buffer]
    for row, name in zip(rows, array.names, strict=True):
        tensor = tensors.get(name)
        if tensor is not None and fits(array, tensor):
            row.copy_(local(tensor), non_blocking=True)
        else:
            row.fill_(np.nan if row.is_floating_point() or row.is_complex() else 0)
