"""What does a step measure: numbers of weights, updates, gradients, displacement and moments, and relations?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from wdyn.capture.copies import Copies
from wdyn.capture.first_weights import FirstWeights
from wdyn.capture.measuring import Measurement, measured, together
from wdyn.capture.moments import moments
from wdyn.capture.numbers import Numbers
from wdyn.capture.optimizers import gradient_scale, group_of_parameter
from wdyn.capture.partition import Partition
from wdyn.capture.pieces import like
from wdyn.capture.relations import Relations
from wdyn.naming import examples
from wdyn.rows import Before
from wdyn.schema import Extra, Quantity

Live = Mapping[str, Tensor]
"""The tensors of the model that hold values of their own, by name."""

_OF_UPDATES = frozenset({Quantity.UPDATES, Extra.UPDATE_COSINE, Extra.PREDICTED_UPDATE})


class Quantities:
    """Measures what is wanted of each step; between its parts it holds copies and numbers, no tensor of the model.

    Parameters
    ----------
    optimizers
        Whose moments and rules are asked.
    what
        The quantities and extras that are wanted. What compares updates needs these, and records them too.
    before
        What the run held that is continued, if any.
    tell
        Tells the user of memory that is taken, and of what cannot be recorded.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        what: Collection[Quantity | Extra],
        *,
        before: Before | None,
        tell: Callable[[str], None],
    ) -> None:
        self._optimizers, self._what, self._tell = optimizers, frozenset(what), tell
        self._updates = bool(_OF_UPDATES & self._what)
        self._before = Copies()
        self._first = FirstWeights(before, tell=tell)
        self._relations = Relations(optimizers, what, tell=tell)
        self._gradients: dict[int, Measurement] = {}
        self._unknown: set[str] = set()  # names whose gradients cannot be known

    def prepare(self, live: Live) -> None:
        """Copy the weights, so that what the next step does to them can be measured."""
        if self._updates:
            self._before.keep(live)

    def see_gradients(self, optimizer: Optimizer | None, live: Live, *, partitions: Mapping[str, Partition]) -> None:
        """Measure gradients as the optimizer (None: nobody) is about to use them, and keep what predicts its step."""
        if Quantity.GRADIENTS not in self._what and not self._relations.predicts:
            return
        held = None if optimizer is None else set(group_of_parameter([optimizer]))
        scale = 1.0 if optimizer is None else gradient_scale(optimizer)
        owned = {name: tensor for name, tensor in live.items() if held is None or id(tensor) in held}
        found = {name: _gradient(tensor, scale) for name, tensor in owned.items() if tensor.grad is not None}
        gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
        if unknown := sorted(found.keys() - gradients.keys() - self._unknown):
            self._unknown.update(unknown)
            self._tell(
                f"The gradients of {examples(unknown)} are not recorded: each process holds a share of a sum that is "
                f"never joined, as for norms under sequence parallelism"
            )
        if Quantity.GRADIENTS in self._what:
            self._gradients[id(optimizer)] = measured(gradients, partitions)
        if optimizer is not None:
            self._relations.see(optimizer, owned, found)

    def numbers(self, step: int, live: Live, partitions: Mapping[str, Partition], *, stepped: bool) -> Numbers:
        """Measure all that is wanted.

        Updates and gradients are "not recorded" unless `stepped`, with `prepare` and `see_gradients` before it.

        Parameters
        ----------
        partitions
            How what of each tensor lies in this process is cut, by name.
        """
        found = dict(self._measured(live, partitions, stepped=stepped))
        changed = {name: live[name] for name in found[Quantity.UPDATES].whole.place} if self._updates else {}
        relations = self._relations.sums(step, changed, self._before.of(changed)) if self._updates else None
        held = moments(self._optimizers, live) if Extra.MOMENTS in self._what else {}
        self._gradients = {}
        return Numbers(found, {key: measured(tensors, partitions) for key, tensors in held.items()}, relations)

    def _measured(
        self, live: Live, cuts: Mapping[str, Partition], *, stepped: bool
    ) -> Iterator[tuple[Quantity, Measurement]]:
        if Quantity.WEIGHTS in self._what:
            yield Quantity.WEIGHTS, measured(live, cuts)
        if self._updates:
            yield Quantity.UPDATES, _difference(live, self._before.of(live) if stepped else {}, cuts)
        if Quantity.GRADIENTS in self._what:
            yield Quantity.GRADIENTS, together([measured({}, cuts), *(self._gradients.values() if stepped else ())])
        if Quantity.DISPLACEMENT in self._what:
            yield Quantity.DISPLACEMENT, _difference(live, self._first.of(live), cuts)


def _difference(live: Live, before: Live, partitions: Mapping[str, Partition]) -> Measurement:
    return measured({name: tensor for name, tensor in live.items() if name in before}, partitions, minus=before)


def _gradient(tensor: Tensor, scale: float) -> Tensor | None:
    """Give what this process holds of a gradient, as its parameter is divided; None where that is no part of it."""
    held = None if tensor.grad is None else like(tensor.grad, tensor)
    if held is None:
        return None
    dense = held.to_dense() if held.layout != torch.strided else held
    return dense if scale == 1.0 else dense / scale
