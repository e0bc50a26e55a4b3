"""How do the weights of a step come back into torch, bit for bit?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor, nn

from wdyn import schema
from wdyn.errors import InvalidArgument, NoMatch
from wdyn.naming import canonical_names, examples
from wdyn.reading.tables import check_run, dataset, no_snapshot, parameters
from wdyn.store.dtypes import BITS_OF, narrow


def state_dict(run: xr.DataTree, *, step: int) -> OrderedDict[str, Tensor]:
    """Give all weights as they were after `step`, on the CPU, bit for bit in their own dtype.

    Parameters
    ----------
    run
        A run.
    step
        A step at which a snapshot was taken.

    Returns
    -------
    OrderedDict
        By full name, in the order of `parameters`, persistent buffers included. Names that shared one weight at that
        step share one tensor here.

    Raises
    ------
    StepNotRecorded
        No snapshot was taken at `step`; the message names the nearest.
    NoMatch
        The run has no snapshots at all.
    InvalidArgument
        It is no opened run, or several joined.
    DamagedRun
        Weights cannot be read back.
    """
    _check_step(run, step)
    held = dict(_tensors(run, step))
    kept = ((name, name if name in held else leader) for name, leader in _leaders(run, step).items())
    return OrderedDict((name, held[source]) for name, source in kept if source in held)


def load_into(model: nn.Module, run: xr.DataTree, *, step: int) -> None:
    """Copy the weights of `step` into `model`, in place and bit for bit; ties of the model stay.

    Raises
    ------
    InvalidArgument
        The model lacks a recorded parameter, has one that was not recorded, has one of another shape or dtype, or ties
        parameters whose values differed at `step`.
    StepNotRecorded
        No snapshot was taken at `step`.
    """
    state = state_dict(run, step=step)
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    canonical = canonical_names(own)
    pairs = {name: (own[raw], state[name]) for raw, name in canonical.items() if name in state}
    unfit = {
        "not recorded": [name for name in canonical.values() if name not in state],
        "not in the model": sorted(state.keys() - pairs.keys()),
        "of another shape": [name for name, (mine, its) in pairs.items() if mine.shape != its.shape],
        "of another dtype": [name for name, (mine, its) in pairs.items() if mine.dtype != its.dtype],
        "tied in the model only": _tied_in_model_only(pairs),
    }
    for what, names in unfit.items():
        if names:
            raise InvalidArgument(f"{type(model).__name__} does not fit the run: {examples(names)} {what}")
    model.load_state_dict({raw: state[name] for raw, name in canonical.items()}, strict=False)


def _tied_in_model_only(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> list[str]:
    """Give names that are one tensor in the model, but held different bits in the run."""
    first: dict[tuple[object, ...], Tensor] = {}
    differing = []
    for name, (mine, its) in pairs.items():
        if mine.numel() and mine.device.type != "meta":
            place = (mine.device, mine.data_ptr(), mine.shape, mine.stride())
            if not _same_bits(first.setdefault(place, its), its):
                differing.append(name)
    return differing


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return one is other or torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _tensors(run: xr.DataTree, step: int) -> Iterator[tuple[str, Tensor]]:
    for slug in _arrays(run):
        group = dataset(run, f"{schema.WEIGHTS}/{slug}")
        if step not in group[schema.STEP].values:
            continue
        about = group.attrs[schema.ATTRIBUTES]
        whole = _stored(group[schema.VALUE].sel({schema.STEP: step}))
        layers = whole if about["layers"] else (whole,)
        for name, values in zip(about["names"], layers, strict=True):
            # Each has memory of its own: saving a view would save the whole, and a change would reach the run.
            yield name, torch.from_numpy(np.array(values, order="C")).view(getattr(torch, about["dtype"]))


def _stored(values: xr.DataArray) -> npt.NDArray[Any]:
    """Values in the dtype in which they were stored: bits, where numpy lacks the true one."""
    bits_of = values.attrs.get(BITS_OF)
    return narrow(values.values, bits_of=bits_of) if bits_of else values.values


def _leaders(run: xr.DataTree, step: int) -> dict[str, str]:
    """For each name that the model had at `step`, in order, the first one that shared its storage then."""
    states = dataset(run, schema.STATES).sel({schema.STEP: step})
    names = parameters(run)[schema.PARAMETER].values
    first = states[schema.SHARES_WITH].values
    return {
        str(name): str(names[int(at)])
        for name, at in zip(states[schema.PARAMETER].values, first, strict=True)
        if at >= 0
    }


def _check_step(run: xr.DataTree, step: int) -> None:
    check_run(run)
    if schema.RUN in parameters(run).dims:
        raise InvalidArgument("These are several runs, joined; restore from one of them, as wdyn.open_run gave it")
    have = {int(at) for node in _arrays(run).values() for at in node.to_dataset()[schema.STEP].values}
    if not have:
        raise NoMatch("This run has no snapshots; take them with watch(..., snapshots=...)")
    if step not in have:
        raise no_snapshot(step, have=have)


def _arrays(run: xr.DataTree) -> Mapping[str, xr.DataTree]:
    return run.children[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}
