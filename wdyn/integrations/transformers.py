"""How does a Hugging Face ``Trainer`` record? By a callback, under the Trainer's own step numbers."""

from __future__ import annotations

import os
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wdyn.handle import Watch
from wdyn.integrations.attempts import Attempts

_RECORDED_ANYWAY = frozenset({"learning_rate", "grad_norm", "epoch"})
"""What the Trainer logs and the run holds already: the first two of every step, at the row that they belong to."""


class WdynCallback(TrainerCallback):
    """Record what a ``transformers.Trainer`` does to the weights::

        Trainer(..., callbacks=[WdynCallback("run.zarr", every=10)])

    A row stands at the Trainer's ``global_step``; steps that mixed precision skipped have none. Each has the learning
    rate that was used for it, and the norm of the gradient before clipping, as `wdyn.watch_clipping` tells it. What the
    Trainer logs is kept as it is, at the step where it logs: its ``loss`` is the mean since it logged last.

    A training that resumes from a checkpoint continues the run from the step of that checkpoint, so rows that came
    after it are superseded. With ``load_best_model_at_end`` the last row is of the last step, before the weights jump
    back. Of several processes record those that `wdyn.watch` says.

    The run is closed when training ends. Nobody tells a callback of an exception: then it is closed when the program
    ends, when the Trainer trains again, by `close`, or at the end of a block::

        with WdynCallback("run.zarr") as recording:
            Trainer(..., callbacks=[recording]).train()

    Parameters
    ----------
    to
        Where the run goes. Default: ``run.zarr`` in the ``output_dir`` of the Trainer.
    **options
        Those of `wdyn.watch`.

    Raises
    ------
    TypeError
        `wdyn.watch` has no such option.
    """

    def __init__(self, to: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self._attempts = Attempts(to, options)

    @property
    def watch(self) -> Watch | None:
        """The `wdyn.Watch` of the last training, on which more can be logged; None before the first."""
        return self._attempts.watch

    def close(self) -> None:
        """End the recording, where an exception left it open. Safe to call twice."""
        self._attempts.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Begin to record: weights, optimizer and step count of a checkpoint are loaded by now."""
        if model is None:
            return
        was_cut_off = self._attempts.running is not None  # as when the Trainer tries again with smaller batches
        self.close()
        self._attempts.begin(
            model,
            optimizer,
            folder=args.output_dir or "",
            count={"step": state.global_step},
            continues=was_cut_off or state.global_step > 0,
            first=state.is_world_process_zero,
        )

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over the Trainer's count, which holds skipped steps too."""
        if (running := self._attempts.running) is not None:
            running.count_on(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep what the Trainer tells of losses and evaluations; its summary comes when the last step was made."""
        if (running := self._attempts.running) is not None:
            running.log(**{name: value for name, value in (logs or {}).items() if name not in _RECORDED_ANYWAY})
            if "train_runtime" in (logs or {}):
                self._keep_last(args)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See to the last row, where this epoch is the last."""
        if control.should_training_stop:
            self._keep_last(args)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """See to the last row, where an evaluation has just stopped the training."""
        if control.should_training_stop:
            self._keep_last(args)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the run."""
        self.close()

    def _keep_last(self, args: TrainingArguments) -> None:
        """Record the last row before the Trainer puts the best weights in the place of the last.

        Its summary comes before that in some of its versions, and after it in others.
        """
        if (running := self._attempts.running) is not None and args.load_best_model_at_end:
            running.row()
