"""How does an update stand to the weights, to the update before it, and to what the optimizer's rule predicts?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from wdyn import schema
from wdyn.capture.copies import Tensors, tell_of_memory
from wdyn.capture.predicted import KNOWN, Predictor, unknown
from wdyn.capture.statistics import products
from wdyn.naming import examples
from wdyn.rows import Values
from wdyn.schema import Extra, Quantity

Norms = npt.NDArray[np.float64]
"""Frobenius norms of the updates, in the order of their names."""

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

    def see(self, optimizer: Optimizer, parameters: Tensors, gradients: Tensors) -> None:
        """Keep what the coming step of `optimizer` uses, so that it can be predicted."""
        if self._predictor is not None:
            self._predictor.see(optimizer, parameters, gradients)

    def of(self, step: int, parameters: Tensors, before: Tensors, norms: Norms) -> dict[str, Values]:
        """Give every relation by name, in the order of the parameters.

        Parameters
        ----------
        parameters, before
            The live parameters after the step, and what they held before it.
        norms
            Frobenius norms of the updates.
        """
        after = {name: tensor.detach() for name, tensor in parameters.items()}
        found = to_weights(after, before, norms)
        if self._last is not None:
            found |= self._last.compare(step, after, before, norms)
            tell_of_memory(self._tell, "what='update_cosine' keeps the last recorded update", self._last.nbytes)
        if (rules := self._predictor) is not None:
            found |= to_prediction(
                after, before, norms, lambda name: rules.predict(name, parameters[name], before[name])
            )
            rules.forget()
        return found


def to_weights(after: Tensors, before: Tensors, norms: Norms) -> dict[str, Values]:
    """Give ``update_ratio``, ||U|| / ||W||, and ``weight_cosine``, that of U and W, W the weights before the update."""
    inner, square = _products(after, before, before)
    with np.errstate(invalid="ignore", divide="ignore"):  # of weights that are all zero there is no share
        return {schema.UPDATE_RATIO: norms / np.sqrt(square), schema.WEIGHT_COSINE: _cosine(inner, square, norms)}


class LastUpdate:
    """Compares each update with that of the row before, of which it keeps a copy."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}
        self._step = -1

    def compare(self, step: int, after: Tensors, before: Tensors, norms: Norms) -> dict[str, Values]:
        """Give ``update_cosine`` and ``update_gap``, the steps between the two updates; NaN where there was none."""
        if not after:
            return {schema.UPDATE_COSINE: np.empty(0), schema.UPDATE_GAP: np.empty(0)}
        last = {name: held for name, held in self._held.items() if name in after and _fits(held, after[name])}
        inner, square = _products(after, before, last)
        gap = np.array([step - self._step if name in last else np.nan for name in after], dtype=np.float64)
        self._keep(step, after, before)
        return {schema.UPDATE_COSINE: _cosine(inner, square, norms), schema.UPDATE_GAP: gap}

    @property
    def nbytes(self) -> int:
        """Memory that the copy holds."""
        return sum(held.nbytes for held in self._held.values())

    def _keep(self, step: int, after: Tensors, before: Tensors) -> None:
        old, self._held, self._step = self._held, {}, step
        for name in after:
            old.pop(name, None)  # its memory is free before more is taken
            self._held[name] = _update(after[name], before[name])


def to_prediction(
    after: Tensors, before: Tensors, norms: Norms, predict: Callable[[str], Tensor | None]
) -> dict[str, Values]:
    """Give ``predicted_ratio``, ||P|| / ||U||, and ``predicted_cosine``, that of U and P, by `predict` for a name."""
    inner, square = np.full(len(after), np.nan), np.full(len(after), np.nan)
    for first, names in _batches(after):
        predicted = {name: update for name in names if (update := predict(name)) is not None}
        some = {name: after[name] for name in names}
        inner[first : first + len(names)], square[first : first + len(names)] = _products(some, before, predicted)
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing moved, as 0/0 or as x/0 says
        return {
            schema.PREDICTED_RATIO: np.sqrt(square) / norms,
            schema.PREDICTED_COSINE: _cosine(inner, square, norms),
        }


def _cosine(inner: Norms, square: Norms, norms: Norms) -> Norms:
    with np.errstate(invalid="ignore", divide="ignore"):  # what is all zero has no direction: 0/0 is NaN
        cosine: Norms = inner / np.sqrt(square) / norms
    return cosine


def _products(after: Tensors, before: Tensors, others: Tensors) -> tuple[Norms, Norms]:
    """Inner product of each update with another tensor, and that tensor's with itself; NaN where there is none."""
    names = list(after)
    updates = [_real(after[name]) if name in others else None for name in names]
    minus = [_real(before[name]) if name in others else None for name in names]
    found = products(updates, minus=minus, others=[_real(others[name]) if name in others else None for name in names])
    return found[:, 0], found[:, 1]


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
