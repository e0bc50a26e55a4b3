"""How do hooks stay with one optimizer and one recording: not in copies, not in files, not in a compiled step?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

Method = Callable[[Optimizer, bool], None]
"""Told which optimizer steps, and whether it was given a closure, which computes the gradients within the step."""


class Hook:
    """A step hook that calls a method.

    A copy of it, by ``copy.deepcopy`` or ``pickle``, does nothing: torch leaves hooks out when it copies an optimizer,
    but an optimizer that says itself what is copied of it may not.
    """

    def __init__(self, method: Method) -> None:
        # A compiled step is traced through its hooks, and what they record must not become a part of its graph. To say
        # so loads the compiler, which torch does itself for the first optimizer that is made.
        self._method: Method = torch.compiler.disable(method)

    def __call__(self, optimizer: Optimizer, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Call the method."""
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # the first is the optimizer
        self._method(optimizer, closure is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Something that takes three arguments, does nothing, and can be unpickled where there is no wdyn.
        return getattr, (contextlib.nullcontext(), "__exit__")


def attach(optimizers: Sequence[Optimizer], *, before: Method, after: Method) -> contextlib.ExitStack:
    """Have `before` called ahead of each step of any, and `after` behind it, until the stack is closed.

    Both are held: what they belong to must not be what closes the stack when nobody holds it any more.
    """
    with contextlib.ExitStack() as undo:
        for optimizer in optimizers:
            undo.callback(optimizer.register_step_pre_hook(Hook(before)).remove)
            undo.callback(optimizer.register_step_post_hook(Hook(after)).remove)
        return undo.pop_all()
