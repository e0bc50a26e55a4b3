"""How is one weight after another read from a run, as it was at a step?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from wdyn import schema
from wdyn.errors import InvalidArgument, NoMatch
from wdyn.reading.tables import check_run, dataset, no_snapshot, parameters
from wdyn.store.dtypes import BITS_OF, narrow


class RunWeights:
    """The weights of a run at a step, as a `wdyn.checkpoints.saved.Source`.

    Parameters
    ----------
    run
        A run as `wdyn.open_run` gives it.
    step
        A step at which a snapshot was taken; None for the last one.

    Attributes
    ----------
    step
        The step.
    leaders
        For each name the first that shared its memory at that step, which may be itself.
    holders
        For each name the one in `headers` that holds its values.

    Raises
    ------
    StepNotRecorded
        No snapshot was taken at `step`.
    NoMatch
        The run has no snapshots at all.
    InvalidArgument
        It is no opened run, or several joined.
    """

    def __init__(self, run: xr.DataTree, step: int | None) -> None:
        check_run(run)
        if schema.RUN in parameters(run).dims:
            raise InvalidArgument("These are several runs, joined; give one of them, as wdyn.open_run gave it")
        groups = {slug: node.to_dataset() for slug, node in _weight_arrays(run).items()}
        have = {int(at) for group in groups.values() for at in group[schema.STEP].values}
        if not have:
            raise NoMatch("This run has no snapshots; take them with watch(..., snapshots=...)")
        self.step = max(have) if step is None else step
        if self.step not in have:
            raise no_snapshot(self.step, have=have)
        self._places = {
            name: (group, layer if group.attrs[schema.ATTRIBUTES]["layers"] else None)
            for group in groups.values()
            if self.step in group[schema.STEP].values
            for layer, name in enumerate(group.attrs[schema.ATTRIBUTES]["names"])
        }
        self.leaders = _leaders_at(run, self.step)
        self.holders = {name: name if name in self._places else first for name, first in self.leaders.items()}

    @cached_property
    def headers(self) -> dict[str, Tensor]:
        """Of each weight that has values of its own a tensor without them."""
        about = {name: group.attrs[schema.ATTRIBUTES] for name, (group, _) in self._places.items()}
        return {
            name: torch.empty(tuple(one["shape"]), dtype=getattr(torch, one["dtype"]), device="meta")
            for name, one in about.items()
        }

    def read(self, name: str) -> Tensor:
        """Read one weight, bit for bit in its own dtype."""
        group, layer = self._places[name]
        value = group[schema.VALUE].sel({schema.STEP: self.step})
        bits = _stored_bits(value if layer is None else value.isel({schema.LAYER: layer}))
        return torch.from_numpy(np.array(bits, order="C")).view(self.headers[name].dtype)


def _weight_arrays(run: xr.DataTree) -> Mapping[str, xr.DataTree]:
    """Give the groups below ``weights/``, by slug."""
    return run.children[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}


def _leaders_at(run: xr.DataTree, step: int) -> dict[str, str]:
    """For each name that the model had at `step`, in order, the first one that shared its storage then."""
    states = dataset(run, schema.STATES).sel({schema.STEP: step})
    names = parameters(run)[schema.PARAMETER].values
    first = states[schema.SHARES_WITH].values
    return {
        str(name): str(names[int(at)])
        for name, at in zip(states[schema.PARAMETER].values, first, strict=True)
        if at >= 0
    }


def _stored_bits(values: xr.DataArray) -> npt.NDArray[Any]:
    """Values in the dtype in which they were stored: bits, where numpy lacks the true one."""
    bits_of = values.attrs.get(BITS_OF)
    return narrow(values.values, bits_of=bits_of) if bits_of else values.values
