"""What did each step use for each parameter: learning rate, weight decay, and by which rule the decay is applied?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.inputs import group_or_none
from wdyn.analysis.optimizer_state_reading import groups_of, known_groups, settings, spread

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Steps = npt.NDArray[np.int64]

ALWAYS_DECOUPLED: Final = ("AdamW", "Lion", "Muon")
"""Optimizers that shrink a weight by lr * weight_decay beside the step that the gradient makes."""

_ON_REQUEST = ("Adam", "NAdam", "RAdam")  # with decoupled_weight_decay=True
_OF_ADAM = ("Adam", "AdamW")


@dataclass(frozen=True)
class Used:
    """What each step used: by group, of which there are few, to be spread over the parameters that it holds.

    Attributes
    ----------
    of_group
        (parameter). The group that holds each; -1 where none does.
    lr, decay
        (step, group). NaN where the run does not tell.
    pulled
        (step, group). Sum of lr times weight decay over all steps so far.
    beta1
        (group). NaN where there is none.
    decoupled
        (group). The optimizer is known to apply its decay as lr * weight_decay * W.
    balances
        (group). Its rule is that of AdamW, whose balance of decay and gradients is known.
    optimizers
        Names of the optimizers that hold something.
    """

    of_group: Steps
    lr: Floats
    decay: Floats
    pulled: Floats
    beta1: Floats
    decoupled: Mask
    balances: Mask
    optimizers: tuple[str, ...]

    def spread(self, values: Floats) -> Floats:
        """Give each parameter what its group has (step, group) -> (step, parameter); NaN where it has no group."""
        return spread(values, self.of_group)


def used(run: xr.DataTree, *, steps: Steps, names: Sequence[str]) -> Used:
    """Read the settings of the groups that hold the parameters."""
    of_group = groups_of(run, names)
    count = 1 + int(of_group.max(initial=-1))
    scalars = group_or_none(run, schema.SCALARS)
    every = steps if scalars is None else np.union1d(steps, scalars[schema.STEP].values)
    found = settings(run, steps=every, count=count)
    lr, decay = (found[name].transpose(schema.STEP, schema.GROUP).values for name in ("lr", "weight_decay"))
    since = np.diff(every, prepend=every[:1])[:, None]
    pulled = np.nancumsum(lr * decay * since, axis=0)  # NaN at the first row alone: no step was made to reach it
    at = np.searchsorted(every, steps)
    known = known_groups(run, count=count)
    return Used(
        of_group,
        lr[at],
        decay[at],
        pulled[at],
        found["beta1"].values,
        np.array([_is_decoupled(group) for group in known], dtype=np.bool_),
        np.array([_balances(group) for group in known], dtype=np.bool_),
        tuple(dict.fromkeys(name for name in found["optimizer"].values.tolist() if name)),
    )


def _is_decoupled(group: Mapping[str, Any]) -> bool:
    on_request = group.get("name") in _ON_REQUEST and bool(group.get("decoupled_weight_decay"))
    return group.get("name") in ALWAYS_DECOUPLED or on_request


def _balances(group: Mapping[str, Any]) -> bool:
    # With amsgrad the step is divided by the largest second moment so far, so it is smaller than the walk has it.
    return group.get("name") in _OF_ADAM and _is_decoupled(group) and not group.get("amsgrad")
