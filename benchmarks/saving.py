"""In which ways can all weights be saved while a model trains? wdyn's, its parts, and those of other tools."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed import checkpoint

import wdyn
from benchmarks.subjects import StandStill
from wdyn import schema
from wdyn.arrays import plan_arrays
from wdyn.capture.anatomy import addresses
from wdyn.capture.table import parameter_table
from wdyn.rows import Batch, Declaration, Snapshot
from wdyn.store.writer import Writer

COPY, OURS, WRITER, SAFE = "copy into memory used again", "wdyn", "wdyn's writer alone", "safetensors.save_file"
TORCH, ASYNC = "torch.save", "DCP async_save"
State = dict[str, Tensor]


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Way:
    """One way to save all weights: what the loop waits for, and what goes on beside it."""

    begin: Callable[[], object]
    finish: Callable[[], object] = nothing
    """Wait until all is done."""
    next_step: Callable[[], object] = nothing
    """What the loop waits for before it may change the weights again."""
    clean: Callable[[], object] = nothing


def into_buffers(state: State) -> Way:
    """Copy, as any snapshot must."""
    buffers = {name: torch.empty_like(tensor).copy_(tensor) for name, tensor in state.items()}
    return Way(lambda: [buffers[name].copy_(tensor) for name, tensor in state.items()])


def cloned(state: State) -> Way:
    """Copy into fresh memory."""
    kept: list[Tensor] = []
    return Way(lambda: kept.extend(tensor.clone() for tensor in state.values()), clean=kept.clear)


def to_file(save: Callable[[Path], object], folder: Path, *, durable: bool = False) -> Way:
    """Save to a new file while the loop waits."""
    file = folder / "saved"

    def begin() -> None:
        save(file)
        if durable:
            with file.open("rb") as written:
                os.fsync(written.fileno())

    return Way(begin, clean=file.unlink)


def async_save(state: State, folder: Path) -> Way:
    """Save as torch's distributed checkpoints do, in one process, while training goes on."""
    waiting: list[Callable[[], object]] = []

    def begin() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            waiting.append(checkpoint.async_save(state, checkpoint_id=folder / "dcp").result)

    return Way(begin, finish=lambda: waiting.pop()(), clean=lambda: shutil.rmtree(folder / "dcp"))


@contextmanager
def watched(model: nn.Module, folder: Path) -> Iterator[Way]:
    """Keep a snapshot at every second step of an optimizer that does nothing."""
    optimizer = StandStill(model)
    with wdyn.watch(model, optimizer, to=folder / "run.zarr", every=wdyn.at(), snapshots=wdyn.every(2)) as watch:
        optimizer.step()
        yield Way(optimizer.step, finish=watch.flush, next_step=optimizer.step)


@contextmanager
def written(model: nn.Module, folder: Path) -> Iterator[Way]:
    """Write snapshots that lie ready, without asking that they be durable."""
    known = [one for one in addresses(model) if not one.tied_to]
    arrays = plan_arrays(known)
    state = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    values = {one.slug: np.stack([state[name] for name in one.names]) for one in arrays if one.layers}
    values |= {one.slug: state[one.names[0]] for one in arrays if not one.layers}
    columns = {str(name): values.values for name, values in parameter_table(known).variables.items()}
    slug_of = {name: one.slug for one in arrays for name in one.names}
    columns[schema.WEIGHTS] = np.array([slug_of[one.name] for one in known])
    with Writer(folder / "written.zarr", about={}, attempt={"resumed_from_step": -1}) as writer:
        writer.append(Batch(0, declaration=Declaration(columns, tuple(arrays))))
        steps = count()
        yield Way(
            lambda: writer.append(Batch(step := next(steps), snapshot=Snapshot(step, values))), clean=writer.commit
        )


@contextmanager
def ways(model: nn.Module, folder: Path, *, peers: bool) -> Iterator[dict[str, Way]]:
    """Give every way to save the weights, by name."""
    state = {name: parameter.detach() for name, parameter in model.named_parameters()}
    with ExitStack() as stack:
        given = {
            COPY: into_buffers(state),
            OURS: stack.enter_context(watched(model, folder)),
            WRITER: stack.enter_context(written(model, folder)),
            SAFE: to_file(lambda file: save_file(state, file), folder),
        }
        if peers:
            given |= {
                "safetensors.save_file, fsync": to_file(lambda file: save_file(state, file), folder, durable=True),
                "clone() of each": cloned(state),
                TORCH: to_file(lambda file: torch.save(state, file), folder),
                ASYNC: async_save(state, folder),
            }
        yield given
