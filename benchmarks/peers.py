"""How are other tools asked to do the same? As their manuals say, without a server and without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor


@contextmanager
def wandb_run(folder: Path) -> Iterator[Any]:
    """Open a run of Weights & Biases that stays on this machine."""
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    settings = wandb.Settings(x_disable_stats=True, x_disable_meta=True, console="off")
    with wandb.init(mode="offline", dir=folder, project="benchmark", settings=settings) as run:
        yield run


@contextmanager
def tensorboard_writer(folder: Path) -> Iterator[Any]:
    """Open a log of TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        yield writer


@contextmanager
def wandb_statistics(tensors: Sequence[Tensor], folder: Path) -> Iterator[Callable[[], None]]:
    """Give what `wandb.watch` does with every tensor when it logs: a histogram between its extremes."""
    with wandb_run(folder) as run:
        from wandb.integration.torch.wandb_torch import TorchHistory

        history = TorchHistory()

        def log() -> None:
            for number, tensor in enumerate(tensors):
                history.log_tensor_stats(tensor, f"parameters/{number}")
            run.log({})

        yield log


@contextmanager
def tensorboard_histograms(tensors: Sequence[Tensor], folder: Path) -> Iterator[Callable[[], None]]:
    """Give what TensorBoard does with every tensor: a histogram over its fixed bins."""
    with tensorboard_writer(folder) as writer:

        def log() -> None:
            for number, tensor in enumerate(tensors):
                writer.add_histogram(f"parameters/{number}", tensor)

        yield log
