"""What does recording cost? Each line is a ratio to a plain pass over the same memory, measured beside it.

Run with: python -m benchmarks.recording [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import json
import statistics as of
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor, nn

import wdyn
from wdyn.capture import host_sums
from wdyn.capture.statistics import statistics

WIDTH, LAYERS, VOCABULARY, POSITIONS = 768, 12, 50257, 1024


def gpt2_small() -> list[Tensor]:
    """Tensors of the shapes of GPT-2 small: 124 million values, float32."""
    shapes = [(VOCABULARY, WIDTH), (POSITIONS, WIDTH)]
    for _ in range(LAYERS):
        shapes += [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
        shapes += [(3 * WIDTH,), (4 * WIDTH,), *[(WIDTH,)] * 6]
    return [torch.randn(shape) * 0.02 for shape in shapes]


def naive(tensors: list[Tensor]) -> None:
    """The same numbers as a user would write them, in float64 over whole tensors."""
    for tensor in tensors:
        wide = tensor.double()
        deviation = wide - wide.mean()
        (deviation**2).mean(), (deviation**3).mean(), (deviation**4).mean()
        wide.abs().sum(), wide.abs().max(), wide.min(), wide.max(), (wide == 0).sum(), wide.isnan().sum()


def with_numpy(tensors: list[Tensor]) -> None:
    """Our statistics without the compiled kernel."""
    for tensor in tensors:
        host_sums.host_sums(tensor, add=host_sums.numpy_sums)


def side_by_side(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns so that a busy moment falls on all of them."""
    for one in work.values():
        one()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, one in work.items():
            started = time.perf_counter()
            one()
            seconds[name].append(time.perf_counter() - started)
    return {name: of.median(values) for name, values in seconds.items()}


def off_cadence_microseconds(steps: int = 2000) -> float:
    """Median cost of a step for which nothing is due, beside the optimizer's own."""
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(74)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tempfile.TemporaryDirectory() as folder:
        never = wdyn.at()
        with wdyn.watch(model, optimizer, to=Path(folder) / "run.zarr", every=never, snapshots=None) as w:
            taken = []
            for _ in range(steps):
                started = time.perf_counter()
                w._before(optimizer, (), {})
                w._after(optimizer, (), {})
                taken.append(time.perf_counter() - started)
    return of.median(taken) * 1e6


@click.command()
@click.option("--rounds", default=5, show_default=True, help="How often each is measured.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures here too.")
def main(rounds: int, file: Path | None) -> None:
    """Print what recording costs."""
    tensors = gpt2_small()
    buffers = [torch.empty_like(tensor) for tensor in tensors]
    work: dict[str, Callable[[], object]] = {
        "one read (sum)": lambda: [tensor.sum() for tensor in tensors],
        "one copy into buffers used again": lambda: [a.copy_(b) for a, b in zip(buffers, tensors, strict=True)],
        "statistics, as wdyn takes them": lambda: statistics(tensors),
        "statistics of updates": lambda: statistics(tensors, minus=buffers),
        "statistics, numpy kernel, one thread": lambda: with_numpy(tensors),
        "statistics, naive torch": lambda: naive(tensors),
    }
    seconds = side_by_side(work, rounds)
    read = seconds["one read (sum)"]
    click.echo(f"{'work on 124 M float32 values':40} {'ms':>8} {'reads':>7}")
    for name, value in seconds.items():
        click.echo(f"{name:40} {value * 1e3:8.1f} {value / read:7.1f}")
    microseconds = off_cadence_microseconds()
    click.echo(f"{'a step for which nothing is due':40} {microseconds / 1e3:8.4f}")
    if file is not None:
        file.write_text(json.dumps({"seconds": seconds, "off_cadence_microseconds": microseconds}, indent=2))


if __name__ == "__main__":
    main()
