"""How do the weights of a step come back into torch, bit for bit?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
import xarray as xr
from torch import Tensor, nn

from wdyn.checkpoints.run_weights import RunWeights
from wdyn.errors import InvalidArgument
from wdyn.naming import canonical_names, examples


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
    return restored(RunWeights(run, step))


def restored(weights: RunWeights) -> OrderedDict[str, Tensor]:
    """Read all weights; names that shared one share one tensor."""
    held = {name: weights.read(name) for name in weights.headers}
    return OrderedDict((name, held[at]) for name, at in weights.holders.items() if at in held)


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
        "of another shape": _unlike(pairs, lambda tensor: list(tensor.shape)),
        "of another dtype": _unlike(pairs, lambda tensor: str(tensor.dtype).removeprefix("torch.")),
        "tied in the model only": _tied_in_model_only(pairs),
    }
    if any(unfit.values()):
        told = "; ".join(f"{examples(names)} {what}" for what, names in unfit.items() if names)
        raise InvalidArgument(
            f"{type(model).__name__} does not fit the run: {told}. Needed is the model that was recorded; what there "
            f"is of another one, load from wdyn.state_dict(run, step={step})"
        )
    model.load_state_dict({raw: state[name] for raw, name in canonical.items()}, strict=False)


def _unlike(pairs: Mapping[str, tuple[Tensor, Tensor]], form: Callable[[Tensor], object]) -> list[str]:
    """Give names whose tensors differ in a form, with the one that the run has and that of the model."""
    forms = {name: (form(mine), form(its)) for name, (mine, its) in pairs.items()}
    return [f"{name} (recorded {its}, here {mine})" for name, (mine, its) in forms.items() if mine != its]


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
