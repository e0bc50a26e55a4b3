"""What does capture hand to the store? Rows of numbers, snapshots of weights, and the table of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.arrays import WeightArray

Values = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One row of one group, such as ``statistics/weights``: a scalar, or a vector over its columns, by array name."""

    group: str
    step: int
    values: Mapping[str, Values]
    long_names: Mapping[str, str] = field(default_factory=dict)
    """True names of arrays whose own name had to be made safe."""

    @property
    def nbytes(self) -> int:
        """Memory that the row holds."""
        return sum(value.nbytes for value in self.values.values())


@dataclass(frozen=True)
class Snapshot:
    """All weights at one step: for each slug an array in the stored dtype, of the array's `full_shape`."""

    step: int
    values: Mapping[str, npt.NDArray[Any]]
    release: Callable[[], None] = lambda: None
    """Called once the values have been written, or given up, and their memory may be used again."""

    @property
    def nbytes(self) -> int:
        """Memory that the snapshot holds."""
        return sum(value.nbytes for value in self.values.values())


@dataclass(frozen=True)
class Declaration:
    """The table of parameters by column, names first seen at its end, and the arrays that are to begin."""

    table: Mapping[str, npt.NDArray[Any]]
    arrays: tuple[WeightArray, ...] = ()
    added: tuple[str, ...] = ()
    """Names that an earlier table lacked."""


@dataclass(frozen=True)
class Batch:
    """What one training step gave; it is committed as a whole."""

    step: int
    rows: tuple[Row, ...] = ()
    snapshot: Snapshot | None = None
    declaration: Declaration | None = None

    @property
    def nbytes(self) -> int:
        """Memory that the batch holds."""
        return sum(row.nbytes for row in self.rows) + (self.snapshot.nbytes if self.snapshot else 0)

    def release(self) -> None:
        """Give up the memory of the snapshot."""
        if self.snapshot is not None:
            self.snapshot.release()


@dataclass(frozen=True)
class Before:
    """What a run held that is continued.

    Attributes
    ----------
    table, arrays
        The table of parameters by column, and the arrays of weights.
    last_step
        The last step of its lineage.
    statistics
        Statistics of the weights at the step that is continued from, by name, over the table; empty without a row.
    """

    table: Mapping[str, npt.NDArray[Any]]
    arrays: tuple[WeightArray, ...]
    last_step: int
    statistics: Mapping[str, npt.NDArray[np.float64]]
