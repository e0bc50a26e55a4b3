"""What does a recording take from a training? ``python -m benchmarks.recording`` trains with and without, in turns.

Three copies of one training take turns in one process, a block of steps each: not recorded, recorded as by default, and
recorded at every step. Single blocks differ by more than the 1 % that the default may take, so the middle of many is
told, beside the recording's account of itself. What is still being written when a block ends is waited for outside it,
so that it burdens no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median, quantiles

import click
from torch import nn

import wdyn
from benchmarks.harness import Table, medians, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import CHAR, SUBJECTS, StandStill, Subject, training
from wdyn.demo.model import GPT

ALONE, DEFAULT, EVERY = "not recorded", "default", "every step"
DEFAULTS = ("char-small-batch", "char", "gpt2-small")
BLOCK_SECONDS = 10.0
SHARE = 0.01


@dataclass(frozen=True)
class Taken:
    """What a recording took of the time that it lasted, told by itself."""

    steps: int
    rows: int
    waited: float
    """Seconds for which the loop waited."""
    worked: float
    """Seconds for which the writer worked beside it."""


def account(run: Path) -> Taken:
    """Read a recording's account of itself."""
    opened = wdyn.open_run(run)
    scalars = opened["scalars"].to_dataset()
    rows = opened["statistics/weights"].sizes["step"]
    return Taken(
        scalars.sizes["step"] - 1, rows, float(scalars["capture_seconds"].sum()), float(scalars["write_seconds"].sum())
    )


@contextmanager
def blocks(subject: Subject, folder: Path, *, block_seconds: float) -> Iterator[dict[str, Callable[[], float]]]:
    """Give measurements by case: how long a block of steps takes, all of the same count."""
    cases = {ALONE: None, DEFAULT: wdyn.budget(SHARE / 3), EVERY: wdyn.every(1)}  # all three wait while one trains
    trainings = {name: training(subject) for name in cases}
    one = seconds(trainings[ALONE][2])
    one()
    steps = max(1, round(block_seconds / median(one() for _ in range(3))))
    for _, _, step in trainings.values():
        step()
    with ExitStack() as stack:
        watches = {
            name: stack.enter_context(wdyn.watch(*trainings[name][:2], to=folder / name, every=every))
            for name, every in cases.items()
            if every is not None
        }
        yield {name: block(step, steps, watches.get(name)) for name, (_, _, step) in trainings.items()}


def block(step: Callable[[], object], steps: int, watch: wdyn.Watch | None) -> Callable[[], float]:
    """Make a measurement: the seconds of a step, over a block of them."""

    def train() -> None:
        for _ in range(steps):
            loss = step()
            if watch is not None:
                watch.log(loss=loss)

    def measured() -> float:
        took = seconds(train)()
        if watch is not None:
            watch.flush()
        return took / steps

    return measured


def long(subject: Subject, *, total: float, block_seconds: float) -> Table:
    """Measure what recordings of `total` seconds take."""
    rounds = max(2, round(total / block_seconds))
    with scratch() as folder:
        with blocks(subject, folder, block_seconds=block_seconds) as work:
            found = side_by_side(work, rounds=rounds, warm_up=False)  # the costly first rows are part of a recording
        taken = {name: account(folder / name) for name in (DEFAULT, EVERY)}
    return shares(f"{subject.title}, in blocks of {block_seconds:.0f} s", found, taken)


def shares(title: str, found: Mapping[str, Sequence[float]], taken: Mapping[str, Taken]) -> Table:
    """Tabulate what recordings took, in percent of the time without."""
    rows = []
    for name, one in taken.items():
        more = [100 * (a / b - 1) for a, b in zip(found[name], found[ALONE], strict=True)]
        lower, middle, upper = quantiles(more, n=4, method="inclusive")
        wall = sum(found[name]) / len(found[name]) * one.steps
        whole = 100 * (sum(found[name]) / sum(found[ALONE]) - 1)
        shares = 100 * one.waited / wall, 100 * one.worked / wall
        rows.append((name, one.steps, one.rows, middle, f"{lower:.1f} to {upper:.1f}", whole, *shares))
    columns = (
        "",
        "steps",
        "rows",
        "% more, middle block",
        "half of them",
        "in all",
        "loop waited %",
        "writer worked %",
    )
    return Table(f"{title}: {1e3 * median(found[ALONE]):.0f} ms a step", columns, tuple(rows), found)


def once(subjects: Sequence[Subject], *, rounds: int) -> Table:
    """Measure entering and leaving the block of a recording in which nothing happens."""
    with scratch() as folder:
        numbers = count()
        models = {subject.title.partition(",")[0]: GPT(subject.shape) for subject in subjects}

        def enter_and_exit(model: nn.Module) -> tuple[float, float]:
            started = time.perf_counter()
            with wdyn.watch(model, to=folder / str(next(numbers))) as watch:
                entered = time.perf_counter()
                watch.flush()
                flushed = time.perf_counter()
            return entered - started, time.perf_counter() - flushed

        work = {name: lambda model=model: enter_and_exit(model) for name, model in models.items()}
        found = side_by_side(work, rounds=rounds)
    rows = tuple((name, *(1e3 * median(one) for one in zip(*values, strict=True))) for name, values in found.items())
    return Table("Once, the first snapshot included", ("", "entering ms", "leaving ms"), rows, found)


def short(subject: Subject, *, rounds: int, steps: int = 40) -> Table:
    """Measure a training of a few steps, entering and leaving included."""
    plain, watched = training(subject), training(subject)
    with scratch() as folder:
        numbers = count()

        def train(step: Callable[[], object]) -> None:
            for _ in range(steps):
                step()

        def recorded() -> None:
            with wdyn.watch(*watched[:2], to=folder / str(next(numbers))):
                train(watched[2])

        found = side_by_side({ALONE: seconds(lambda: train(plain[2])), DEFAULT: seconds(recorded)}, rounds=rounds)
    took = medians(found)
    rows = tuple((name, 1e3 * value, 100 * (value / took[ALONE] - 1)) for name, value in took.items())
    return Table(f"{steps} steps of {subject.title}, in all", ("", "ms", "% more"), rows, found)


def idle(*, rounds: int, steps: int = 2000) -> Table:
    """Measure a step for which nothing is due: that of an optimizer that does nothing, with and without hooks."""
    model = GPT(CHAR)
    plain, watched = StandStill(model), StandStill(model)

    def microseconds(optimizer: StandStill) -> float:
        return 1e6 * median(seconds(optimizer.step)() for _ in range(steps))

    never = wdyn.at()
    with scratch() as folder, wdyn.watch(model, watched, to=folder / "run", every=never, snapshots=None):
        work = {ALONE: lambda: microseconds(plain), "recorded, nothing due": lambda: microseconds(watched)}
        found = side_by_side(work, rounds=rounds)
    took = medians(found)
    rows = tuple((name, value, value - took[ALONE]) for name, value in took.items())
    return Table("The step of an optimizer that does nothing", ("", "us", "us more"), rows, found)


@click.command()
@click.option(
    "--subject", "subjects", multiple=True, type=click.Choice(list(SUBJECTS)), help="Default: the first three."
)
@click.option("--seconds", "total", default=60.0, show_default=True, help="How long each recording lasts.")
@options()
def main(subjects: Sequence[str], total: float, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure what recordings take. Takes 12 minutes, 9 times --seconds and 3; 10 GB of memory, 10 of disk."""
    chosen = [SUBJECTS[name] for name in subjects or DEFAULTS]
    tables = [idle(rounds=rounds), once(chosen, rounds=rounds)]
    tables += [short(subject, rounds=rounds) for subject in chosen if subject.quick]
    block_seconds = min(BLOCK_SECONDS, total / 2)
    tables += [long(subject, total=total, block_seconds=block_seconds) for subject in chosen]
    publish(tables, file=file, rounds=rounds, subjects=[one.title for one in chosen], seconds=total)


if __name__ == "__main__":
    main()
