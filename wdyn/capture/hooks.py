"""How do hooks stay with one optimizer and one watch: not in copies, not in files, not after the watch is gone?"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer

Method = Callable[[Optimizer], None]


class Hook:
    """A step hook that calls a method of an object, for as long as somebody else holds that object.

    A hook that held the object would keep it open for as long as the optimizer lives. A copy of a hook, by
    ``copy.deepcopy`` or ``pickle``, does nothing: torch leaves hooks out when it copies an optimizer, but an optimizer
    that says itself what is copied of it may not.
    """

    def __init__(self, method: Method) -> None:
        self._method: weakref.WeakMethod[Method] = weakref.WeakMethod(method)

    def __call__(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        """Call the method, if its object is still there."""
        method = self._method()
        if method is not None:
            method(optimizer)

    def __reduce__(self) -> tuple[Any, ...]:
        # Something that takes three arguments, does nothing, and can be unpickled where there is no wdyn.
        return getattr, (contextlib.nullcontext(), "__exit__")


def attach(optimizers: Sequence[Optimizer], *, before: Method, after: Method) -> contextlib.ExitStack:
    """Have `before` called ahead of each step of any, and `after` behind each of the last, until the stack is closed.

    Both are bound methods, and are not held.
    """
    with contextlib.ExitStack() as undo:
        for optimizer in optimizers:
            undo.callback(optimizer.register_step_pre_hook(Hook(before)).remove)
        if optimizers:
            undo.callback(optimizers[-1].register_step_post_hook(Hook(after)).remove)
        return undo.pop_all()
