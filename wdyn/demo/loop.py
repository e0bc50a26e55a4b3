"""How does one watch a training loop? This is the whole of one; wdyn is four lines of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

import wdyn
from wdyn.demo.model import GPT, Shape
from wdyn.demo.text import batches, corpus

RUN = "run.zarr"
"""What the recording is called, in the directory that the demo is given."""

PEAK_RATE = 2e-3
WARMUP_SHARE = 0.05
SNAPSHOTS = 12


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: the matrices are so small that a second one would mostly wait for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(
    directory: str | Path, *, steps: int = 600, seed: int = 1337, shape: Shape | None = None, progress: bool = True
) -> Path:
    """Train a small GPT on the manual of Python, watched.

    Parameters
    ----------
    directory
        Where the recording goes; made if needed.
    steps
        How many batches to learn from.
    seed
        Where first values, batches and dropout come from.
    shape
        How large the model is; by default 0.7 million parameters.
    progress
        Whether to show a bar with the loss.

    Returns
    -------
    Path
        The run: ``run.zarr`` in `directory`.

    Raises
    ------
    RunExists
        If there is one already.
    """
    to = Path(directory) / RUN
    text = corpus()
    torch.manual_seed(seed)
    shape = shape or Shape(alphabet=len(text.alphabet))
    model = GPT(shape)
    optimizer = torch.optim.AdamW(decay_groups(model), lr=PEAK_RATE, betas=(0.9, 0.99))
    schedule = LambdaLR(optimizer, lambda step: warmup_then_cosine(step, steps))

    snapshots = wdyn.log_spaced(1, steps, SNAPSHOTS)
    watch = wdyn.watch(model, optimizer, to=to, every=10, snapshots=snapshots)
    with watch as w, wdyn.watch_clipping(w), bar(steps, shown=progress) as show:
        pairs = batches(text.tokens, size=16, length=shape.length, seed=seed)
        for _, (x, y) in zip(range(steps), pairs, strict=False):
            loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            w.log(loss=loss)
            optimizer.step()
            schedule.step()
            show(loss.item())
    return to


def decay_groups(model: nn.Module) -> list[dict[str, object]]:
    """Split parameters for AdamW: matrices decay, biases and norms do not."""
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]


def warmup_then_cosine(step: int, steps: int) -> float:
    """Give the share of the peak rate: up in a line, down half a cosine to a tenth."""
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2


class Show(Protocol):
    """Moves the bar on by one step."""

    def __call__(self, loss: float, /) -> None:
        """Show the loss of that step."""


@contextmanager
def bar(steps: int, *, shown: bool) -> Iterator[Show]:
    """Show how far training is, and its loss."""
    columns = (
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    # On standard error: what the program says goes to the other stream.
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as display:
        task = display.add_task("training", total=steps, loss="")
        yield lambda loss: display.update(task, advance=1, loss=f"loss {loss:.2f}")
