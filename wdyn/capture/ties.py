"""Which names share memory at this moment?

Decided by storage alone: a config that says "tied" is a wish, equal values are a coincidence. Two tensors are tied when
at least one element of theirs lies at the same place, so a transposed or overlapping view is tied, while the
disjoint slices of one flat buffer are not. Nothing is read: addresses and strides are enough, also on ``meta``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from wdyn.capture.pieces import local

_EFFORT = 100_000
"""Bound on the exact search for a common element of two strided views; beyond it they count as sharing."""


class _Extent(NamedTuple):
    """Bytes that a tensor may touch: a space (device, or one storage where addresses mean nothing) and a range."""

    space: object
    start: int
    stop: int
    position: int
    tensor: torch.Tensor
    dense: bool


def shares_with(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Name -> the first name (in the order of `tensors`) that shares its memory, itself where none comes before."""
    names = list(tensors)
    leader = _Union(len(names))
    first_seen: dict[int, int] = {}
    extents = []
    for index, tensor in enumerate(tensors.values()):
        twin = first_seen.setdefault(id(tensor), index)
        if twin != index:
            leader.join(twin, index)
        elif (extent := _extent(tensor, index)) is not None:
            extents.append(extent)
    _join_overlaps(extents, leader)
    return {name: names[leader.find(index)] for index, name in enumerate(names)}


def tied_to(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Like `shares_with`, with "" for a name that nothing before it shares."""
    return {name: "" if first == name else first for name, first in shares_with(tensors).items()}


class _Union:
    """Groups of indices, each led by its smallest."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, index: int) -> int:
        while self._parent[index] != index:
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def _extent(tensor: torch.Tensor, index: int) -> _Extent | None:
    tensor = local(tensor)
    if tensor.numel() == 0:
        return None
    try:
        storage = tensor.untyped_storage()
        address = 0 if tensor.is_meta else storage.data_ptr()
    except (RuntimeError, NotImplementedError):
        return None  # a tensor subclass without memory of its own: only identity can tie it
    # Without an address (meta), each storage is a space of its own.
    space: object = tensor.device if address else storage._cdata
    size = tensor.element_size()
    start = address + int(tensor.storage_offset()) * size
    reach = sum((length - 1) * int(stride) for length, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return _Extent(space, start, start + reach * size, index, tensor, reach == tensor.numel())


def _join_overlaps(extents: list[_Extent], leader: _Union) -> None:
    """Sweep the ranges in order of their start, keeping those that may still reach the next one."""
    open_ranges: list[_Extent] = []
    for extent in sorted(extents, key=lambda one: (str(one.space), one.start)):
        open_ranges = [other for other in open_ranges if other.space == extent.space and other.stop > extent.start]
        for other in open_ranges:
            if _overlap(other, extent):
                leader.join(other.position, extent.position)
        open_ranges.append(extent)


def _overlap(one: _Extent, other: _Extent) -> bool:
    """Decide for two ranges that meet: dense ones do share an element, strided ones may pass between each other."""
    if one.dense and other.dense:
        return True
    one_array, other_array = (np.asarray(_Addresses(extent)) for extent in (one, other))
    try:
        return np.shares_memory(one_array, other_array, max_work=_EFFORT)  # type: ignore[arg-type]  # stubs know -1, 0
    except np.exceptions.TooHardError:
        return True


class _Addresses:
    """What numpy takes for an array with the addresses of a tensor; its elements are never read."""

    def __init__(self, extent: _Extent) -> None:
        size = extent.tensor.element_size()
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"|V{size}",
            "shape": tuple(extent.tensor.shape),
            "strides": tuple(stride * size for stride in extent.tensor.stride()),
            # Address 0 would mean "no data" to numpy; meta tensors begin there, so all are moved by one page.
            "data": (extent.start + 4096, True),
        }
