"""How does one saved model become rows and a snapshot, with one tensor in memory at a time?

Three things happen at once: one tensor is read, the one before it is measured, and written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wdyn.arrays import WeightArray
from wdyn.capture.measuring import Measurement, measured
from wdyn.capture.partition import Partition
from wdyn.capture.staging import as_stored, fits
from wdyn.checkpoints.saved import Saved
from wdyn.rows import Snapshot

Read = Callable[[str], Tensor]
Use = Callable[[str, Tensor], None]

_SMALL_BYTES = 4 * 2**20
"""Up to this size the layers of an array are put together in memory; beyond, they are written as they come."""


@dataclass
class Measuring:
    """Measures tensors, each once, beside whatever else is done.

    Parameters
    ----------
    partitions
        How tensors are cut, by name.
    first
        Reads what is subtracted of a tensor, to measure its displacement; None where that is not wanted.
    """

    partitions: Mapping[str, Partition]
    first: Read | None = None
    weights: list[Measurement] = field(default_factory=list)
    displacement: list[Measurement] = field(default_factory=list)

    def take(self, name: str, tensor: Tensor) -> None:
        """Measure one tensor that was read."""
        self.weights.append(measured({name: tensor}, self.partitions))
        if self.first is not None:
            self.displacement.append(measured({name: tensor}, self.partitions, minus={name: self.first(name)}))


class Room:
    """Memory for two tensors, one that is used and one that is read meanwhile; it grows, and is used again.

    Fresh memory costs several times the reading itself: the kernel must clear each page.
    """

    def __init__(self) -> None:
        self._held = [torch.empty(0, dtype=torch.uint8)] * 2
        self._turn = 0

    def for_next(self, like: Tensor) -> Tensor:
        """Give room for a tensor of that shape and dtype: that of the one before the last."""
        self._turn = 1 - self._turn
        if self._held[self._turn].numel() < like.nbytes:
            self._held[self._turn] = torch.empty(like.nbytes, dtype=torch.uint8)
        return self._held[self._turn][: like.nbytes].view(like.dtype).view(like.shape)


class Pipeline:
    """Reads tensors one ahead, and uses each in a thread while something else is done with it.

    Parameters
    ----------
    names
        What will be asked for, in that order.
    saved, room
        What they are read from, and into.
    use
        Is given each tensor.
    """

    def __init__(self, names: Iterable[str], *, saved: Saved, room: Room, use: Use) -> None:
        self._names = iter(names)
        self._saved, self._room, self._use = saved, room, use
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="wdyn-read")
        self._user = ThreadPoolExecutor(1, thread_name_prefix="wdyn-measure")
        self._next: Future[Tensor] | None = None
        self._used: Future[None] | None = None
        self._name = ""
        self._look_ahead()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._user.shutdown(cancel_futures=True)

    def take(self) -> Tensor:
        """Give the next tensor; its memory is used again for the one after the next."""
        assert self._next is not None
        tensor, name = self._next.result(), self._name
        self.wait()
        self._look_ahead()
        self._used = self._user.submit(self._use, name, tensor)
        return tensor

    def wait(self) -> None:
        """Wait until the tensor that was given last has been used, and raise what went wrong."""
        used, self._used = self._used, None
        if used is not None:
            used.result()

    def _look_ahead(self) -> None:
        self._name, self._next = next(self._names, ""), None
        if self._name:
            target = self._room.for_next(self._saved.tensors[self._name])
            self._next = self._reader.submit(self._saved.read_into, self._name, target)


def streamed(
    step: int,
    arrays: Sequence[WeightArray],
    held: Mapping[str, Tensor],
    *,
    saved: Saved,
    room: Room,
    use: Use,
) -> Iterator[Snapshot]:
    """Read each of the tensors that are `held` once, use it, and give a snapshot of one array after the other.

    Each snapshot must be written before the next is asked for. A layer whose tensor is gone, or has another shape or
    dtype than its array, is NaN (0 for integers).
    """
    kept = [name for array in arrays for name in array.names if name in held and fits(array, held[name])]
    others = [name for name in held if name not in set(kept)]
    with Pipeline([*kept, *others], saved=saved, room=room, use=use) as pipeline:
        yield from _snapshots(step, arrays, pipeline, held)
        for _ in others:
            pipeline.take()
        pipeline.wait()


def _snapshots(
    step: int, arrays: Sequence[WeightArray], pipeline: Pipeline, held: Mapping[str, Tensor]
) -> Iterator[Snapshot]:
    for array in arrays:
        layers = _Layers(array, pipeline, held)
        if not array.layers:
            yield Snapshot(step, {array.slug: layers.only()})
        elif _nbytes(array) <= _SMALL_BYTES:
            yield Snapshot(step, {array.slug: layers.together()})
        else:
            # What writes an array of several layers asks for one after the other, as of any array.
            yield Snapshot(step, {array.slug: cast("npt.NDArray[Any]", layers)})


@dataclass(frozen=True)
class _Layers:
    """The layers of an array, each read when it is asked for; they can be asked for once."""

    array: WeightArray
    pipeline: Pipeline
    held: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """Count of elements."""
        return int(np.prod(self.array.full_shape))

    @property
    def nbytes(self) -> int:
        """Size in memory, were it there as a whole."""
        return _nbytes(self.array)

    def only(self) -> npt.NDArray[Any]:
        """Give the one layer of an array that has no layers; it is to be used before the next tensor is asked for."""
        (value,) = self._passing()
        return value

    def together(self) -> npt.NDArray[Any]:
        """Put all layers into one array."""
        together: npt.NDArray[Any] | None = None
        for at, layer in enumerate(self._passing()):
            together = np.empty(self.array.full_shape, layer.dtype) if together is None else together
            together[at] = layer
        assert together is not None
        return together

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Give copies: whoever writes may gather some layers before they go to the disk."""
        return (layer.copy() for layer in self._passing())

    def _passing(self) -> Iterator[npt.NDArray[Any]]:
        """Give each layer in memory that is used again for the one after the next."""
        for name in self.array.names:
            there = name in self.held and fits(self.array, self.held[name])
            yield as_stored(self.pipeline.take() if there else _missing(self.array))


def _missing(array: WeightArray) -> Tensor:
    dtype = getattr(torch, array.dtype)
    fill = np.nan if dtype.is_floating_point or dtype.is_complex else 0
    return torch.full(array.shape, fill, dtype=dtype)


def _nbytes(array: WeightArray) -> int:
    return int(np.prod(array.full_shape)) * int(getattr(torch, array.dtype).itemsize)
