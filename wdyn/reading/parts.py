"""How does a fused weight come apart: into q, k and v, gate and up, experts, heads?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.errors import NoMatch
from wdyn.reading.unread import reordered, split
from wdyn.schema import Parts


def part_index(parts: Parts, name: str) -> slice | npt.NDArray[np.int64]:
    """Give the positions of one part along ``parts.axis``: a slice where they are contiguous."""
    at = parts.names.index(name)
    start, size, period = sum(parts.sizes[:at]), parts.sizes[at], sum(parts.sizes)
    if parts.repeats == 1:
        return slice(start, start + size)
    return (np.arange(parts.repeats)[:, None] * period + start + np.arange(size)).reshape(-1)


def take_part(values: xr.DataArray, parts: Parts, name: str, *, weight_dims: tuple[str, ...]) -> xr.DataArray:
    """Cut one part out of a fused weight; `weight_dims` names the stored axes that ``parts.axis`` counts."""
    return values.isel({weight_dims[parts.axis]: part_index(parts, name)})


def split_heads(values: xr.DataArray, *, role: str, heads: int, head_dim: int) -> xr.DataArray:
    """Split the axis that runs over heads into (head, head_dim): fan_out of q, k and v, fan_in of o.

    Raises
    ------
    NoMatch
        The weight has no heads, or their number is not known.
    """
    of_output = role in ("o", "cross_o")
    if schema.HEAD in values.dims:
        heads_axes = (schema.HEAD, schema.HEAD_DIM)
        last = (schema.FAN_OUT, *heads_axes) if of_output else (*heads_axes, schema.FAN_IN)
        before = [str(dim) for dim in values.dims if dim not in last]
        return reordered(values, *before, *(dim for dim in last if dim in values.dims))
    axis = schema.FAN_IN if of_output and schema.FAN_IN in values.dims else schema.FAN_OUT
    if axis not in values.dims or heads < 1 or values.sizes[axis] % heads:
        raise NoMatch(
            f"The heads of {role!r} are not known here (heads={heads}, axes {dict(values.sizes)}). "
            f"Head counts come from the model's config; select without heads=True"
        )
    size = head_dim or values.sizes[axis] // heads
    if size * heads != values.sizes[axis]:
        raise NoMatch(f"{heads} heads of {size} do not fill the {values.sizes[axis]} of axis {axis!r} of {role!r}")
    return split(values, axis, {schema.HEAD: heads, schema.HEAD_DIM: size})
