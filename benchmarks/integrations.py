"""What does recording cost where a trainer owns the loop? ``python -m benchmarks.integrations``, with and without.

Times are of whole trainings, what the trainer itself needs to begin and to end included, which differs between them:
compare a line with the one above it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

import wdyn
from benchmarks.harness import Table, installed, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import SUBJECTS, Subject
from wdyn.demo.model import GPT

STEPS_DUE = 10


class Learner(nn.Module):
    """A GPT that gives its own loss, as the Trainer of transformers wants it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = GPT(subject.shape)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Give the loss of the next token."""
        return {"loss": functional.cross_entropy(self.net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())}


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of every loop."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4)


def plain(model: Learner, batches: list[dict[str, Tensor]], folder: Path, *, record: bool) -> None:
    """Train by a loop of one's own."""
    optimizer = adamw(model)
    with wdyn.watch(model, optimizer, to=folder / "run.zarr", every=STEPS_DUE) if record else nullcontext():
        for batch in batches:
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accelerated(model: Learner, batches: list[dict[str, Tensor]], folder: Path, *, record: bool) -> None:
    """Train by a loop of accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared, optimizer = accelerator.prepare(model, adamw(model))
    with wdyn.watch(prepared, optimizer, to=folder / "run.zarr", every=STEPS_DUE) if record else nullcontext():
        for batch in batches:
            loss = prepared(**batch)["loss"]
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()


def by_trainer(model: Learner, batches: list[dict[str, Tensor]], folder: Path, *, record: bool) -> None:
    """Train by the Trainer of transformers, which also clips and logs."""
    from transformers import Trainer, TrainingArguments

    from wdyn.integrations.transformers import WdynCallback

    class Own(Trainer):
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(batches, batch_size=None)

    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=len(batches),
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    callbacks = [WdynCallback(every=STEPS_DUE)] if record else []
    Own(model=model, args=args, optimizers=(optimizer, schedule), callbacks=callbacks).train()


def by_lightning(model: Learner, batches: list[dict[str, Tensor]], folder: Path, *, record: bool) -> None:
    """Train by the Trainer of Lightning."""
    import pytorch_lightning as pl

    from wdyn.integrations.lightning import WdynCallback

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # which its import has set

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss: Tensor = self.model(**batch)["loss"]
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adamw(self.model)

    pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[WdynCallback(every=STEPS_DUE)] if record else [],
    ).fit(Module(), torch.utils.data.DataLoader(batches, batch_size=None))


LOOPS = {"": plain, "accelerate": accelerated, "transformers": by_trainer, "pytorch_lightning": by_lightning}
"""By the library that each needs."""


def training(loop: Callable[..., None], subject: Subject, *, steps: int, record: bool) -> Callable[[], float]:
    """Make a measurement of one training."""
    source = torch.Generator().manual_seed(0)
    shape = (subject.batch, subject.length + 1)
    batches = [{"tokens": torch.randint(subject.shape.alphabet, shape, generator=source)} for _ in range(steps)]

    def measured() -> float:
        model = Learner(subject)
        with scratch() as folder:
            return seconds(lambda: loop(model, batches, folder, record=record))()

    return measured


@click.command()
@click.option("--subject", default="char-small-batch", show_default=True, type=click.Choice(list(SUBJECTS)))
@click.option("--steps", default=100, show_default=True, help="Steps of one training.")
@options()
def main(subject: str, steps: int, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure what recording costs in each kind of loop that can be tried here. Takes 3 minutes."""
    warnings.simplefilter("ignore")
    work = {
        f"{library or 'plain loop'}{', recorded' if record else ''}": training(
            loop, SUBJECTS[subject], steps=steps, record=record
        )
        for library, loop in LOOPS.items()
        if not library or (peers and installed(library))
        for record in (False, True)
    }
    found = side_by_side(work, rounds=rounds)
    rows = []
    for name, values in found.items():
        alone = median(found[name.removesuffix(", recorded")])
        rows.append((name, 1e3 * median(values) / steps, median(values) / alone))
    title = f"{SUBJECTS[subject].title}, {steps} steps, a row every {STEPS_DUE}"
    publish([Table(title, ("", "ms a step", "x without"), tuple(rows), found)], file=file, steps=steps, subject=subject)


if __name__ == "__main__":
    main()
