"""How does an update stand to the weights, to the update before it, and to what the optimizer's rule predicts?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from wdyn import schema
from wdyn.capture.copies import Tensors, tell_of_memory
from wdyn.capture.pieces import local
from wdyn.capture.predicted import KNOWN, Predictor, unknown
from wdyn.capture.statistics import products
from wdyn.naming import examples
from wdyn.rows import Values
from wdyn.schema import Extra, Quantity

Norms = npt.NDArray[np.float64]
"""Sums or norms, in the order of the names of their parameters."""

_AT_ONCE = 1 << 24
"""Elements whose predicted updates are in memory at one time."""


class Relations:
    """Compares updates; remembers between steps what that needs.

    Parameters
    ----------
    optimizers
        Whose rules predict.
    what
        Extras that are wanted.
    tell
        Tells the user of memory that is taken, and of what cannot be recorded.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], what: Collection[Quantity | Extra], *, tell: Callable[[str], None]
    ) -> None:
        self._tell = tell
        self._last = LastUpdate() if Extra.UPDATE_COSINE in what else None
        self._predictor = Predictor() if Extra.PREDICTED_UPDATE in what else None
        if self._predictor is not None and (others := unknown(optimizers)):
            tell(
                f"What {examples(others)} should do to the weights is not predicted: known are the rules of "
                f"{', '.join(KNOWN)} themselves, and of no subclass. The measured updates are recorded all the same"
            )

    @property
    def predicts(self) -> bool:
        """Whether `see` needs to be called before each step."""
        return self._predictor is not None

    def see(self, optimizer: Optimizer, parameters: Tensors, gradients: Mapping[str, Tensor | None]) -> None:
        """Keep what the coming step of `optimizer` uses, so that it can be predicted; None for an unknown gradient."""
        if self._predictor is not None:
            self._predictor.see(optimizer, parameters, gradients)

    def sums(self, step: int, parameters: Tensors, before: Tensors) -> Sums:
        """Sum up what every relation is made of, over what of the parameters lies in this process.

        Parameters
        ----------
        parameters, before
            The live parameters after the step, and what they held before it.
        """
        after = {name: local(tensor) for name, tensor in parameters.items()}
        found: dict[str, Norms] = {_WEIGHTS: _products(after, before, before)}
        if self._last is not None:
            found[_LAST], found[_GAP] = self._last.compare(step, after, before)
            tell_of_memory(self._tell, "what='update_cosine' keeps the last recorded update", self._last.nbytes)
        if (rules := self._predictor) is not None:
            found[_PREDICTED] = to_prediction(
                after, before, lambda name: rules.predict(name, parameters[name], before[name])
            )
            rules.forget()
        return Sums(tuple(after), found)


_WEIGHTS, _LAST, _GAP, _PREDICTED = "weights", "last", "gap", "predicted"
"""What an update is compared with, (parameter, 2): the sums of their product and of the other's square; and the steps
between an update and the last, (parameter,)."""


@dataclass(frozen=True)
class Sums:
    """What relations are made of: names of parameters, and sums over each by what its update is compared with."""

    names: tuple[str, ...]
    of: Mapping[str, Norms]


def added(several: Sequence[Sums]) -> Sums:
    """Add the sums of disjoint pieces of the same parameters."""
    names = tuple(dict.fromkeys(name for one in several for name in one.names))
    place = {name: at for at, name in enumerate(names)}
    total: dict[str, Norms] = {}
    for one in several:
        at = [place[name] for name in one.names]
        for key, sums in one.of.items():
            whole = total.setdefault(key, np.zeros((len(names), *sums.shape[1:])))
            whole[at] = sums if key == _GAP else whole[at] + sums
    return Sums(names, total)


def relations(sums: Sums, norms: Norms) -> dict[str, Values]:
    """Give every relation by name, in the order of the parameters.

    ``update_ratio`` is ||U|| / ||W|| and ``weight_cosine`` the cosine of U and W, W the weights before the update;
    ``update_cosine`` that of U and the update of the row before, ``update_gap`` the steps between these two, NaN where
    there was none; ``predicted_ratio`` is ||P|| / ||U||, and ``predicted_cosine`` that of U and P, the prediction.

    Parameters
    ----------
    norms
        Frobenius norms of the updates U.
    """
    inner, square = sums.of[_WEIGHTS].T
    with np.errstate(invalid="ignore", divide="ignore"):  # of weights that are all zero there is no share
        found = {
            schema.UPDATE_RATIO: norms / np.sqrt(square),
            schema.WEIGHT_COSINE: _cosine(inner, square, norms=norms),
        }
    if _LAST in sums.of:
        found |= {schema.UPDATE_COSINE: _cosine(*sums.of[_LAST].T, norms=norms), schema.UPDATE_GAP: sums.of[_GAP]}
    if _PREDICTED in sums.of:
        inner, square = sums.of[_PREDICTED].T
        with np.errstate(invalid="ignore", divide="ignore"):  # nothing moved, as 0/0 or as x/0 says
            ratio = np.sqrt(square) / norms
        found |= {schema.PREDICTED_RATIO: ratio, schema.PREDICTED_COSINE: _cosine(inner, square, norms=norms)}
    return dict(found)


class LastUpdate:
    """Compares each update with that of the row before, of which it keeps a copy."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._step = -1

    def compare(self, step: int, after: Tensors, before: Tensors) -> tuple[Norms, Norms]:
        """Give the products with the last update, and the steps since it; NaN where there was none."""
        if not after:
            return np.empty((0, 2)), np.empty(0)
        last = {name: held for name, held in self._held.items() if name in after and _fits(held, after[name])}
        found = _products(after, before, last)
        gap = np.array([step - self._step if name in last else np.nan for name in after], dtype=np.float64)
        self._keep(step, after, before)
        return found, gap

    @property
    def nbytes(self) -> int:
        """Memory that the copy holds."""
        return sum(held.nbytes for held in self._held.values())

    def _keep(self, step: int, after: Tensors, before: Tensors) -> None:
        old, self._held, self._step = self._held, {}, step
        for name in after:
            old.pop(name, None)  # its memory is free before more is taken
            self._held[name] = _update(after[name], before[name])


def to_prediction(after: Tensors, before: Tensors, predict: Callable[[str], Tensor | None]) -> Norms:
    """Give the products with what `predict` gives for a name."""
    found = np.full((len(after), 2), np.nan)
    for first, names in _batches(after):
        predicted = {name: update for name in names if (update := predict(name)) is not None}
        some = {name: after[name] for name in names}
        found[first : first + len(names)] = _products(some, before, predicted)
    return found


def _cosine(inner: Norms, square: Norms, *, norms: Norms) -> Norms:
    with np.errstate(invalid="ignore", divide="ignore"):  # what is all zero has no direction: 0/0 is NaN
        cosine: Norms = inner / np.sqrt(square) / norms
    return cosine


def _products(after: Tensors, before: Tensors, others: Tensors) -> Norms:
    """Inner product of each update with another tensor, and that tensor's with itself; NaN where there is none."""
    names = list(after)
    updates = [_real(after[name]) if name in others else None for name in names]
    minus = [_real(before[name]) if name in others else None for name in names]
    return products(updates, minus=minus, others=[_real(others[name]) if name in others else None for name in names])


def _batches(tensors: Tensors) -> Iterator[tuple[int, list[str]]]:
    """Names in their order, few enough at a time that their predictions fit into memory, and where they begin."""
    first, names, elements = 0, list[str](), 0
    for name, tensor in tensors.items():
        names.append(name)
        elements += tensor.numel()
        if elements >= _AT_ONCE:
            yield first, names
            first, names, elements = first + len(names), [], 0
    yield first, names


def _update(after: Tensor, before: Tensor) -> Tensor:
    wide = torch.float32 if after.is_floating_point() and after.element_size() <= 4 else torch.float64
    wide = torch.float32 if after.dtype == torch.complex64 else wide
    return _real(after).to(wide) - _real(before).to(wide)


def _real(tensor: Tensor) -> Tensor:
    """A complex tensor as its real and imaginary parts: vectors of these have the same norms and a real product."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _fits(held: Tensor, tensor: Tensor) -> bool:
    return held.shape == _real(tensor).shape and held.device == tensor.device
