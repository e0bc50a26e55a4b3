"""How long does a report of a long run take, and how much memory? ``python -m benchmarks.reports``.

The runs are made by the writer itself from the rows of a few steps that were really trained, each repeated with a step
of its own, so that what is read is what training writes. Each report is a process of its own, and is made as
``wdyn report`` makes it: its peak of memory counts, imports included.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from unittest import mock

import click
import numpy as np
import torch
from torch.nn import functional

import wdyn
from benchmarks.harness import Table, options, publish, scratch
from benchmarks.subjects import CHAR
from wdyn.demo.model import GPT, Shape
from wdyn.rows import Batch, Snapshot
from wdyn.store.writer import Writer

_TRAINED = 4
_COMMITTED = 200  # rows at once
_REPORT = """
import json, resource, sys, time
started = time.perf_counter()
from wdyn.reports.report import analyze
from wdyn.store.reader import open_run
page = analyze(open_run(sys.argv[1]), draw=True).to_html()
taken = {"seconds": time.perf_counter() - started, "processor": time.process_time()}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(taken | {"page": len(page.encode()), "peak": peak}))
"""


@dataclass(frozen=True)
class Length:
    """How long a run is, and what a report of it may take."""

    shape: Shape
    rows: int
    snapshots: int
    seconds: float


LENGTHS = {
    "gpt2-small": Length(replace(CHAR, layers=12, width=32), rows=1000, snapshots=20, seconds=15),  # 148 parameters
    "long": Length(replace(CHAR, layers=167, width=16), rows=5000, snapshots=20, seconds=60),  # 2,008 parameters
}


def make(length: Length, path: Path) -> None:
    """Write a run of this length: its first steps are trained, and the others like them."""
    with _written() as batches:
        _train(length.shape, path)
    trained = [batch for batch in batches if batch.rows and batch.logged][1:]  # the first tells of no loss
    kept = np.linspace(_TRAINED, length.rows - 1, length.snapshots - 1).round().astype(int)
    with Writer(path, about={}, attempt={"resumed_from_step": _TRAINED}, resume=True) as writer:
        for step in range(_TRAINED + 1, length.rows):
            like = trained[step % len(trained)]
            rows = tuple(replace(row, step=step) for row in like.rows)
            logged = tuple(replace(row, steps=(step,)) for row in like.logged)
            snapshot = replace(_last(batches), step=step) if step in kept else None
            writer.append(Batch(step, rows, snapshot, logged=logged))
            if step % _COMMITTED == 0:
                writer.commit()


def _last(batches: Sequence[Batch]) -> Snapshot:
    return next(batch.snapshot for batch in reversed(batches) if batch.snapshot)


@contextmanager
def _written() -> Iterator[list[Batch]]:
    """Give all batches that are written inside."""
    batches: list[Batch] = []
    append = Writer.append

    def noted(writer: Writer, batch: Batch) -> None:
        append(writer, batch)
        held = batch.snapshot and replace(
            batch.snapshot, values={slug: values.copy() for slug, values in batch.snapshot.values.items()}
        )
        batches.append(replace(batch, snapshot=held))

    with mock.patch.object(Writer, "append", noted):
        yield batches


def _train(shape: Shape, path: Path) -> None:
    torch.manual_seed(0)
    model = GPT(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(shape.alphabet, (2, 17))
    with wdyn.watch(model, optimizer, to=path, every=1, snapshots=wdyn.at(0, _TRAINED)) as watch:
        for _ in range(_TRAINED):
            loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss.item())


def held(path: Path) -> str:
    """Say what a run holds; a name that shares the memory of another is no parameter of its own."""
    run = wdyn.open_run(path)
    count = int((wdyn.parameters(run)["tied_to"] == "").sum())
    rows = wdyn.statistics(run).sizes["step"]
    steps = {step for node in run["weights"].children.values() for step in node.coords["step"].values.tolist()}
    return f"{count:,} parameters, {rows:,} rows, {len(steps)} snapshots"


def report(path: Path) -> dict[str, float]:
    """Measure one report, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _REPORT, str(path)], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@click.command()
@options(rounds=3)
@click.option("--length", "names", multiple=True, default=list(LENGTHS), type=click.Choice(list(LENGTHS)))
def main(rounds: int, peers: bool, file: Path | None, names: tuple[str, ...]) -> None:
    """Make long runs and report on them."""
    lines, runs = [], {}
    for name in names:
        length = LENGTHS[name]
        with scratch() as folder:
            make(length, folder / "run.zarr")
            title = held(folder / "run.zarr")
            taken = [report(folder / "run.zarr") for _ in range(rounds)]
        seconds, processor, page = (median(one[key] for one in taken) for key in ("seconds", "processor", "page"))
        lines.append((title, seconds, length.seconds, processor, max(one["peak"] for one in taken) / 1e9, page / 1e6))
        runs[name] = taken
    columns = ("run", "s", "wanted, s", "of the processor, s", "peak memory, GB", "page, MB")
    publish([Table("A report of a long run", columns, tuple(lines), runs)], file=file)


if __name__ == "__main__":
    main()
