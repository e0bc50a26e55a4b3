"""What does capture hand to the store? Rows of numbers, snapshots of weights, and the table of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.arrays import WeightArray

Values = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Counts (column, bin), nearly all of them zero: only the others are held.

    Attributes
    ----------
    shape
        Count of columns and of bins.
    at, counts
        Places in the flattened counts that are not zero, in order, and what stands there.
    absent
        Columns of which nothing was recorded; they are -1 in every bin.
    """

    shape: tuple[int, int]
    at: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    absent: npt.NDArray[np.int64]

    @classmethod
    def of(cls, dense: npt.NDArray[np.int64], *, absent: npt.NDArray[np.int64]) -> Counts:
        """Hold what is not zero of counts (column, bin); what stands in columns of `absent` is not looked at."""
        shown = dense.copy()
        shown[absent] = 0
        at = np.flatnonzero(shown)
        return cls((dense.shape[0], dense.shape[1]), at, shown.ravel()[at], absent)

    def dense(self) -> npt.NDArray[np.int64]:
        """Give all counts, (column, bin)."""
        full = np.zeros(self.shape, dtype=np.int64)
        full.ravel()[self.at] = self.counts
        full[self.absent] = -1
        return full

    @property
    def nbytes(self) -> int:
        """Memory that the counts hold."""
        return self.at.nbytes + self.counts.nbytes + self.absent.nbytes


@dataclass(frozen=True)
class Row:
    """One row of one group, such as ``statistics/weights``, by array name.

    A value is a scalar, a vector over the group's columns, or counts of bins over them.
    """

    group: str
    step: int
    values: Mapping[str, Values | Counts]
    long_names: Mapping[str, str] = field(default_factory=dict)
    """True names of arrays whose own name had to be made safe."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """wdyn's own attributes of the group."""

    @property
    def nbytes(self) -> int:
        """Memory that the row holds."""
        return sum(value.nbytes for value in self.values.values())


@dataclass(frozen=True)
class Rows:
    """Rows of one group at several steps: each value has these along its first axis, NaN where one has none."""

    group: str
    steps: tuple[int, ...]
    values: Mapping[str, npt.NDArray[np.float64]]
    long_names: Mapping[str, str] = field(default_factory=dict)
    """True names of arrays whose own name had to be made safe."""

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Row]:
        for at, step in enumerate(self.steps):
            yield Row(self.group, step, {name: value[at, ...] for name, value in self.values.items()}, self.long_names)

    @property
    def nbytes(self) -> int:
        """Memory that the rows hold."""
        return sum(value.nbytes for value in self.values.values())


@dataclass(frozen=True)
class Adopted:
    """The file of a block that another process wrote, and where the block begins along the axes of `shape`."""

    file: str
    start: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """What this process measured of a step that several record together.

    Attributes
    ----------
    step, ordinal
        The step, and which share of that step it is: it has the same number in every process.
    is_measured
        Whether anything was measured: weights alone can be kept too.
    data
        Writes it, for the process that joins all.
    rows
        Gives the rows of the step, from the data of the others in the order of their ranks.
    nbytes
        Memory that it holds.
    """

    step: int
    ordinal: int
    is_measured: bool
    data: Callable[[], bytes]
    rows: Callable[[Sequence[bytes]], tuple[Row, ...]]
    nbytes: int


@dataclass(frozen=True)
class Snapshot:
    """All weights at one step: for each slug an array in the stored dtype, of the array's `full_shape`.

    Where several processes record together, each gives blocks of these, and `slugs` names the arrays of all.
    """

    step: int
    values: Mapping[str, npt.NDArray[Any]]
    release: Callable[[], None] = lambda: None
    """Called once the values have been written, or given up, and their memory may be used again."""
    starts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Where a block begins along the axes of the array's `shape`; one of which nothing is said is whole."""
    slugs: tuple[str, ...] = ()
    """Arrays of the snapshot, whichever process gives them; empty where `values` has all."""
    scattered: frozenset[str] = frozenset()
    """Those whose blocks are not each a file of their own, and must be put together."""
    adopted: Mapping[str, tuple[Adopted, ...]] = field(default_factory=dict)
    """Blocks of other processes, which lie on the disk as they will be stored."""

    @property
    def nbytes(self) -> int:
        """Memory that the snapshot holds."""
        return sum(value.nbytes for value in self.values.values())


@dataclass(frozen=True)
class Declaration:
    """The tables of parameters and of their parts by column, what is new at their ends, and the arrays that begin."""

    table: Mapping[str, npt.NDArray[Any]]
    arrays: tuple[WeightArray, ...] = ()
    added: tuple[str, ...] = ()
    """Names that an earlier table lacked."""
    parts: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Columns over ``part``, the label among them; empty where nothing is fused."""


@dataclass(frozen=True)
class Batch:
    """What one training step gave; it is committed as a whole."""

    step: int
    rows: tuple[Row, ...] = ()
    snapshot: Snapshot | None = None
    declaration: Declaration | None = None
    logged: tuple[Rows, ...] = ()
    """Rows of the steps that led here."""
    share: Share | None = None
    """What stands for `rows` until what other processes measured is there."""

    @property
    def row_count(self) -> int:
        """Count of all rows; what several processes are to give counts as one."""
        return len(self.rows) + sum(map(len, self.logged)) + (self.share is not None)

    @cached_property
    def nbytes(self) -> int:
        """Memory that the batch holds."""
        rows = sum(row.nbytes for row in self.rows) + sum(rows.nbytes for rows in self.logged)
        share = self.share.nbytes if self.share else 0
        return rows + share + (self.snapshot.nbytes if self.snapshot else 0)

    def release(self) -> None:
        """Give up the memory of the snapshot."""
        if self.snapshot is not None:
            self.snapshot.release()


@dataclass(frozen=True)
class Before:
    """What a run held that is continued.

    Attributes
    ----------
    table, parts, arrays
        The tables of parameters and of their parts by column, and the arrays of weights.
    last_step
        The last step of its lineage.
    statistics
        Statistics of the weights at the step that is continued from, by name, over the table; empty without a row.
    reached
        What it held of the step that led there, by group: updates, gradients, relations and scalars.
    first
        The weights at its first row, by name and without their layer axis, where they were asked for and kept.
    """

    table: Mapping[str, npt.NDArray[Any]]
    arrays: tuple[WeightArray, ...]
    last_step: int
    statistics: Mapping[str, npt.NDArray[np.float64]]
    parts: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    reached: Mapping[str, Row] = field(default_factory=dict)
    first: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
