"""How do the weights of a step come back into torch, bit for bit?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import nn

from wdyn import schema
from wdyn.errors import InvalidArgument, NoMatch, StepNotRecorded, WdynError
from wdyn.naming import canonical_names, examples
from wdyn.reading.tables import dataset, parameters
from wdyn.store.dtypes import BITS_OF, narrow


def state_dict(run: xr.DataTree, *, step: int) -> OrderedDict[str, torch.Tensor]:
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
        By full name, in the model's order, persistent buffers included. Names that shared one weight at that step
        share one tensor here.

    Raises
    ------
    StepNotRecorded
        No snapshot was taken at `step`; the message names the nearest.
    """
    held = dict(_tensors(run, step))
    if not held:
        raise _no_snapshot(run, step)
    kept = ((name, name if name in held else leader) for name, leader in _leaders(run, step).items())
    return OrderedDict((name, held[source]) for name, source in kept if source in held)


def load_into(model: nn.Module, run: xr.DataTree, *, step: int) -> None:
    """Copy the weights of `step` into `model`, in place; ties of the model stay.

    Raises
    ------
    InvalidArgument
        The model lacks a recorded parameter, has one that was not recorded, or one of another shape.
    StepNotRecorded
        No snapshot was taken at `step`.
    """
    state = state_dict(run, step=step)
    own = model.state_dict()
    canonical = canonical_names(own)
    missing = [name for raw, name in canonical.items() if isinstance(own[raw], torch.Tensor) and name not in state]
    extra = sorted(state.keys() - set(canonical.values()))
    other = [name for raw, name in canonical.items() if name in state and own[raw].shape != state[name].shape]
    for names, what in ((missing, "not recorded"), (extra, "not in the model"), (other, "of another shape")):
        if names:
            raise InvalidArgument(f"{type(model).__name__} does not fit the run: {examples(names)} {what}")
    model.load_state_dict({raw: state[name] for raw, name in canonical.items() if name in state}, strict=False)


def _tensors(run: xr.DataTree, step: int) -> Iterator[tuple[str, torch.Tensor]]:
    groups = run[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}
    for slug in groups:
        group = dataset(run, f"{schema.WEIGHTS}/{slug}")
        if step not in group[schema.STEP].values:
            continue
        about = group.attrs[schema.ATTRIBUTES]
        values = group[schema.VALUE].sel({schema.STEP: step})
        whole = _as_tensor(values, dtype=getattr(torch, about["dtype"]))
        yield from zip(about["names"], whole.unbind(0) if about["layers"] else (whole,), strict=True)


def _as_tensor(values: xr.DataArray, *, dtype: torch.dtype) -> torch.Tensor:
    bits_of = values.attrs.get(BITS_OF)
    array = narrow(values.values, bits_of=bits_of) if bits_of else values.values
    tensor = torch.from_numpy(np.array(array, order="C"))
    return tensor.view(dtype) if bits_of else tensor


def _leaders(run: xr.DataTree, step: int) -> dict[str, str]:
    """For each name that the model had at `step`, in order, the first one that shared its storage then."""
    states = dataset(run, schema.STATES).sel({schema.STEP: step})
    names = parameters(run)[schema.PARAMETER].values
    first = states[schema.SHARES_WITH].values
    return {str(name): str(names[int(at)]) for name, at in zip(names, first, strict=True) if at >= 0}


def _no_snapshot(run: xr.DataTree, step: int) -> WdynError:
    groups = run[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}
    have = sorted({int(at) for node in groups.values() for at in node[schema.STEP].values})
    if not have:
        return NoMatch("This run has no snapshots; take them with watch(..., snapshots=...)")
    nearest = sorted(sorted(have, key=lambda at: abs(at - step))[:3])
    return StepNotRecorded(f"No snapshot at step {step}; the nearest are at {', '.join(map(str, nearest))}")
