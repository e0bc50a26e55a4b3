"""How are things compared so that the figures can be trusted? In one process, in turns, many times, beside a yardstick.

Every benchmark measures all lines of a table side by side: a busy moment of the machine falls on all of them alike, so
ratios hold where seconds do not.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata, util
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import click
import torch

import wdyn

T = TypeVar("T")
Command = Callable[..., None]
PACKAGES = (
    *("torch", "numpy", "numba", "zarr", "xarray", "safetensors", "wandb", "tensorboard"),
    *("accelerate", "transformers", "pytorch_lightning"),
)


@dataclass(frozen=True)
class Table:
    """Figures of one comparison; the first column names what was measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    runs: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """Every single measurement behind the medians."""


def options(*, rounds: int = 5) -> Callable[[Command], Command]:
    """Give a benchmark the options that all of them have."""
    given = (
        click.option("--rounds", default=rounds, show_default=True, type=click.IntRange(1), help="Times each runs."),
        click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="Threads that torch uses.",
                     expose_value=False, callback=lambda context, option, value: torch.set_num_threads(value)),
        click.option("--peers/--no-peers", default=True, show_default=True, help="Measure other tools too."),
        click.option("--json", "file", type=click.Path(path_type=Path), help="Keep the figures here too."),
    )  # fmt: skip

    def add(command: Command) -> Command:
        for option in reversed(given):
            command = option(command)
        return command

    return add


def seconds(work: Callable[[], object]) -> Callable[[], float]:
    """Make a measurement of work: how long it takes."""

    def measured() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measured


def side_by_side(
    measurements: Mapping[str, Callable[[], T]], *, rounds: int, warm_up: bool = True
) -> dict[str, list[T]]:
    """Take every measurement `rounds` times, in turns; a first round to warm up is not counted."""
    found: dict[str, list[T]] = {name: [] for name in measurements}
    names = list(measurements)
    for turn in range(-warm_up, rounds):
        at = turn % len(names)  # each has each place in the order: what one leaves behind falls on others in turn
        for name in names[at:] + names[:at]:
            result = measurements[name]()
            if turn >= 0:
                found[name].append(result)
    return found


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Give the median of each."""
    return {name: median(values) for name, values in found.items()}


def milliseconds(title: str, found: Mapping[str, Sequence[float]], *, yardsticks: Mapping[str, str]) -> Table:
    """Tabulate seconds as milliseconds and as multiples of some lines; `yardsticks` maps headings to those lines."""
    middle = medians(found)
    known = {heading: middle[name] for heading, name in yardsticks.items() if name in middle}
    rows = tuple((name, 1e3 * value, *(value / one for one in known.values())) for name, value in middle.items())
    return Table(title, ("", "ms", *known), rows, found)


def installed(package: str) -> bool:
    """Whether a peer can be measured here."""
    return util.find_spec(package) is not None


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder on the disk that TMPDIR names, and remove it."""
    with TemporaryDirectory(prefix="wdyn-benchmark-") as folder:
        yield Path(folder)


def publish(tables: Sequence[Table], *, file: Path | None, **settings: object) -> None:
    """Print tables in Markdown, and keep them as JSON with every measurement, the settings and the machine."""
    told = machine()
    click.echo("; ".join(f"{name} {value}" for name, value in told.items() if name != "versions"))
    for table in tables:
        click.echo(f"\n**{table.title}**\n\n{markdown(table)}")
    if file is not None:
        kept = {"machine": told, "settings": settings, "tables": [asdict(table) for table in tables]}
        file.write_text(json.dumps(kept, indent=2, default=str) + "\n")


def markdown(table: Table) -> str:
    """Lay a table out so that it reads well as text too."""
    cells = [table.columns, *[tuple(map(_text, row)) for row in table.rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    rule = "|".join(["", ":" + "-" * (widths[0] + 1), *["-" * (width + 1) + ":" for width in widths[1:]], ""])
    return "\n".join([lines[0], rule, *lines[1:]])


def machine() -> dict[str, object]:
    """Tell what the figures were taken on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {
            "wdyn": wdyn.__version__,
            **{name: metadata.version(name) for name in PACKAGES if installed(name)},
        },
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = row
    padded = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"


def _text(value: str | float) -> str:
    """Write a number with three digits that count."""
    if isinstance(value, str | int):
        return value if isinstance(value, str) else f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) < 10 else 1}f}" if abs(value) >= 0.1 else f"{value:.3g}"
