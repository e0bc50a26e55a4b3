"""How long does a report of a long run take, and how much memory? ``python -m benchmarks.reports``.

The runs are made by the writer itself from the rows of a few steps that were really trained, each repeated with a step
of its own, so that what is read is what training writes. Each report is a process of its own: its peak of memory
counts, imports included.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import click
import torch
from torch.nn import functional

import wdyn
from benchmarks.harness import Table, options, publish, scratch
from benchmarks.subjects import CHAR
from wdyn.demo.model import GPT, Shape
from wdyn.rows import Batch
from wdyn.store.writer import Writer

_TRAINED = 4
_REPORT = """
import json, resource, sys, time
started = time.perf_counter()
from wdyn.reports.report import analyze
from wdyn.store.reader import open_run
found = analyze(open_run(sys.argv[1]))
asked = time.perf_counter()
page = found.to_html()
done = time.perf_counter()
cpu = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
times = {"asking": asked - started, "drawing": done - asked, "processor": cpu}
print(json.dumps(times | {"page": len(page.encode()), "peak": peak}))
"""


@dataclass(frozen=True)
class Length:
    """How long a run is, and what a report of it may take."""

    title: str
    shape: Shape
    rows: int
    snapshots: int
    seconds: float


LENGTHS = {
    "gpt2-small": Length("148 parameters, 1,000 rows, 20 snapshots", replace(CHAR, layers=12, width=32), 1000, 20, 15),
    "long": Length("2,000 parameters, 5,000 rows", replace(CHAR, layers=166, width=16), 5000, 20, 60),
}


def make(length: Length, path: Path) -> None:
    """Write a run of this length."""
    every = length.rows // length.snapshots
    with _written() as batches:
        _train(length.shape, path)
    trained = [batch for batch in batches if batch.rows and batch.step > 0]
    with Writer(path, about={}, attempt={"resumed_from_step": _TRAINED}, resume=True) as writer:
        for step in range(_TRAINED + 1, length.rows):
            like = trained[step % len(trained)]
            rows = tuple(replace(row, step=step) for row in like.rows)
            kept = replace(like.snapshot, step=step) if like.snapshot and step % every == 0 else None
            writer.append(Batch(step, rows, kept))
            if step % 200 == 0:
                writer.commit()


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
    with wdyn.watch(model, optimizer, to=path, every=1, snapshots=1) as watch:
        for _ in range(_TRAINED):
            loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.log(loss=loss.item())


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
            taken = [report(folder / "run.zarr") for _ in range(rounds)]
        best = min(taken, key=lambda one: one["asking"] + one["drawing"])
        seconds = best["asking"] + best["drawing"]
        lines.append((length.title, best["asking"], best["drawing"], seconds, best["processor"], length.seconds,
                      best["page"] / 1e6, max(one["peak"] for one in taken) / 1e9))  # fmt: skip
        runs[name] = taken
    columns = (
        "run",
        "asking, s",
        "drawing, s",
        "together, s",
        "of the processor, s",
        "wanted, s",
        "page, MB",
        "peak memory, GB",
    )
    publish([Table("A report of a long run", columns, tuple(lines), runs)], file=file)


if __name__ == "__main__":
    main()
