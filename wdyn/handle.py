"""What does a user hold while a block runs? It is tied to the training by hooks: in at the start, out at the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NoReturn, Self

from torch import nn
from torch.optim import Optimizer

from wdyn.capture.hooks import attach
from wdyn.capture.plan import Plan
from wdyn.capture.processes import stands_by
from wdyn.capture.spread import divided_tensors
from wdyn.capture.termination import Termination, check_main_thread
from wdyn.errors import InvalidArgument
from wdyn.recording import Recording
from wdyn.standing_by import StandingBy


class Watch:
    """A recording in progress, made by `watch`; the object of the ``with`` block.

    A program that exits inside the block loses nothing. Where the block is entered by hand, as over several cells of a
    notebook, ``w = wdyn.watch(...); w.__enter__()``, call `close` at its end; a watch that nobody holds closes itself.
    """

    def __init__(self, model: nn.Module, optimizers: tuple[Optimizer, ...], plan: Plan) -> None:
        self._model, self._optimizers, self._plan = model, optimizers, plan
        self._loaded_step: int | None = None
        self._recording: Recording | StandingBy | None = None
        self._exit: ExitStack | None = None

    @property
    def model(self) -> nn.Module:
        """The module that is watched."""
        return self._model

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Those that end its steps, without the wrappers around them."""
        return self._optimizers

    @property
    def committed(self) -> int:
        """Last step that is durable and visible to readers; -1 for none.

        Where several processes record, the first knows it; others hear of it a little later.
        """
        return -1 if self._recording is None else self._recording.committed

    def log(self, **scalars: Any) -> None:
        """Keep numbers, such as ``loss=loss``, at the present step; a tensor on a device is not waited for.

        A value belongs to the count of steps made when it is logged: a loss logged before ``optimizer.step()`` is
        the loss of the weights of that row. The last value of a name wins. Of several processes that record together,
        the first keeps what it logs: a mean over all is to be made before.
        """
        self._running("log").log(scalars)

    def step(self) -> None:
        """Count a step, in a loop that has no optimizer.

        Raises
        ------
        InvalidArgument
            An optimizer counts the steps already.
        """
        if self._optimizers:
            raise InvalidArgument(
                "w.step() would count each step twice, since the optimizer counts them; leave it out, "
                "or watch with optimizer=None"
            )
        self._running("step").after_step()

    def snapshot(self) -> None:
        """Keep all weights exactly, at the present step; waits for room in the queue.

        Where several processes record, each must call it: else the snapshot is left out.
        """
        self._running("snapshot").snapshot()

    def row(self) -> None:
        """Record a row now, as the end of the block does: before other weights are loaded, which are of no step."""
        self._running("row").row()

    def count_on(self, step: int) -> None:
        """Count on from `step`, for a trainer whose own count holds steps that its GradScaler skipped.

        The skipped ones have no row. A step below the present one changes nothing.
        """
        self._running("count_on").count_on(step)

    def flush(self) -> int:
        """Wait until all that was recorded is durable and visible; return the last committed step.

        Where several processes record, the first waits for all; another only until its share lies where that takes it.
        """
        return self._running("flush").flush()

    def close(self) -> None:
        """Do what the end of the block does, for a watch that was entered by hand. Safe to call twice."""
        if self._exit is not None:
            self._exit.close()

    def state_dict(self) -> dict[str, int]:
        """Give what the user's own checkpoint should hold, so that a resumed run counts on from it."""
        return {"step": self._running("state_dict").step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Take up the step count of a checkpoint, before the block is entered.

        Raises
        ------
        InvalidArgument
            The block is already entered, or `state` is none that `state_dict` gave.
        """
        if self._recording is not None:
            raise InvalidArgument(
                "load_state_dict came after the block was entered, when the first row was written; call it before, "
                "as in: w = wdyn.watch(..., resume=True); w.load_state_dict(state); with w: ..."
            )
        step = state.get("step") if isinstance(state, Mapping) else None
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise InvalidArgument(f"load_state_dict got {state!r}; needed is what Watch.state_dict() gave")
        self._loaded_step = step

    def __enter__(self) -> Self:
        if self._recording is not None:
            raise InvalidArgument("this watch was entered before; make a new one with wdyn.watch(...)")
        if self._plan.flush_on_sigterm:
            check_main_thread()
        with ExitStack() as undo:
            recording = self._begun()
            self._recording = recording
            if self._plan.flush_on_sigterm:
                undo.callback(Termination(recording.flush, turn=recording.turn).restore)
            undo.callback(recording.finish)
            undo.push(attach(self._optimizers, before=recording.before_step, after=recording.after_optimizer))
            self._exit = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and self._recording is not None:
            self._recording.be_brief()
        self.close()

    def __del__(self) -> None:
        if self._exit is not None and self._recording is not None:
            self._recording.let_go()
            if threading.current_thread() is threading.main_thread():
                self.close()
            else:  # garbage is collected in any thread, also in the one that is to be waited for
                threading.Thread(target=self._exit.close).start()

    def __deepcopy__(self, memo: object) -> Self:
        return self  # who copies what holds a watch, such as a trainer, copies no recording

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Watch belongs to its process and cannot be pickled; leave it out of what is saved or sent")

    def _begun(self) -> Recording | StandingBy:
        plan, tensors = self._plan, divided_tensors(self._model)
        if stands_by(tensors, alone=plan.alone, check_replicas=plan.check_replicas):
            return StandingBy(self._optimizers, first_step=self._loaded_step or 0)
        return Recording(self._model, self._optimizers, plan, loaded_step=self._loaded_step)

    def _running(self, name: str) -> Recording | StandingBy:
        if self._recording is None:
            raise InvalidArgument(
                f"{name} was called before the block was entered; write: with wdyn.watch(...) as w: ..."
            )
        return self._recording
