"""What did gradient clipping do? torch's own functions tell it, while a block runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import GeneratorType, ModuleType
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from wdyn.capture.optimizers import groups
from wdyn.capture.pieces import is_divided, is_spread, local

_EPSILON = 1e-6  # what torch adds to the norm before it divides by it


class Watching(Protocol):
    """What is told of clipping: a `wdyn.Watch`."""

    @property
    def model(self) -> nn.Module:
        """The module whose gradients are meant."""

    @property
    def optimizers(self) -> Sequence[Optimizer]:
        """Those that train it."""

    def log(self, **scalars: Any) -> None:
        """Keep numbers at the present step."""


@contextmanager
def watch_clipping(w: Watching) -> Iterator[None]:
    """Record what gradient clipping does, as long as the block runs::

        with wdyn.watch(model, optimizer, to="run.zarr") as w, wdyn.watch_clipping(w):
            ...

    Meanwhile ``torch.nn.utils.clip_grad_norm_``, ``clip_grads_with_norm_`` and ``clip_grad_value_`` are wrapped. They
    do and return what they always do, and nothing waits for a device. Of a call with parameters of the model of `w`,
    or of its optimizers, these are logged:

    ``grad_norm``
        The norm before clipping, as the function returns it; NaN and infinity too.
    ``clip_coefficient``
        By what gradients were multiplied: min(1, max_norm / (grad_norm + 1e-6)).
    ``grad_norm_clipped``
        Their product: the norm that is left.
    ``clip_value``
        The bound on single elements given to ``clip_grad_value_``.

    They stand where ``w.log`` puts what is logged at that moment: a norm at row s is of the gradient at the weights of
    row s, beside their loss; the step that it makes, with its learning rate and update, has row s + 1. Of several calls
    in one step the last one stands.

    Under FSDP2 the function returns a norm of which each process holds a part: it is NaN here, and its
    ``full_tensor()`` is to be logged instead.

    Seen is who looks the function up when calling it, as transformers, accelerate and Lightning do. Not seen are a
    function that was imported by name before (``from torch.nn.utils import clip_grad_norm_``), calls inside
    ``torch.compile``, and engines that clip by themselves (DeepSpeed, FSDP1): there, log what they return, as in
    ``w.log(grad_norm=clip_grad_norm_(...))``.

    Parameters
    ----------
    w
        A watch whose block is entered.

    Raises
    ------
    InvalidArgument
        The block of `w` is not entered yet.
    """
    w.log()  # refuses a watch whose block is not entered
    state = _State()
    places = [(home, name) for home in _HOMES for name in _NUMBERS if hasattr(home, name)]
    try:
        for home, name in places:
            setattr(home, name, _Seen(getattr(home, name), w, _NUMBERS[name], state))
        yield
    finally:
        state.over = True
        for home, name in places:
            _take_off(home, name)


_Numbers = Callable[[Mapping[str, Any], Any], dict[str, Any]]


@dataclass
class _State:
    """Of one block: whether it is over, and whether a call is under way, in which others may be nested."""

    over: bool = False
    inside: bool = False


class _Seen:
    """A clipping function that also tells what it did."""

    def __init__(self, original: Callable[..., Any], w: Watching, numbers: _Numbers, state: _State) -> None:
        functools.update_wrapper(self, original)  # first: it copies the attributes of an `original` of this class
        self.original, self.state = original, state
        self._w, self._numbers = w, numbers
        self._signature = inspect.signature(original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = self.state
        if state.over or state.inside or torch.compiler.is_compiling():
            return self.original(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        given = bound.arguments
        given["parameters"], held = _readable_twice(given["parameters"])
        state.inside = True
        try:
            result = self.original(*bound.args, **bound.kwargs)
        finally:
            state.inside = False
        if _is_of(self._w, held):
            self._w.log(**self._numbers(given, result))
        return result


def _readable_twice(parameters: torch.Tensor | Iterable[torch.Tensor]) -> tuple[Any, list[torch.Tensor]]:
    """Give the parameters to pass on, of the kind that came, and as a list."""
    if isinstance(parameters, torch.Tensor):
        return parameters, [parameters]
    held = list(parameters)
    return (one for one in held) if isinstance(parameters, GeneratorType) else held, held


def _is_of(w: Watching, parameters: list[torch.Tensor]) -> bool:
    """Whether any of the parameters is one of the watched model, or a copy of one that its optimizer trains."""
    given = {id(one) for one in parameters}
    trained = (one for group in groups(w.optimizers) for one in group["params"])
    return any(id(one) in given for one in chain(w.model.parameters(), trained))


@torch.no_grad()
def _of_norm(max_norm: Any, total: Any) -> dict[str, Any]:
    if isinstance(total, torch.Tensor) and is_divided(total):  # to join it would take a word of every process
        return {"grad_norm": total}
    norm = torch.as_tensor(total)
    norm = local(norm) if is_spread(norm) else norm
    coefficient = torch.clamp(float(max_norm) / (norm + _EPSILON), max=1.0)
    return {"grad_norm": norm, "grad_norm_clipped": norm * coefficient, "clip_coefficient": coefficient}


_HOMES: tuple[ModuleType, ...] = (nn.utils, nn.utils.clip_grad)
_NUMBERS: Mapping[str, _Numbers] = {
    "clip_grad_norm_": lambda given, result: _of_norm(given["max_norm"], result),
    "clip_grads_with_norm_": lambda given, result: _of_norm(given["max_norm"], given["total_norm"]),
    "clip_grad_value_": lambda given, result: {"clip_value": given["clip_value"]},
}


def _take_off(home: ModuleType, name: str) -> None:
    """Take off what is over, down to what is not: blocks may end in another order than they began."""
    function = getattr(home, name)
    while isinstance(function, _Seen) and function.state.over:
        function = function.original
    setattr(home, name, function)
