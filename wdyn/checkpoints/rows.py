"""How do the saved models of a series become the rows of one run?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt
from torch import Tensor

from wdyn import schema
from wdyn.capture.anatomy import addresses
from wdyn.capture.columns import Columns
from wdyn.capture.host_sums import best_way
from wdyn.capture.measuring import Layout, Measurement, Shown, measured, quantity_rows, together
from wdyn.capture.moments import quantity_name
from wdyn.capture.owners import Owners, owners
from wdyn.capture.partition import Partition, partition
from wdyn.capture.scalars import ScalarLog
from wdyn.capture.staging import fits
from wdyn.checkpoints.saved import Saved, Training
from wdyn.checkpoints.streaming import Measuring, Read, Room, streamed
from wdyn.naming import part_label
from wdyn.rows import Batch, Before, Declaration, Row, Values
from wdyn.schema import Address, Extra, Quantity
from wdyn.store.dtypes import STORED_TYPES

_SETTINGS = ("lr", "weight_decay", "momentum")


@dataclass(frozen=True)
class Model:
    """A saved model, and what each of its tensors is.

    Attributes
    ----------
    held
        Tensors without values, by name; names that share memory share it here.
    watched, partitions, shared
        What each is, how it is cut, and which names share memory.
    """

    saved: Saved
    step: int
    held: Mapping[str, Tensor]
    watched: Mapping[str, Address]
    partitions: Mapping[str, Partition]
    shared: Owners

    @classmethod
    def of(cls, saved: Saved, *, step: int) -> Model:
        """Tell what the tensors of a saved model are."""
        held = {name: saved.tensors[saved.tied.get(name, name)] for name in saved.names}
        watched = {one.name: one for one in addresses(held, config=saved.config or None)}
        cut = {name: partition(one, heads=False) for name, one in watched.items()}
        partitions = {name: cells for name, cells in cut.items() if cells is not None}
        return cls(saved, step, held, watched, partitions, owners(held))

    @property
    def own(self) -> dict[str, Tensor]:
        """Tensors that hold values of their own."""
        return {name: self.held[name] for name in self.shared.names}

    @property
    def parts(self) -> Iterator[tuple[str, str]]:
        """The label of every part, and that of the part whose numbers it shows."""
        for name, cut in self.partitions.items():
            for part in cut.parts:
                yield part_label(name, part.name), part_label(self.shared.source[name], part.name)

    @property
    def group(self) -> npt.NDArray[np.int64]:
        """Number of the optimizer's group of each parameter, as far as it is known."""
        known = self.saved.training.group_of
        groups = [known.get(self.shared.leaders[name], known.get(name, schema.NO_GROUP)) for name in self.watched]
        return np.array(groups, dtype=np.int64)


class Importer:
    """Turns saved models of one series, in the order of their steps, into batches of rows and snapshots.

    Parameters
    ----------
    what
        Quantities, and extras, that are wanted: weights, displacement, moments.
    first
        Reads a tensor as the first of the series that has it holds it.
    before
        What the run holds that is continued, if any.
    told
        Told the name of each tensor that was read.
    """

    def __init__(
        self,
        *,
        what: Collection[Quantity | Extra],
        first: Read,
        before: Before | None = None,
        told: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._what, self._first, self._told = frozenset(what), first, told
        self._columns = Columns(before)
        self._room = Room()

    def batches(self, saved: Saved, *, step: int, after: int) -> Iterator[Batch]:
        """Give what one saved model says; each batch must be taken before the next is asked for.

        `after` is the step before it in the run, -1 for none: what was logged since then is given too.
        """
        model = Model.of(saved, step=step)
        if (declaration := self._look(model)) is not None:
            yield Batch(step, declaration=declaration)
        measuring = Measuring(model.partitions, self._first if Quantity.DISPLACEMENT in self._what else None)
        yield from self._weights(model, measuring)
        rows = [*self._quantities(model, measuring), self._states(model)]
        yield Batch(step, (*rows, *scalars(saved.training, step=step, after=after)))

    def _look(self, model: Model) -> Declaration | None:
        homeless = [model.watched[name] for name, tensor in model.own.items() if self._needs_array(name, tensor)]
        if not homeless and not self._columns.lack(model.watched, [own for own, _ in model.parts]):
            return None
        return self._columns.declare(
            tuple(model.watched.values()),
            model.partitions,
            homeless=homeless,
            group=model.group,
            owned=frozenset(model.shared.names),
        )

    def _needs_array(self, name: str, tensor: Tensor) -> bool:
        array = self._columns.array_of.get(name)
        return str(tensor.dtype).removeprefix("torch.") in STORED_TYPES and (array is None or not fits(array, tensor))

    def _weights(self, model: Model, measuring: Measuring) -> Iterator[Batch]:
        """Read all tensors once: measure them, and give snapshots of those that can be kept."""
        found = (self._columns.array_of.get(name) for name in model.own)
        arrays = list({array.slug: array for array in found if array is not None}.values())
        best_way(sum(tensor.numel() for tensor in model.own.values()))  # no single one might be worth compiling

        def use(name: str, tensor: Tensor) -> None:
            measuring.take(name, tensor)
            self._told(name)

        for snapshot in streamed(model.step, arrays, model.own, saved=model.saved, room=self._room, use=use):
            yield Batch(model.step, snapshot=snapshot)

    def _quantities(self, model: Model, measuring: Measuring) -> Iterator[Row]:
        columns, places = self._columns.of_parameter, self._columns.of_part
        layout = Layout(
            Shown({columns[name]: source for name, source in model.shared.source.items()}, len(columns)),
            Shown({places[own]: source for own, source in model.parts}, len(places)),
        )
        found: dict[str, list[Measurement]] = {Quantity.WEIGHTS: measuring.weights}
        if Quantity.DISPLACEMENT in self._what:
            found[Quantity.DISPLACEMENT] = measuring.displacement
        if Extra.MOMENTS in self._what:
            found |= {key: list(_moments(model, key)) for key in model.saved.training.moments}
        for key, several in found.items():
            quantity = key if key in set(Quantity) else quantity_name(key)
            about = {} if quantity == key else {"quantity": key}
            yield from quantity_rows(quantity, model.step, together(several), layout, attributes=about)

    def _states(self, model: Model) -> Row:
        columns = self._columns.of_parameter
        at = [columns[name] for name in model.watched]
        states: dict[str, Values] = {name: np.full(len(columns), -1, dtype=np.int64) for name in schema.STATE_NAMES}
        states[schema.SHARES_WITH][at] = [columns[model.shared.leaders[name]] for name in model.watched]
        states[schema.SAME_TENSOR][at] = [model.shared.leaders[name] == at for name, at in model.shared.source.items()]
        states[schema.TRAINABLE][at] = [one.trainable for one in model.watched.values()]
        states[schema.GROUP][at] = model.group
        return Row(schema.STATES, model.step, states)


def _moments(model: Model, key: str) -> Iterator[Measurement]:
    training = model.saved.training
    for name in training.moments[key]:
        yield measured({name: training.read(key, name)}, model.partitions)


def scalars(training: Training, *, step: int, after: int) -> Iterator[Row]:
    """Give what was logged after the step before and up to this one, and what the optimizer is set to at this one."""
    log = ScalarLog(())
    rates: dict[int, float] = {}
    for at, numbers in training.history.items():
        if after < at <= step:
            log.log(at, {name: number for name, number in numbers.items() if name != "lr"})
            rates |= {at: numbers["lr"]} if "lr" in numbers else {}
    log.log(step, {})
    settings = _settings(training)
    count = max(1, len(training.settings))
    for row in chain.from_iterable(log.take(before=step + 1)):
        own = dict(settings) if row.step == step else {}
        if row.step in rates:
            own["lr"] = np.full(count, rates[row.step])
        yield replace(row, values={**row.values, **own})


def _settings(training: Training) -> dict[str, Values]:
    """Hyperparameters by group; without ``lr`` where that is of the step to come."""
    found: dict[str, Values] = {}
    for name in _SETTINGS:
        if any(name in group for group in training.settings) and not (name == "lr" and training.scheduled):
            found[name] = np.array([_number(group.get(name)) for group in training.settings])
    betas = [group.get("betas") for group in training.settings]
    if any(betas):
        for at, name in enumerate(("beta1", "beta2")):
            found[name] = np.array([_number(one[at]) if one else np.nan for one in betas])
    return found


def _number(value: object) -> float:
    if isinstance(value, Tensor):
        return float(value.item()) if value.numel() == 1 else np.nan
    return float(value) if isinstance(value, int | float) else np.nan
