"""What did tensors hold before? Copies beside them, by name, in memory that is used again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from wdyn.capture.pieces import local

Tensors = Mapping[str, Tensor]

WORTH_TELLING = 100_000_000
"""Bytes from which on a copy that a recording keeps is told of."""


class Copies:
    """One copy of each of some tensors, where these lie; of a DTensor of the piece that this process holds."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def keep(self, tensors: Tensors) -> None:
        """Copy these tensors, and let go of all others."""
        self._held = {name: _copied(local(tensor), self._held.get(name)) for name, tensor in tensors.items()}

    def add(self, tensors: Tensors) -> int:
        """Copy those tensors of which there is no copy; return how many bytes these took."""
        new = {name: local(tensor).clone() for name, tensor in tensors.items() if name not in self._held}
        self._held |= new
        return sum(copy.nbytes for copy in new.values())

    def of(self, tensors: Tensors) -> dict[str, Tensor]:
        """Give the copies of these tensors, where there is one of the same shape and device."""
        pairs = ((name, tensor, self._held.get(name)) for name, tensor in tensors.items())
        return {name: copy for name, tensor, copy in pairs if copy is not None and _comparable(copy, local(tensor))}


def _copied(tensor: Tensor, onto: Tensor | None) -> Tensor:
    if onto is not None and onto.dtype == tensor.dtype and _comparable(onto, tensor):
        return onto.copy_(tensor)
    return tensor.clone()


def _comparable(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.device == other.device


def tell_of_memory(tell: Callable[[str], None], what: str, count: int) -> None:
    """Tell what takes so many bytes, where they are worth a word."""
    if count >= WORTH_TELLING:
        tell(f"{what}: {count / 1e6:,.0f} MB")
