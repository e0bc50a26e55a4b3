"""Which parameters share one array of the run?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wdyn import schema
from wdyn.naming import slug
from wdyn.schema import Address

_ABOUT = ("path", "role", "stack", "names", "layers", "shape", "dims", "dtype")


@dataclass(frozen=True)
class WeightArray:
    """Parameters of one path, stacked over their layers into one array (step, layer, ...).

    A parameter outside blocks has one of its own, without a layer axis.
    """

    slug: str
    path: str
    role: str
    stack: str
    names: tuple[str, ...]
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    grid: tuple[int, ...] = ()
    """Lengths of the blocks along `shape` that are each a file of their own; () where a snapshot is one file."""

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Shape of one snapshot: (layer, *shape), or the parameter's own shape."""
        return (len(self.layers), *self.shape) if self.layers else self.shape

    @property
    def full_dims(self) -> tuple[str, ...]:
        """Names of the axes of `full_shape`."""
        return (schema.LAYER, *self.dims) if self.layers else self.dims

    def attributes(self) -> dict[str, Any]:
        """Give what the group's attributes hold: the true names, which never become paths."""
        return {schema.ATTRIBUTES: {name: getattr(self, name) for name in _ABOUT}}

    @classmethod
    def from_attributes(cls, slug: str, about: Mapping[str, Any]) -> WeightArray:
        """Read back what `attributes` gave; the grid is told by how it is stored."""
        known: dict[str, Any] = {name: about[name] for name in _ABOUT}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(slug=slug, **(known | lists))


class Division(Protocol):
    """How tensors are divided among processes, by name."""

    def grid(self, name: str) -> tuple[int, ...]:
        """Lengths of the blocks; () for one that is not divided in a grid."""

    def alike(self, name: str) -> object:
        """What two tensors of one shape have in common if and only if they are divided in the same way."""


def plan_arrays(
    addresses: Iterable[Address], *, first_number: int = 0, division: Division | None = None
) -> list[WeightArray]:
    """Group parameters into arrays.

    Parameters that stand in blocks share an array when path, stack, shape, dtype and axis names agree, they are divided
    alike, and no layer comes twice; every other one has its own.

    Parameters
    ----------
    addresses
        Parameters that hold their own values: no tied second names.
    first_number
        The number that makes the first slug unique; later ones count on.
    division
        How they are divided among processes, if they are.
    """
    groups: dict[tuple[object, ...], list[Address]] = defaultdict(list)
    for address in addresses:
        divided = division.alike(address.name) if division else None
        alike = (address.path, address.stack, address.shape, address.dtype, address.dims, divided)
        alone = (address.name,) if address.layer == schema.NO_LAYER else ()
        groups[(*alike, *alone)].append(address)
    arrays: list[WeightArray] = []
    for members in groups.values():
        by_layer = {address.layer: address for address in members}
        layered = len(by_layer) == len(members) and schema.NO_LAYER not in by_layer
        for chosen in [[by_layer[at] for at in sorted(by_layer)]] if layered else [[one] for one in members]:
            grid = division.grid(chosen[0].name) if division else ()
            arrays.append(_array(chosen, number=first_number + len(arrays), layered=layered, grid=grid))
    return arrays


def _array(members: list[Address], *, number: int, layered: bool, grid: tuple[int, ...]) -> WeightArray:
    first = members[0]
    return WeightArray(
        slug=slug(first.path, number),
        path=first.path,
        role=str(first.role),
        stack=first.stack,
        names=tuple(address.name for address in members),
        layers=tuple(address.layer for address in members) if layered else (),
        shape=first.shape,
        dims=first.dims,
        dtype=first.dtype,
        grid=grid,
    )
