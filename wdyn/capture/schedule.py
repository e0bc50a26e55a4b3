"""At which steps is a row due? `every`, `at`, `log_spaced`, and any schedules joined by ``|``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wdyn.errors import InvalidArgument

_NEVER = "never"
Decision = Callable[[int], bool]


class Listener(Protocol):
    """What decides by more than the number of the step: it is told what happens meanwhile."""

    def spent(self, seconds: float) -> None:
        """Learn what the row of the last due step cost."""

    def heard(self, name: str, value: float) -> None:
        """Learn a number that was logged."""


class Announcing(Protocol):
    """The processes of one training, of which the first chooses steps for all."""

    @property
    def rank(self) -> int:
        """Which of them this is."""

    def named(self, name: str) -> Announcing:
        """Give the same processes as they speak of one of several schedules, whose name is the same in all."""

    def announce(self, number: int, step: int) -> None:
        """Tell the step of row `number` of those that are chosen."""

    def announced(self, number: int) -> int:
        """Hear it."""


@dataclass(frozen=True)
class Schedule:
    """A decision for each step, asked once and in order; ``a | b`` is due when either is."""

    decide: Decision
    text: str
    listeners: tuple[Listener, ...] = ()
    """Those within `decide` that must be told what a row cost, and what was logged."""
    agree: Callable[[Announcing], Schedule] | None = None
    """Makes one that decides the same in every process; one without listeners does anyhow."""

    def __call__(self, step: int) -> bool:
        """Whether a row is due at `step`."""
        return self.decide(step)

    def __or__(self, other: Decision) -> Schedule:
        theirs = as_schedule(other, "a schedule")
        return Schedule(
            lambda step: self.decide(step) | theirs.decide(step),  # both are asked: they may count on it
            f"{self.text} | {theirs.text}",
            listeners(self, theirs),
            lambda others: self.agreed(others.named("left")) | theirs.agreed(others.named("right")),
        )

    def agreed(self, others: Announcing) -> Schedule:
        """Give the schedule by which several processes record the same steps.

        Raises
        ------
        InvalidArgument
            It decides by what happens in one process.
        """
        if not self.listeners:
            return self
        if self.agree is None:
            raise InvalidArgument(
                f"{self.text} decides by what one process sees, and here several record together: use steps that all "
                f"know, as in every(100) or log_spaced(1, 10_000, 50), or budget(0.01)"
            )
        return self.agree(others)

    @property
    def never(self) -> bool:
        """Whether no step is ever due."""
        return self.text == _NEVER

    def spent(self, seconds: float) -> None:
        """Tell what the row of the last due step cost."""
        for one in self.listeners:
            one.spent(seconds)

    def __repr__(self) -> str:
        return self.text


def every(n: int) -> Schedule:
    """Due at every multiple of `n`, step 0 included.

    Raises
    ------
    InvalidArgument
        `n` is not a positive whole number.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InvalidArgument(f"every={n!r}: needed is a whole number of steps, 1 or more; every=1 records each step")
    return Schedule(lambda step: step % n == 0, f"every({n})")


def at(*steps: int) -> Schedule:
    """Due at the steps named.

    Raises
    ------
    InvalidArgument
        A step is not a whole number, or negative.
    """
    for step in steps:
        if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
            raise InvalidArgument(f"at({step!r}): needed are whole step numbers, 0 or more, as in at(0, 100, 1000)")
    chosen = frozenset(int(step) for step in steps)
    return Schedule(lambda step: step in chosen, f"at({', '.join(map(str, sorted(chosen)))})")


def log_spaced(first: int, last: int, count: int) -> Schedule:
    """Due at up to `count` steps from `first` to `last`, evenly spaced in their logarithm and rounded.

    Raises
    ------
    InvalidArgument
        Not 1 <= first <= last, or a count below 1.
    """
    if not (1 <= first <= last and count >= 1):
        raise InvalidArgument(
            f"log_spaced({first!r}, {last!r}, {count!r}): needed are 1 <= first <= last and count >= 1, "
            f"as in log_spaced(1, 10_000, 20)"
        )
    chosen = frozenset(np.rint(np.geomspace(first, last, count)).astype(int).tolist())
    return Schedule(lambda step: step in chosen, f"log_spaced({first}, {last}, {count})")


def powers(ratio: int) -> Schedule:
    """Due at step 0 and at every power of `ratio`, without end."""

    def decide(step: int) -> bool:
        while step > 1 and step % ratio == 0:
            step //= ratio
        return step in (0, 1)

    return Schedule(decide, f"powers of {ratio}")


def listeners(*schedules: Schedule | None) -> tuple[Listener, ...]:
    """Give all listeners of some schedules, each once, though two schedules may hold it."""
    return tuple(dict.fromkeys(one for schedule in schedules if schedule is not None for one in schedule.listeners))


def as_schedule(value: int | Decision | None, name: str) -> Schedule:
    """Read an argument: a number of steps, a schedule, any function of the step, or None for never.

    Raises
    ------
    InvalidArgument
        It is nothing of these.
    """
    if value is None:
        return Schedule(lambda step: False, _NEVER)
    if isinstance(value, Schedule):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0:
        return every(int(value))
    if callable(value):
        return Schedule(lambda step: bool(value(step)), getattr(value, "__name__", type(value).__name__))
    raise InvalidArgument(
        f"{name}={value!r}: needed is a number of steps, 1 or more, a schedule such as wdyn.every(100), or None"
    )
