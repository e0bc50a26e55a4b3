"""How does the state of a model at one step become rows?

Names are resolved afresh at every capture, since training code replaces parameters; what is remembered between steps
are names, columns and copies, never the model's tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wdyn import schema
from wdyn.arrays import plan_arrays
from wdyn.capture.anatomy import addresses
from wdyn.capture.declared import Declared
from wdyn.capture.optimizers import gradient_scale, group_of_parameter
from wdyn.capture.staging import Staging, fits, same_view
from wdyn.capture.statistics import statistics
from wdyn.capture.table import parameter_table
from wdyn.capture.tensors import named_tensors
from wdyn.capture.ties import shares_with
from wdyn.rows import Before, Declaration, Row, Snapshot, Values
from wdyn.schema import Address, Quantity

Table = dict[str, npt.NDArray[Any]]
Numbers = dict[str, Values]


class Recorder:
    """Reads one model, and gives rows whose columns are the parameters of the run's table.

    Parameters
    ----------
    model, optimizers
        What is trained; neither is changed.
    what
        Quantities whose statistics are wanted.
    wanted
        Which parameters to record.
    parts
        Splits of fused weights that the user declared.
    keepable
        Names of the dtypes that can be kept.
    before
        What the run held that is continued, if any.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        what: Sequence[Quantity],
        wanted: Callable[[Address], bool],
        parts: Declared,
        keepable: frozenset[str],
        before: Before | None = None,
    ) -> None:
        self._model, self._optimizers = model, optimizers
        self._what, self._wanted, self._parts, self._keepable = what, wanted, parts, keepable
        self._watched: dict[str, Address] = {}
        self._known: frozenset[str] = frozenset()
        self._table: Table = dict(before.table) if before else {}
        arrays = before.arrays if before else ()
        self._column = {str(name): at for at, name in enumerate(self._table.get(schema.PARAMETER, ()))}
        self._arrays = list(arrays)
        self._array_of = {name: array for array in arrays for name in array.names}
        self._staging = Staging()
        self._copies: dict[str, Tensor] = {}
        self._gradients: Numbers = {}
        self._tensors: dict[str, Tensor] = {}
        self._leaders: dict[str, str] = {}
        self._aliases: set[str] = set()
        """Second names of the very same tensor."""

    def look(self, *, for_snapshot: bool) -> Declaration | None:
        """See which tensors the model has now; return the table, and arrays for a snapshot, where they changed."""
        self.see()
        homeless = [name for name in self._tensors if self._needs_array(name)] if for_snapshot else []
        if not homeless and not (self._watched.keys() - self._column.keys()):
            return None
        return self._declare(homeless)

    def see(self) -> None:
        """See which tensors the model has now."""
        live = named_tensors(self._model)
        if live.keys() - self._known:
            self._describe()
        self._tensors = {name: tensor for name, tensor in live.items() if name in self._watched}
        self._leaders = shares_with(self._tensors)
        pairs = ((name, leader) for name, leader in self._leaders.items() if name != leader)
        self._aliases = {name for name, leader in pairs if same_view(self._tensors[name], self._tensors[leader])}

    def forget(self) -> None:
        """Let go of the model's tensors: training may replace them, and a reference would keep the old ones alive."""
        self._tensors = {}

    def prepare(self) -> None:
        """Copy all weights, so that what the next step does to them can be measured."""
        if Quantity.UPDATES not in self._what:
            return
        live = named_tensors(self._model)
        for name in self._owners():
            tensor, copy = live.get(name), self._copies.get(name)
            if tensor is None:
                self._copies.pop(name, None)
            elif copy is not None and copy.shape == tensor.shape and copy.dtype == tensor.dtype:
                copy.copy_(tensor.detach())
            else:
                self._copies[name] = tensor.detach().clone()

    def see_gradients(self, optimizer: Optimizer | None) -> None:
        """Measure gradients as the optimizer (None: nobody) is about to use them."""
        if Quantity.GRADIENTS not in self._what:
            return
        held = None if optimizer is None else set(group_of_parameter([optimizer]))
        scale = 1.0 if optimizer is None else gradient_scale(optimizer)
        live = named_tensors(self._model)
        names = [name for name in self._owners() if name in live and (held is None or id(live[name]) in held)]
        numbers = statistics([_gradient(live[name], scale) for name in names])
        self._gradients = self._spread(names, numbers, onto=self._gradients)

    def statistics_rows(self, step: int, *, stepped: bool) -> list[Row]:
        """Give one row of every quantity.

        Updates and gradients are "not recorded" unless `stepped`, with `prepare` and `see_gradients` before it.
        """
        owners = self._owners()
        tensors = [self._tensors[name] for name in owners]
        numbers: dict[Quantity, Numbers] = {}
        if Quantity.WEIGHTS in self._what:
            numbers[Quantity.WEIGHTS] = self._spread(owners, statistics(tensors))
        if Quantity.UPDATES in self._what:
            before = [self._copy_of(name) if stepped else None for name in owners]
            after = [tensor if copy is not None else None for tensor, copy in zip(tensors, before, strict=True)]
            numbers[Quantity.UPDATES] = self._spread(owners, statistics(after, minus=before))
        if Quantity.GRADIENTS in self._what:
            seen = self._gradients if stepped and self._gradients else self._spread([], statistics([]))
            numbers[Quantity.GRADIENTS], self._gradients = seen, {}
        return [Row(f"{schema.STATISTICS}/{quantity}", step, values) for quantity, values in numbers.items()]

    def states_row(self, step: int) -> Row:
        """Tell of each parameter whose storage it shares, whether it is trainable, and its group."""
        names = list(self._tensors)
        at = [self._column[name] for name in names]
        states = {name: np.full(len(self._column), -1, dtype=np.int64) for name in schema.STATE_NAMES}
        states[schema.SHARES_WITH][at] = [self._column[self._leaders[name]] for name in names]
        states[schema.TRAINABLE][at] = [self._tensors[name].requires_grad for name in names]
        states[schema.GROUP][at] = self._group_of(names)
        return Row(schema.STATES, step, dict(states))

    def snapshot(self, step: int) -> Snapshot:
        """Copy all weights out."""
        arrays = {self._array_of[name].slug: self._array_of[name] for name in self._owners() if name in self._array_of}
        values, release = self._staging.copy(arrays.values(), self._tensors)
        return Snapshot(step, values, release)

    def snapshot_bytes(self) -> int:
        """Size of one snapshot."""
        owned = (self._tensors[name] for name in self._owners() if self._watched[name].dtype in self._keepable)
        return sum(tensor.numel() * tensor.element_size() for tensor in owned)

    @property
    def watched(self) -> tuple[Address, ...]:
        """What is recorded, as it was last seen."""
        return tuple(self._watched.values())

    @property
    def is_trained(self) -> bool:
        """Whether an optimizer holds any of what is recorded."""
        return bool((self._group_of(list(self._tensors)) >= 0).any())

    @property
    def not_kept(self) -> list[str]:
        """Names whose dtype cannot be kept in a snapshot."""
        return [name for name, one in self._watched.items() if one.dtype not in self._keepable]

    def _owners(self) -> list[str]:
        """Names that hold values of their own: all but the second names of the very same tensor."""
        return [name for name in self._leaders if name not in self._aliases]

    def _needs_array(self, name: str) -> bool:
        tensor = self._tensors[name]
        if name in self._aliases or str(tensor.dtype).removeprefix("torch.") not in self._keepable:
            return False
        array = self._array_of.get(name)
        return array is None or not fits(array, tensor)

    def _declare(self, homeless: Sequence[str]) -> Declaration:
        self._describe()
        added = tuple(name for name in self._watched if name not in self._column) if self._column else ()
        new = plan_arrays([self._watched[name] for name in homeless], first_number=len(self._arrays))
        self._arrays += new
        self._array_of |= {name: array for array in new for name in array.names}
        for name in self._watched:
            self._column.setdefault(name, len(self._column))
        self._table = _merged(self._table, self._described(), list(self._column))
        return Declaration(self._table, tuple(new), added)

    def _describe(self) -> None:
        """Tell anew what each parameter is: names have come, or tensors have changed."""
        known = addresses(self._model, parts=self._parts)
        self._known = frozenset(one.name for one in known)
        self._watched = {one.name: one for one in known if self._wanted(one)}

    def _described(self) -> Table:
        """The table of the parameters that are there now."""
        described = parameter_table(tuple(self._watched.values()))
        columns: Table = {str(name): values.values for name, values in described.variables.items()}
        names = [str(name) for name in columns[schema.PARAMETER]]
        group = self._group_of(names)
        slugs = [self._array_of[name].slug if name in self._array_of else "" for name in names]
        held = ["" if name in self._aliases else slug for name, slug in zip(names, slugs, strict=True)]
        return {**columns, schema.GROUP: group, "in_optimizer": group >= 0, schema.WEIGHTS: np.array(held, np.str_)}

    def _group_of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        by_id = group_of_parameter(self._optimizers)
        live = self._tensors
        found = [by_id.get(id(live[name]), schema.NO_GROUP) if name in live else schema.NO_GROUP for name in names]
        return np.array(found, dtype=np.int64)

    def _spread(self, names: Sequence[str], numbers: Numbers, *, onto: Numbers | None = None) -> Numbers:
        """Put values by name into the columns of the table, second names of a tensor included."""
        place = {name: at for at, name in enumerate(names)}
        source = {name: place.get(leader if name in self._aliases else name) for name, leader in self._leaders.items()}
        columns = [self._column[name] for name, at in source.items() if at is not None]
        picked = [at for at in source.values() if at is not None]
        spread: Numbers = {}
        for statistic, values in numbers.items():
            nothing: Values = np.full(len(self._column), np.nan)
            if values.dtype.kind == "i":
                nothing = np.full(len(self._column), -1, dtype=np.int64)
            spread[statistic] = row = (onto or {}).get(statistic, nothing)
            row[columns] = values[picked]
        return spread

    def _copy_of(self, name: str) -> Tensor | None:
        copy, tensor = self._copies.get(name), self._tensors[name]
        return copy if copy is not None and copy.shape == tensor.shape else None


def _gradient(tensor: Tensor, scale: float) -> Tensor | None:
    gradient = tensor.grad
    if gradient is None:
        return None
    dense = gradient.detach().to_dense() if gradient.layout != torch.strided else gradient.detach()
    return dense if scale == 1.0 else dense / scale


def _merged(old: Mapping[str, npt.NDArray[Any]], new: Table, names: Sequence[str]) -> Table:
    """One table over `names`: the row of a name that is there now, else the row that it had."""
    at_new = {str(name): at for at, name in enumerate(new[schema.PARAMETER])}
    at_old = {str(name): at for at, name in enumerate(old.get(schema.PARAMETER, ()))}
    merged: Table = {}
    for column, values in new.items():
        rows = [values[at_new[name]] if name in at_new else old[column][at_old[name]] for name in names]
        merged[column] = np.array(rows, dtype=np.str_ if values.dtype.kind in "UOT" else values.dtype)
    return merged
