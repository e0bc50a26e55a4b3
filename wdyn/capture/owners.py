"""Which names hold values of their own, and which only show those of another?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from wdyn.capture.pieces import local
from wdyn.capture.staging import same_view
from wdyn.capture.ties import shares_with


@dataclass(frozen=True)
class Owners:
    """Names of tensors, and how they share memory.

    Attributes
    ----------
    leaders
        For each name the first that shares its memory, which may be itself.
    source
        For each name the one whose values it shows: another only for a second name of the very same view.
    """

    leaders: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names that hold values of their own."""
        return [name for name, source in self.source.items() if name == source]


def owners(tensors: Mapping[str, Tensor]) -> Owners:
    """Find out which names share memory now."""
    leaders = shares_with(tensors)
    source = {name: at if _same(tensors[name], tensors[at]) else name for name, at in leaders.items()}
    return Owners(leaders, source)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or same_view(local(one), local(other))
