"""How long does it take to import checkpoints, and what is gained by it? ``python -m benchmarks.importing``.

The yardstick of the import is to read the same files and do nothing with them. What is gained is a weight over all
steps, read from the run and from the checkpoints themselves.
"""

from __future__ import annotations

import multiprocessing
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.torch import save_file

import wdyn
from benchmarks.harness import Table, medians, milliseconds, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import CHAR, GPT2_SMALL
from wdyn.demo.model import GPT

MATRIX, LAYER = "h.attn.c_attn.weight", 5
READ = "reading the files"
IMPORT = "wdyn.import_checkpoints"


def saved(folder: Path, *, steps: int, small: bool) -> list[Path]:
    """Save a model at so many steps, one safetensors file each."""
    folder.mkdir()
    state = {name: tensor.detach() for name, tensor in GPT(CHAR if small else GPT2_SMALL).named_parameters()}
    files = [folder / f"step_{step}.safetensors" for step in range(1, steps + 1)]
    for file in files:
        for tensor in state.values():
            tensor.add_(1e-3)
        save_file(state, file)
    return files


def read_all(files: list[Path]) -> None:
    """Read every tensor of every file, one at a time."""
    for file in files:
        with safe_open(file, framework="pt") as held:
            for name in held.keys():  # noqa: SIM118 - it is no mapping
                held.get_tensor(name).sum()


def from_files(files: list[Path]) -> npt.NDArray[np.float32]:
    """Read one matrix at every step: (step, fan_out, fan_in)."""
    name = MATRIX.replace("h.", f"h.{LAYER}.", 1)

    def at_step(file: Path) -> npt.NDArray[np.float32]:
        with safe_open(file, framework="numpy") as held:
            return np.asarray(held.get_tensor(name))

    return np.stack([at_step(file) for file in files])


def importing(folder: Path, to: Path) -> Callable[[], object]:
    """Make the work of importing a folder, where nothing is yet."""

    def work() -> object:
        shutil.rmtree(to, ignore_errors=True)
        return wdyn.import_checkpoints(folder, to=to)

    return work


def peak(folder: Path, to: Path) -> int:
    """Import in a process of its own, and give the most memory that it held, in bytes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_held, (folder, to))


def _held(folder: Path, to: Path) -> int:
    importing(folder, to)()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@click.command()
@click.option("--steps", default=20, show_default=True, help="Checkpoints of the series.")
@click.option("--small", is_flag=True, help="A small model instead of GPT-2 small.")
@options(rounds=3)
def main(steps: int, small: bool, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure importing a series of checkpoints, and reading one weight over all of them. Takes 4 minutes and 20 GB."""
    with scratch() as folder:
        files = saved(folder / "saved", steps=steps, small=small)
        to = folder / "run.zarr"
        size = sum(one.stat().st_size for one in files)
        held = peak(folder / "saved", to)
        work = {READ: lambda: read_all(files), IMPORT: importing(folder / "saved", to)}
        taken = side_by_side({name: seconds(one) for name, one in work.items()}, rounds=rounds, warm_up=False)
        run = wdyn.open_run(to)
        readers: dict[str, Callable[[], npt.NDArray[np.float32]]] = {
            "the checkpoints": lambda: from_files(files),
            "the run": lambda: wdyn.select(run, path=MATRIX, layer=LAYER).values,
        }
        first, second = (read() for read in readers.values())
        if not np.array_equal(first, second):
            raise RuntimeError("The run and the checkpoints gave different weights: what they take cannot be compared")
        read = side_by_side({name: seconds(one) for name, one in readers.items()}, rounds=5 * rounds)
    imported = tuple(
        (name, value, value / medians(taken)[READ], size / value / 1e6) for name, value in medians(taken).items()
    )
    tables = (
        Table(
            f"Importing {steps} checkpoints of {size / steps / 1e6:,.0f} MB; at most {held / 1e6:,.0f} MB of memory",
            ("", "s", f"times {READ}", "MB/s"),
            imported,
            taken,
        ),
        milliseconds(
            f"One matrix over {steps} steps, from", read, yardsticks={"times the checkpoints": "the checkpoints"}
        ),
    )
    publish(tables, file=file, rounds=rounds, steps=steps, small=small, peak_bytes=held)


if __name__ == "__main__":
    main()
