"""What does a saved optimizer say of each parameter: its group, and its moments?

A saved optimizer numbers its parameters and rarely names them. A number is taken for a name only where the shapes prove
that the order is a known one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wdyn.checkpoints.contents import Contents, Tensors, mappings
from wdyn.checkpoints.saved import Evidence, Training

State = Mapping[Any, Any]
"""What ``Optimizer.state_dict`` gave: ``state`` and ``param_groups``."""

Order = Sequence[str]
"""Names of parameters, in the order in which an optimizer may have been given them."""

STEP = "step"
FROM_OPTIMIZER = 0
"""The rank of what the optimizer tells of the step, before all else."""


@dataclass(frozen=True)
class Known:
    """What is known of the model whose parameters an optimizer holds.

    Attributes
    ----------
    shapes
        Of each parameter, by canonical name.
    names
        Canonical names, by those that the file has.
    orders
        Orders in which the optimizer may have been given them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    orders: Sequence[Order] = field(default_factory=tuple)


def optimizers_in(contents: Contents) -> list[State]:
    """Find the optimizers that a file holds."""
    nodes = (node for _, node in mappings(contents.tree))
    return [node for node in nodes if isinstance(node.get("state"), Mapping) and "param_groups" in node]


def optimizer_steps(contents: Contents) -> list[Evidence]:
    """Tell how many steps the optimizers in a file have made; nothing where none counts them."""
    counted = [_count(contents, node) for node in optimizers_in(contents)]
    known = [steps for steps in counted if steps is not None]
    return [Evidence(max(known), "the optimizer's state", FROM_OPTIMIZER)] if known else []


def optimizer_training(contents: Contents, known: Known, *, scheduled: bool) -> Training:
    """Tell what the optimizers in a file say of the parameters."""
    states = optimizers_in(contents)
    groups = [group for state in states for group in _groups(state)]
    settings = tuple({name: value for name, value in group.items() if name != "params"} for group in groups)
    if len(states) != 1:
        return Training(settings=settings, scheduled=scheduled, notes=_several(contents.called, len(states)))
    (state,) = states
    name_of, why = _names(state, known)
    if not name_of:
        note = f"The moments in {contents.called} are not used: {why}"
        return Training(settings=settings, scheduled=scheduled, notes=(note,))
    tensors: dict[str, Tensor] = {}
    moments: dict[str, dict[str, str]] = {}
    for key, held in state["state"].items():
        name = name_of.get(key)
        for moment, value in _moments(held) if name in known.shapes else ():
            if name is not None and tuple(value.shape) == known.shapes[name]:
                tensors[f"{moment}/{key}"] = value
                moments.setdefault(moment, {})[name] = f"{moment}/{key}"
    group_of = {name_of[key]: at for at, group in enumerate(groups) for key in group["params"] if key in name_of}
    return Training(settings, group_of, moments, Tensors(tensors, contents.value), scheduled=scheduled)


def _several(called: str, count: int) -> tuple[str, ...]:
    return (f"The moments in {called} are not used: it holds {count} optimizers",) if count else ()


def _groups(state: State) -> list[Mapping[str, Any]]:
    return [group for group in state["param_groups"] if isinstance(group, Mapping) and "params" in group]


def _count(contents: Contents, state: State) -> int | None:
    counts = [held[STEP] for held in state["state"].values() if isinstance(held, Mapping) and STEP in held]
    if isinstance(counts[0] if counts else None, Tensor) and counts[0].is_meta:
        counts = [contents.value(counts[0])]  # each is a file access
    numbers = [_whole(value) for value in counts]
    return max((number for number in numbers if number is not None), default=None)


def _whole(value: object) -> int | None:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return int(value) if float(value).is_integer() else None


def _moments(held: object) -> Iterable[tuple[str, Tensor]]:
    if not isinstance(held, Mapping):
        return ()
    found = ((str(name), value) for name, value in held.items() if isinstance(value, Tensor) and name != STEP)
    return (pair for pair in found if pair[1].layout == torch.strided)


def _names(state: State, known: Known) -> tuple[dict[Any, str], str]:
    """Give the name of each key of the state, or why there is none."""
    groups = _groups(state)
    keys = [key for group in groups for key in group["params"]]
    if keys and all(isinstance(key, str) for key in keys):
        return {key: known.names.get(key, key) for key in keys}, ""
    said = [name for group in groups for name in group.get("param_names") or ()]
    if said and len(said) == len(keys):
        return {key: known.names.get(name, name) for key, name in zip(keys, said, strict=True)}, ""
    proven: list[dict[Any, str]] = []
    for order in known.orders:
        if len(order) == len(keys):
            names = dict(zip(keys, order, strict=True))
            if names not in proven and _fits(state, names, known.shapes):
                proven.append(names)
    if len(proven) == 1:
        return proven[0], ""
    if proven:
        return {}, f"{len(proven)} orders of the parameters fit its {len(keys)} shapes"
    return {}, f"it numbers {len(keys)} parameters, and no known order of the model's fits their shapes"


def _fits(state: State, names: Mapping[Any, str], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether of each parameter that has a state one moment at least is shaped like it; some must have one."""
    held = {key: [tuple(one.shape) for _, one in _moments(value)] for key, value in state["state"].items()}
    told = {key: found for key, found in held.items() if found and key in names}
    return bool(told) and all(shapes[names[key]] in found for key, found in told.items())
