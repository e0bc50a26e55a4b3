"""What stands on either side of a comparison: a run at a step, a saved model, a model, or a state dict?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from wdyn import schema
from wdyn.capture.anatomy import addresses
from wdyn.capture.ties import shares_with
from wdyn.checkpoints import adapters
from wdyn.checkpoints.configs import is_hub_name
from wdyn.checkpoints.contents import Tensors
from wdyn.checkpoints.opening import open_saved
from wdyn.checkpoints.run_weights import RunWeights
from wdyn.checkpoints.saved import Saved, Source, canonical
from wdyn.errors import InvalidArgument, NoMatch
from wdyn.reading.tables import parameters
from wdyn.store.reader import PATH, open_run
from wdyn.store.root import is_run

Given = nn.Module | Mapping[str, Any] | xr.DataTree | tuple[xr.DataTree, int] | Saved | str | os.PathLike[str]
"""What can be compared; of a run the last snapshot, unless a step is beside it."""


@dataclass(frozen=True)
class Side:
    """A model, one tensor of which can be read at a time.

    Attributes
    ----------
    called
        What it was asked for by.
    source
        Where its tensors lie.
    held
        Canonical name -> name in `source`, of all names; tied ones have the same.
    leaders
        For each name the first that shares its memory, which may be itself.
    groups
        Number of the group of the optimizer that each parameter was in, where that is known.
    saved
        The saved model that it is, with what lies beside its weights; None where it is none.
    """

    called: str
    source: Source = field(repr=False)
    held: Mapping[str, str] = field(repr=False)
    leaders: Mapping[str, str] = field(repr=False)
    groups: Mapping[str, int] = field(default_factory=dict, repr=False)
    saved: Saved | None = None

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Canonical name -> a tensor of which only shape, dtype and place are looked at."""
        headers = self.source.headers
        return {name: headers[held] for name, held in self.held.items()}

    @cached_property
    def addresses(self) -> dict[str, schema.Address]:
        """Where each parameter stands, and what it does."""
        config = self.saved.config if self.saved else None
        return {one.name: one for one in addresses(self.tensors, config=config)}

    def read(self, name: str) -> Tensor:
        """Read one tensor, by canonical name: on the CPU, in its own dtype. It may be mapped: do not write into it."""
        return self.source.read(self.held[name])


def side(given: Given, *, key: str | None = None, base: str | os.PathLike[str] | None = None) -> Side:
    """Find what is to be compared.

    Parameters
    ----------
    given
        A module, a state dict, an opened run (of which the last snapshot is taken) or one and a step, a saved model, or
        where one lies: a path, ``run.zarr@500``, or a name on the Hugging Face hub, ``name@revision``.
    key
        Which model, where a file holds several.
    base
        The model that a PEFT adapter adapts; other sides do not need it.

    Raises
    ------
    InvalidArgument
        It is none of these, or nothing is there.
    StepNotRecorded, NoMatch
        The run has no snapshot at that step, or none at all.
    """
    match given:
        case nn.Module():
            return _of_tensors(given.state_dict(keep_vars=True), called=type(given).__name__)
        case xr.DataTree():  # which is a mapping, too
            return _of_run(given, None)
        case Mapping():
            return _of_tensors(given, called="a state dict")
        case (xr.DataTree() as run, int() as step):
            return _of_run(run, step)
        case Saved():
            return _of_saved(given)
        case str() | os.PathLike():
            return _named(given, key=key, base=base)
    raise InvalidArgument(
        f"Cannot compare a {type(given).__name__}. Needed is a path, a model, a state dict, or a run: 'run.zarr@500'"
    )


def _named(given: str | os.PathLike[str], *, key: str | None, base: str | os.PathLike[str] | None) -> Side:
    place, at = Path(given), ""
    text = os.fspath(given)
    if not place.exists() and "@" in text:
        text, _, at = text.rpartition("@")
        place = Path(text)
    if is_run(place):
        return _of_run(open_run(place), _step(at, text) if at else None, called=os.fspath(given))
    if at and (place.exists() or not is_hub_name(text)):
        raise InvalidArgument(
            f"Found is {os.fspath(given)}; what stands behind '@' is a step of a run or a revision on the hub, and "
            f"{text} is neither" + ("" if place.exists() else ": nothing is there")
        )
    source = text if at else given
    saved = open_saved(source, key=key, revision=at or None)
    if base is not None and adapters.is_adapter(saved.folder):
        saved = open_saved(source, revision=at or None, base=base)
    return _of_saved(saved)


def _step(text: str, run: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(f"{run} is a run, and {text!r} is no step of it; write {run}@500") from None


def _of_saved(saved: Saved) -> Side:
    held = {name: saved.stored[saved.tied.get(name, name)] for name in saved.names}
    return Side(saved.called, saved.source, held, saved.leaders, saved.training.group_of, saved)


def _of_tensors(state: Mapping[str, Any], *, called: str) -> Side:
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InvalidArgument(f"No tensors are in {called}: needed are names and their tensors")
    if unmade := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise InvalidArgument(f"{unmade[0]} of {called} has no values: it is on the meta device")
    held = canonical(tensors)
    leaders = shares_with({name: tensors[stored] for name, stored in held.items()})
    return Side(called, Tensors(tensors, lambda tensor: _plain(tensor)), held, leaders)


def _plain(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        return whole.detach().to("cpu")


def _of_run(run: xr.DataTree, step: int | None, *, called: str = "") -> Side:
    weights = RunWeights(run, step)
    table = parameters(run)
    groups = dict(zip(table[schema.PARAMETER].values.tolist(), table["group"].values.tolist(), strict=True))
    path = str(run.attrs.get(PATH, "a run"))
    name = called if called and step is not None else f"{called or path}@{weights.step}"
    held = {one: weights.holders[one] for one in weights.leaders if weights.holders[one] in weights.headers}
    if not held:
        raise NoMatch(f"{name} holds no weights")
    return Side(name, weights, held, {one: weights.leaders[one] for one in held}, groups)
