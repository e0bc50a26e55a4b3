"""How long does it take to open a run and to read weights from it, over all steps? ``python -m benchmarks.reading``.

Everything is read from the page cache: what is compared is the work of the readers, not the disk. The yardsticks are a
bare `pread` of the very bytes, and slicing one safetensors file for each step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from safetensors import safe_open
from safetensors.torch import save_file

import wdyn
from benchmarks.harness import Table, milliseconds, options, publish, scratch, seconds, side_by_side
from benchmarks.subjects import CHAR, GPT2_SMALL, StandStill
from wdyn import schema
from wdyn.demo.model import GPT, Shape

Work = dict[str, Callable[[], object]]
OPEN, PREAD, SAFE = "wdyn.open_run", "pread into memory used again", "safetensors, one file a step"
MATRIX, VECTORS = "h.5.attn.c_attn.weight", [f"h.{layer}.ln_1.weight" for layer in range(12)]
TINY = replace(CHAR, layers=12, width=32)
"""As many parameters as GPT-2 small has, each small."""


@dataclass(frozen=True)
class Saved:
    """The same weights, as a run and as one safetensors file for each step."""

    run: Path
    files: tuple[Path, ...]

    def stored(self, name: str) -> Path:
        """Find the array that holds a parameter."""
        about = wdyn.parameters(wdyn.open_run(self.run)).sel({schema.PARAMETER: name})
        return self.run / schema.WEIGHTS / str(about[schema.WEIGHTS].item()) / schema.VALUE


def record(shape: Shape, folder: Path, *, steps: int) -> Saved:
    """Save a model at so many steps, as a run and as files."""
    folder.mkdir()
    model = GPT(shape)
    optimizer = StandStill(model)
    files = tuple(folder / f"{step}.safetensors" for step in range(steps))
    with wdyn.watch(model, optimizer, to=folder / "run.zarr", every=wdyn.at(), snapshots=None) as watch:
        for file in files:
            watch.snapshot()
            save_file(dict(model.named_parameters()), file)
            optimizer.step()
    return Saved(folder / "run.zarr", files)


def opening(saved: Saved) -> Work:
    """Open everything, read nothing."""
    return {
        OPEN: lambda: wdyn.open_run(saved.run),
        "xarray.open_datatree": lambda: xr.open_datatree(saved.run, engine="zarr", chunks=None),
        "zarr.open_group, all listed": lambda: dict(zarr.open_group(saved.run, mode="r").members(max_depth=None)),
    }


def from_files(saved: Saved, names: list[str]) -> npt.NDArray[np.float32]:
    """Read parameters at every step from safetensors files: (step, parameter, ...)."""

    def at_step(file: Path) -> npt.NDArray[np.float32]:
        with safe_open(file, framework="numpy") as held:
            return np.stack([held.get_tensor(name) for name in names])

    return np.stack([at_step(file) for file in saved.files])


def bare(saved: Saved, name: str, *, fresh: bool) -> Callable[[], npt.NDArray[np.uint8]]:
    """Make what nothing can beat: reading the bytes of one parameter, whose places are known, into one array."""
    places = [byte_range(file, name) for file in saved.files]
    size = places[0][1] - places[0][0]
    kept = np.zeros((len(places), size), dtype=np.uint8)

    def read() -> npt.NDArray[np.uint8]:
        into = np.empty_like(kept) if fresh else kept
        for file, (start, _), row in zip(saved.files, places, into, strict=True):
            descriptor = os.open(file, os.O_RDONLY)
            os.preadv(descriptor, [row], start)
            os.close(descriptor)
        return into

    return read


def byte_range(file: Path, name: str) -> tuple[int, int]:
    """Find where a safetensors file holds a tensor."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        start, end = json.loads(opened.read(length))[name]["data_offsets"]
    return 8 + length + start, 8 + length + end


def one_matrix(saved: Saved) -> Work:
    """Read one matrix of one layer over all steps."""
    run, stored = wdyn.open_run(saved.run), saved.stored(MATRIX)
    layer = int(MATRIX.split(".")[1])
    return {
        PREAD: bare(saved, MATRIX, fresh=False),
        "pread into new memory": bare(saved, MATRIX, fresh=True),
        "wdyn.select": lambda: wdyn.select(run, path=MATRIX).values,
        "zarr": lambda: zarr.open_array(stored, mode="r")[:, layer],
        SAFE: lambda: from_files(saved, [MATRIX]),
    }


def small_vectors(saved: Saved) -> Work:
    """Read a vector of every layer at every step."""
    run, stored = wdyn.open_run(saved.run), saved.stored(VECTORS[0])
    return {
        "wdyn.select": lambda: wdyn.select(run, path="h.ln_1.weight").values,
        "zarr": lambda: zarr.open_array(stored, mode="r")[:],
        SAFE: lambda: from_files(saved, VECTORS),
    }


def same(work: Work) -> None:
    """Make sure that all read the same."""
    first, *others = [np.asarray(read()).view(np.uint8).ravel() for read in work.values()]
    for other in others:
        if not np.array_equal(first, other):
            raise RuntimeError("Two readers gave different weights: what they take cannot be compared")


@click.command()
@click.option("--steps", default=200, show_default=True, help="Snapshots of the run that is opened.")
@click.option("--small", is_flag=True, help="A small matrix instead of one of GPT-2 small.")
@options(rounds=15)
def main(steps: int, small: bool, rounds: int, peers: bool, file: Path | None) -> None:
    """Measure opening a run, and reading from it beside other readers. Takes 1 minute and 4 GB of disk."""
    with scratch() as folder:
        many = record(TINY, folder / "many", steps=steps)
        large = record(TINY if small else GPT2_SMALL, folder / "large", steps=3)
        matrix, vectors = one_matrix(large), small_vectors(many)
        same(matrix)
        same(vectors)
        megabytes = np.asarray(matrix[PREAD]()).nbytes / 1e6
        yardsticks = {"x pread": PREAD, "x safetensors": SAFE}
        tables = [
            measured(f"Opening 148 parameters x {steps} snapshots", opening(many), rounds, {"x wdyn": OPEN}),
            measured(f"A matrix of one layer over 3 steps, {megabytes:.1f} MB", matrix, rounds, yardsticks),
            measured(f"A vector of 12 layers over {steps} steps", vectors, rounds, yardsticks),
        ]  # fmt: skip
    publish(tables, file=file, rounds=rounds, steps=steps, small=small)


def measured(title: str, work: Work, rounds: int, yardsticks: dict[str, str]) -> Table:
    """Measure work side by side."""
    found = side_by_side({name: seconds(read) for name, read in work.items()}, rounds=rounds)
    return milliseconds(title, found, yardsticks=yardsticks)


if __name__ == "__main__":
    main()
