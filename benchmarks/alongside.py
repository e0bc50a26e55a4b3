"""What does one training cost with one tool beside it? A process for itself, which tells its figures as JSON.

`benchmarks.overhead` starts one for each tool, so that neither imports nor memory mix.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

import wdyn
from benchmarks import peers
from benchmarks.harness import scratch, seconds
from benchmarks.subjects import SUBJECTS, training

UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
FIRST_STEPS = 2


class Stopwatch:
    """Seconds that the loop spends in a tool."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def start(self, *ignored: object) -> None:
        """Go on; also as an optimizer's hook."""
        self._since = time.perf_counter()

    def stop(self, *ignored: object) -> None:
        """Stop; also as an optimizer's hook."""
        self.seconds += time.perf_counter() - self._since

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the time of every call of a function."""

        def call(*given: Any, **named: Any) -> Any:
            self.start()
            try:
                return function(*given, **named)
            finally:
                self.stop()

        return call


@dataclass(frozen=True)
class Setting:
    """A training, and where and how often a tool may log it."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    folder: Path
    every: int
    watch: Stopwatch

    def due(self, step: int) -> bool:
        """Whether a tool logs this step."""
        return step % self.every == 0


AfterStep = Callable[[int, torch.Tensor], object]


@contextmanager
def nothing(setting: Setting) -> Iterator[AfterStep]:
    """Train alone."""
    yield lambda step, loss: None


@contextmanager
def recorded(setting: Setting, every: int | None) -> Iterator[AfterStep]:
    """Record with wdyn; the clock's hooks stand around wdyn's."""
    optimizer, clock = setting.optimizer, setting.watch
    optimizer.register_step_pre_hook(clock.start)
    optimizer.register_step_post_hook(clock.start)
    with wdyn.watch(setting.model, optimizer, to=setting.folder / "run.zarr", every=every) as watch:
        optimizer.register_step_pre_hook(clock.stop)
        optimizer.register_step_post_hook(clock.stop)
        yield lambda step, loss: watch.log(loss=loss)


@contextmanager
def wandb_watched(setting: Setting) -> Iterator[AfterStep]:
    """Watch with Weights & Biases: histograms of weights and gradients."""
    with peers.wandb_run(setting.folder) as run:
        from wandb.integration.torch.wandb_torch import TorchHistory

        TorchHistory.log_tensor_stats = setting.watch.timed(TorchHistory.log_tensor_stats)
        run.watch(setting.model, log="all", log_freq=setting.every)
        yield setting.watch.timed(lambda step, loss: run.log({"loss": loss.item()}))


@contextmanager
def tensorboard(setting: Setting) -> Iterator[AfterStep]:
    """Log histograms of weights and gradients to TensorBoard."""
    with peers.tensorboard_writer(setting.folder) as writer:

        def log(step: int, loss: torch.Tensor) -> None:
            writer.add_scalar("loss", loss, step)
            for name, parameter in setting.model.named_parameters() if setting.due(step) else ():
                writer.add_histogram(f"weights/{name}", parameter, step)
                writer.add_histogram(f"gradients/{name}", parameter.grad, step)

        yield setting.watch.timed(log)


@contextmanager
def checkpoints(setting: Setting) -> Iterator[AfterStep]:
    """Save the weights instead, to a new file each time."""

    def save(step: int, loss: torch.Tensor) -> None:
        if setting.due(step):
            torch.save(setting.model.state_dict(), setting.folder / f"{step}.pt")

    yield setting.watch.timed(save)


CASES = {
    "nothing": nothing,
    "wdyn": lambda setting: recorded(setting, None),
    "wdyn, each": lambda setting: recorded(setting, setting.every),
    "wandb.watch": wandb_watched,
    "TensorBoard": tensorboard,
    "torch.save": checkpoints,
}


@dataclass(frozen=True)
class Figures:
    """What one training took."""

    step: float
    """Seconds of a step, over all but the first ones."""
    blocked: float
    """Of these, seconds in the tool."""
    once: float
    """Seconds to begin and to end, and in the tool at the first steps."""
    memory: int
    """Peak of this process, in bytes."""
    disk: int


def measure(case: str, subject: str, *, steps: int, every: int) -> Figures:
    """Train, and tell what it took."""
    model, optimizer, step = training(SUBJECTS[subject])
    step()
    clock = Stopwatch()
    with scratch() as folder:
        tool = CASES[case](Setting(model, optimizer, folder, every, clock))
        started = time.perf_counter()
        after = tool.__enter__()
        entered = time.perf_counter() - started

        def train(first: int, last: int) -> None:
            for number in range(first, last):
                after(number, step())

        train(1, 1 + FIRST_STEPS)
        first = clock.seconds
        wall = seconds(lambda: train(1 + FIRST_STEPS, 1 + FIRST_STEPS + steps))()
        blocked = clock.seconds - first
        left = seconds(lambda: tool.__exit__(None, None, None))()
        disk = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
    return Figures(wall / steps, blocked / steps, entered + first + left, memory, disk)


@click.command()
@click.argument("case", type=click.Choice(list(CASES)))
@click.argument("subject", type=click.Choice(list(SUBJECTS)))
@click.option("--steps", default=60, show_default=True, help="Steps that are timed, after two others.")
@click.option("--every", default=1, show_default=True, help="Steps from one log to the next.")
@click.option("--threads", default=2, show_default=True, help="Threads that torch uses.")
def main(case: str, subject: str, steps: int, every: int, threads: int) -> None:
    """Train SUBJECT with the tool CASE beside it, and tell what it took."""
    torch.set_num_threads(threads)
    click.echo(json.dumps(asdict(measure(case, subject, steps=steps, every=every))))


if __name__ == "__main__":
    main()
