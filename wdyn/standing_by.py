"""What does a process do whose weights the first process records? It counts steps, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from torch.optim import Optimizer

from wdyn.capture.optimizers import skipped_step
from wdyn.capture.turn import Turn


class StandingBy:
    """Stands where a `wdyn.recording.Recording` does, so that a loop is the same in every process.

    Attributes
    ----------
    step
        Count of the steps that were made.
    committed
        -1: what is durable only the first process knows.
    turn
        Within which a signal waits: never long.
    """

    committed = -1

    def __init__(self, optimizers: tuple[Optimizer, ...], *, first_step: int) -> None:
        self.step = first_step
        self.turn = Turn()
        self._optimizers = optimizers

    def log(self, scalars: Mapping[str, object]) -> None:
        """Keep nothing."""

    def before_step(self, optimizer: Optimizer, with_closure: bool) -> None:
        """Do nothing."""

    def after_optimizer(self, optimizer: Optimizer, with_closure: bool) -> None:
        """Count a step when the last of several optimizers has made it."""
        if optimizer is self._optimizers[-1] and not skipped_step(optimizer):
            self.step += 1

    def after_step(self) -> None:
        """Count a step that no optimizer made."""
        self.step += 1

    def snapshot(self) -> None:
        """Keep nothing."""

    def row(self) -> None:
        """Record nothing."""

    def count_on(self, step: int) -> None:
        """Leave out the numbers of steps that changed nothing."""
        self.step = max(self.step, step)

    def flush(self) -> int:
        """Wait for nothing."""
        return self.committed

    def be_brief(self) -> None:
        """Nothing takes long."""

    def finish(self) -> None:
        """End nothing."""

    def let_go(self) -> None:
        """Tell nobody."""
