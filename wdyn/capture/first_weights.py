"""What were the weights at the first row of the run? A copy beside them, or what the run kept of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from wdyn import schema
from wdyn.capture.copies import Copies, tell_of_memory
from wdyn.capture.pieces import piece
from wdyn.naming import examples
from wdyn.rows import Before


class FirstWeights:
    """Copies of the weights at the first row that each has, also where the run is continued."""

    def __init__(self, before: Before | None, *, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._copies = Copies()
        self._recorded = dict(before.first) if before else {}
        self._old = frozenset(map(str, before.table.get(schema.PARAMETER, ()))) if before else frozenset()

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the first weights of these tensors; of one that comes later those that it has now."""
        recorded = {name: self._recorded.pop(name) for name in tensors if name in self._recorded}
        taken = self._copies.add({name: _beside(values, tensors[name]) for name, values in recorded.items()})
        taken += self._copies.add({name: tensor for name, tensor in tensors.items() if name not in self._old})
        tell_of_memory(self._tell, "what='displacement' keeps the first weights beside those that train", taken)
        first = self._copies.of(tensors)
        lost = [name for name in tensors if name in self._old and name not in first]
        if lost:
            self._tell(
                f"The displacement of {examples(lost)} is not recorded: the run that is continued kept no snapshot of "
                f"its first row. A run records it from the start where what='displacement' and snapshots=... are given"
            )
        return first


def _beside(values: object, tensor: Tensor) -> Tensor:
    return piece(tensor).of(torch.as_tensor(values)).to(device=tensor.device, dtype=tensor.dtype)
