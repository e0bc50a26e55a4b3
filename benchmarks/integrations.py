"""What does recording cost where a trainer owns the loop? ``python -m benchmarks.integrations``, each with and without.

In every kind of loop the same model is trained alone, beside wdyn, and beside other tools that log its weights and
gradients at the same steps. What a trainer does besides differs between them: compare the lines of one.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

import wdyn
from benchmarks import peers
from benchmarks.harness import Table, installed, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import SUBJECTS, Subject
from wdyn.demo.model import GPT

EVERY = 10
"""Steps from one log to the next; the first so many are not timed."""

Batches = Sequence[Mapping[str, Tensor]]


class Learner(nn.Module):
    """A GPT that gives its own loss, as the Trainer of transformers wants it."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = GPT(subject.shape)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Give the loss of the next token."""
        return {"loss": functional.cross_entropy(self.net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())}


# Loops.


def plain(model: Learner, optimizer: Optimizer, batches: Batches, folder: Path, *, record: bool) -> None:
    """Train by a loop of one's own."""
    with wdyn.watch(model, optimizer, to=folder / "run.zarr", every=EVERY) if record else nullcontext():
        for batch in batches:
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accelerated(model: Learner, optimizer: Optimizer, batches: Batches, folder: Path, *, record: bool) -> None:
    """Train by a loop of accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared, wrapped = accelerator.prepare(model, optimizer)
    with wdyn.watch(prepared, wrapped, to=folder / "run.zarr", every=EVERY) if record else nullcontext():
        for batch in batches:
            loss = prepared(**batch)["loss"]
            wrapped.zero_grad()
            accelerator.backward(loss)
            wrapped.step()


def by_trainer(model: Learner, optimizer: Optimizer, batches: Batches, folder: Path, *, record: bool) -> None:
    """Train by the Trainer of transformers, which also clips."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

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
        dataloader_pin_memory=False,
    )
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    callbacks = [WdynCallback(every=EVERY)] if record else []
    trainer = Own(model=model, args=args, optimizers=(optimizer, schedule), callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def by_lightning(model: Learner, optimizer: Optimizer, batches: Batches, folder: Path, *, record: bool) -> None:
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

        def configure_optimizers(self) -> Optimizer:
            return optimizer

    pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[WdynCallback(every=EVERY)] if record else [],
    ).fit(Module(), torch.utils.data.DataLoader(batches, batch_size=None))


LOOPS = {"plain loop": plain, "accelerate": accelerated, "transformers": by_trainer, "pytorch_lightning": by_lightning}
"""By a heading; but for the first, the name of the library that each needs."""


# Tools.

Beside = Callable[[nn.Module, Optimizer, Path], AbstractContextManager[None]]


@contextmanager
def nothing(model: nn.Module, optimizer: Optimizer, folder: Path) -> Iterator[None]:
    """Have no other tool beside the training."""
    yield


@contextmanager
def wandb_watched(model: nn.Module, optimizer: Optimizer, folder: Path) -> Iterator[None]:
    """Watch with Weights & Biases: histograms of weights and gradients."""
    with peers.wandb_run(folder) as run:
        run.watch(model, log="all", log_freq=EVERY)
        optimizer.register_step_post_hook(lambda *given: run.log({"made": 1}))
        yield


@contextmanager
def tensorboard(model: nn.Module, optimizer: Optimizer, folder: Path) -> Iterator[None]:
    """Log histograms of weights and gradients to TensorBoard."""
    made = 0

    def log(*given: object) -> None:
        nonlocal made
        made += 1
        for name, parameter in model.named_parameters() if made % EVERY == 0 else ():
            writer.add_histogram(f"weights/{name}", parameter, made)
            writer.add_histogram(f"gradients/{name}", parameter.grad, made)

    with peers.tensorboard_writer(folder) as writer:
        optimizer.register_step_post_hook(log)
        yield


ALONE, RECORDED = "", "wdyn"
TOOLS: Mapping[str, Beside] = {
    ALONE: nothing,
    RECORDED: nothing,
    'wandb.watch(log="all")': wandb_watched,
    "TensorBoard histograms": tensorboard,
}
NEEDS = {'wandb.watch(log="all")': "wandb", "TensorBoard histograms": "tensorboard"}


# Measurements.


@dataclass(frozen=True)
class Figures:
    """What one training took, in seconds."""

    step: float
    """Of one step: the mean of all behind the first `EVERY`, from the end of one optimizer's step to the next."""
    once: float
    """Of what comes before the first step and behind the last, by trainer and tool."""


def training(loop: Callable[..., None], tool: str, subject: Subject, *, steps: int) -> Callable[[], Figures]:
    """Make a measurement of one training."""
    source = torch.Generator().manual_seed(0)
    shape = (subject.batch, subject.length + 1)
    batches = [{"tokens": torch.randint(subject.shape.alphabet, shape, generator=source)} for _ in range(steps)]

    def measured() -> Figures:
        model, ends = Learner(subject), list[float]()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        optimizer.register_step_post_hook(lambda *given: ends.append(time.perf_counter()))

        def train() -> None:
            with TOOLS[tool](model, optimizer, folder), redirect_stdout(StringIO()):
                loop(model, optimizer, batches, folder, record=tool == RECORDED)

        with scratch() as folder:
            whole = seconds(train)()
        step = (ends[-1] - ends[EVERY - 1]) / (steps - EVERY)
        return Figures(step, whole - (ends[-1] - ends[0]) - step)

    return measured


def table(title: str, found: Mapping[str, Sequence[Figures]]) -> Table:
    """Tabulate medians; what a tool multiplies is compared within each round, in which all lines had their turn."""
    rows = []
    for name, values in found.items():
        alone = found[name.partition(" + ")[0]]
        times = median(one.step / other.step for one, other in zip(values, alone, strict=True))
        step, once = median(one.step for one in values), median(one.once for one in values)
        rows.append((name, 1e3 * step, times, 1e3 * once))
    return Table(title, ("", "ms a step", "x without", "once ms"), tuple(rows), found)


@click.command()
@click.option("--subject", default="char-small-batch", show_default=True, type=click.Choice(list(SUBJECTS)))
@click.option("--steps", default=40, show_default=True, type=click.IntRange(2 * EVERY), help="Steps of one training.")
@options(rounds=3)
def main(subject: str, steps: int, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure what recording costs in each kind of loop that can be tried here. Takes 4 minutes.

    "once" is what trainer and tool need to begin and to end.
    """
    warnings.simplefilter("ignore")
    first = next(iter(LOOPS))
    loops = {name: loop for name, loop in LOOPS.items() if name == first or (peers and installed(name))}
    tools = [tool for tool in TOOLS if tool not in NEEDS or (peers and installed(NEEDS[tool]))]
    found = side_by_side(
        {
            f"{name} + {tool}" if tool else name: training(loop, tool, SUBJECTS[subject], steps=steps)
            for name, loop in loops.items()
            for tool in tools
        },
        rounds=rounds,
    )
    title = f"{SUBJECTS[subject].title}, {steps} steps, logged every {EVERY}"
    publish([table(title, found)], file=file, rounds=rounds, steps=steps, subject=subject)


if __name__ == "__main__":
    main()
