"""How does a Lightning ``Trainer`` record? By a callback, which goes into its checkpoints too."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from wdyn.handle import Watch
from wdyn.integrations.attempts import Attempts

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:  # the same library has two names, and each has classes of its own
    if find_spec("lightning") is not None:
        from lightning.pytorch import Callback
    else:
        from pytorch_lightning import Callback


class WdynCallback(Callback):
    """Record what a Lightning ``Trainer`` does to the weights::

        Trainer(..., callbacks=[WdynCallback("run.zarr", every=10)])

    With one optimizer a row stands at the Trainer's ``global_step``; steps that mixed precision skipped have none. With
    several a step is a round of them, ended by the last that ``configure_optimizers`` gives, while ``global_step``
    counts the step of each. Automatic and manual optimization are the same.

    What the module logs (``trainer.callback_metrics``) is kept when it is new: of training at the row of the weights
    that it was computed with, of validation and of epochs where these end. In automatic optimization ``loss`` is kept
    anyway, the mean over accumulated batches. Where the Trainer clips by norm, the norm before clipping is kept, as
    `wdyn.watch_clipping` tells it.

    The count of steps is in every checkpoint of the Trainer, and ``fit(ckpt_path=...)`` continues the run from there,
    so rows that came after it are superseded. Of several processes record those that `wdyn.watch` says. The run is
    closed when training ends, also by an exception.

    Parameters
    ----------
    to
        Where the run goes. Default: ``run.zarr`` in the ``default_root_dir`` of the Trainer.
    **options
        Those of `wdyn.watch`.

    Raises
    ------
    TypeError
        `wdyn.watch` has no such option.
    """

    def __init__(self, to: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self._attempts = Attempts(to, options)
        self._loaded: dict[str, int] | None = None
        self._known: dict[str, Tensor] = {}
        self._loss: Tensor | None = None

    @property
    def watch(self) -> Watch | None:
        """The `wdyn.Watch` of the last training, on which more can be logged; None before the first."""
        return self._attempts.watch

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint holds: the count of steps."""
        return {} if self.watch is None else self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of a checkpoint."""
        self._loaded = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to record: weights, optimizers and counts of a checkpoint are loaded by now."""
        self._attempts.begin(
            pl_module,
            trainer.optimizers,
            folder=trainer.default_root_dir,
            count=self._begun(trainer),
            continues=trainer.global_step > 0,
            first=trainer.is_global_zero,
        )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Add up the parts of a loss, which Lightning has divided by the number of accumulated batches."""
        if self._attempts.running is not None and pl_module.automatic_optimization:
            self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep what was logged with the weights that this step will change."""
        if (running := self._attempts.running) is None:
            return
        if len(running.optimizers) == 1:
            running.count_on(trainer.global_step)  # which holds skipped steps too
        if self._loss is not None:
            running.log(loss=self._loss)
            self._loss = None
        self._log_metrics(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what validation told."""
        self._log_metrics(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what is told of an epoch."""
        self._log_metrics(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the run."""
        self._attempts.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the run."""
        self._attempts.end()

    def _begun(self, trainer: Trainer) -> dict[str, int]:
        """Give the count to begin with: a checkpoint's, that of the training before, or Lightning's."""
        loaded, self._loaded = self._loaded, None
        if loaded is None and self.watch is not None and trainer.global_step:
            loaded = self.watch.state_dict()
        return loaded or {"step": trainer.global_step}

    def _log_metrics(self, trainer: Trainer) -> None:
        """Log those that are new: the Trainer keeps the old ones beside them."""
        if (running := self._attempts.running) is None:
            return
        metrics = dict(trainer.callback_metrics)
        running.log(**{name: value for name, value in metrics.items() if value is not self._known.get(name)})
        self._known = metrics
