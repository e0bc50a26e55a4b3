"""What does keeping all weights cost a training, and other ways to save them? ``python -m benchmarks.snapshots`` tells.

The weights are those of GPT-2 small in float32, 498 MB. The yardsticks are a copy into memory that is used again, which
no snapshot can do without, and `safetensors.torch.save_file` to a new file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import torch

from benchmarks.harness import Table, medians, options, publish, scratch, seconds, side_by_side
from benchmarks.saving import ASYNC, COPY, OURS, SAFE, TORCH, Way, ways
from benchmarks.subjects import CHAR, GPT2_SMALL
from wdyn.demo.model import GPT

BUSY_SECONDS = 2.0
BESIDE = (COPY, OURS, SAFE, TORCH, ASYNC)
"""What is measured beside a busy loop."""


@dataclass(frozen=True)
class Cost:
    """Seconds that one snapshot took."""

    blocked: float
    processor: float
    wall: float


def alone(way: Way) -> Cost:
    """Save once while nothing else runs."""
    processor, started = time.process_time(), time.perf_counter()
    way.begin()
    begun = time.perf_counter()
    way.finish()
    finished = time.perf_counter()
    way.next_step()
    blocked = begun - started + time.perf_counter() - finished
    cost = Cost(blocked, time.process_time() - processor, finished - started)
    way.clean()
    return cost


def costs(found: Mapping[str, list[Cost]], size: float) -> Table:
    """Tabulate what a snapshot of `size` megabytes takes."""
    blocked, processor, wall = (
        {name: median(getattr(one, what) for one in values) for name, values in found.items()}
        for what in ("blocked", "processor", "wall")
    )
    columns = ("", "blocked ms", "x copy", "CPU ms in all", "x safetensors", "done after ms", "MB/s")
    rows = tuple(
        (name, 1e3 * blocked[name], blocked[name] / blocked[COPY], 1e3 * processor[name],
         processor[name] / processor[SAFE], 1e3 * wall[name], size / wall[name])
        for name in found
    )  # fmt: skip
    return Table(f"A snapshot of {size:.0f} MB while nothing else runs", columns, rows, found)


def busy_loop() -> Callable[[], None]:
    """Make a loop of matrix products, about `BUSY_SECONDS` long, on all threads."""
    left, right, out = torch.randn(512, 768), torch.randn(768, 3072), torch.empty(512, 3072)
    one = seconds(lambda: torch.mm(left, right, out=out))
    for _ in range(5):
        one()
    times = max(1, round(BUSY_SECONDS / median(one() for _ in range(9))))

    def loop() -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return loop


def beside(way: Way, loop: Callable[[], object]) -> Callable[[], tuple[float, float]]:
    """Make a measurement: seconds that a busy loop loses to a snapshot, and for how long that is not done then."""

    def step() -> None:
        way.begin()
        loop()
        way.next_step()

    def measured() -> tuple[float, float]:
        lost = -seconds(loop)() + seconds(step)()
        late = seconds(way.finish)()
        way.clean()
        return lost, late

    return measured


def losses(found: Mapping[str, list[tuple[float, float]]]) -> Table:
    """Tabulate what the loop lost to each way."""
    lost = medians({name: [one for one, _ in values] for name, values in found.items()})
    late = medians({name: [one for _, one in values] for name, values in found.items()})
    rows = tuple((name, 1e3 * value, value / lost[COPY], 1e3 * late[name]) for name, value in lost.items())
    title = f"What a snapshot takes from {BUSY_SECONDS:.0f} s of matrix products on {torch.get_num_threads()} threads"
    return Table(title, ("", "lost ms", "x copy", "not done then, ms"), rows, found)


@click.command()
@click.option("--small", is_flag=True, help="Weights of a char-GPT instead.")
@click.option("--busy/--no-busy", default=True, show_default=True, help="Measure beside a busy loop too.")
@options()
def main(small: bool, busy: bool, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure what a snapshot of GPT-2 small costs, alone and beside a busy loop. Takes 3 minutes and 15 GB of disk."""
    model = GPT(CHAR if small else GPT2_SMALL)
    size = sum(parameter.nbytes for parameter in model.parameters()) / 1e6
    with scratch() as folder, ways(model, folder, peers=peers) as given:
        found = side_by_side({name: lambda way=way: alone(way) for name, way in given.items()}, rounds=rounds)
        tables = [costs(found, size)]
        if busy:
            loop = busy_loop()
            work = {name: beside(way, loop) for name, way in given.items() if name in BESIDE}
            tables.append(losses(side_by_side(work, rounds=rounds)))
    publish(tables, file=file, rounds=rounds, small=small)


if __name__ == "__main__":
    main()
