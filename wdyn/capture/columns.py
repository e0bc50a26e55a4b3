"""What does each column of a run's rows stand for, and which array takes which weight?

Rows name no parameters: their columns are those of two tables, of parameters and of parts. Names are only ever appended
to these, so that what was written before still stands where it did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.arrays import WeightArray, plan_arrays
from wdyn.capture.listing import Table, parameter_columns, part_columns
from wdyn.capture.partition import Partition
from wdyn.capture.sharing import ALONE, Sharing
from wdyn.rows import Before, Declaration
from wdyn.schema import Address


class Columns:
    """The tables of a run and its arrays of weights, as far as they have been declared.

    Parameters
    ----------
    before
        What the run held that is continued, if any.
    sharing
        How tensors are divided among processes.

    Attributes
    ----------
    of_parameter, of_part
        The column of each name, and of each label of a part.
    array_of
        The array of each name that has one.
    """

    def __init__(self, before: Before | None, sharing: Sharing = ALONE) -> None:
        self._sharing = sharing
        self._table: Table = dict(before.table) if before else {}
        self._parts: Table = dict(before.parts) if before else {}
        self._arrays = list(before.arrays) if before else []
        self.of_parameter = _numbered(self._table.get(schema.PARAMETER, ()))
        self.of_part = _numbered(self._parts.get(schema.PART, ()))
        self.array_of: dict[str, WeightArray] = {name: array for array in self._arrays for name in array.names}

    def lack(self, names: Iterable[str], labels: Iterable[str]) -> bool:
        """Whether any of these names, or of these labels of parts, has no column yet."""
        return not (self.of_parameter.keys() >= set(names) and self.of_part.keys() >= set(labels))

    def declare(
        self,
        watched: Sequence[Address],
        partitions: Mapping[str, Partition],
        *,
        homeless: Sequence[Address],
        group: npt.NDArray[np.int64],
        owned: Collection[str],
    ) -> Declaration:
        """Append what is new, and give the tables anew.

        Parameters
        ----------
        watched, partitions
            The parameters that are there now, and the cells of those that have any.
        homeless
            Those that need an array of their own from now on.
        group
            The optimizer's group of each of `watched`.
        owned
            Those names that hold values of their own.
        """
        added = tuple(one.name for one in watched if one.name not in self.of_parameter) if self._table else ()
        new = plan_arrays(homeless, first_number=len(self._arrays), division=self._sharing)
        self._arrays += new
        self.array_of |= {name: array for array in new for name in array.names}
        slugs = [self._slug(one.name) if one.name in owned else "" for one in watched]
        held: Table = {schema.GROUP: group, "in_optimizer": group >= 0, schema.WEIGHTS: np.array(slugs, np.str_)}
        self._table = _merged(self._table, {**parameter_columns(watched), **held}, index=schema.PARAMETER)
        self.of_parameter = _numbered(self._table[schema.PARAMETER])
        if partitions:
            self._parts = _merged(self._parts, part_columns(partitions), index=schema.PART)
            self.of_part = _numbered(self._parts[schema.PART])
        return Declaration(self._table, tuple(new), added, self._parts)

    def _slug(self, name: str) -> str:
        return self.array_of[name].slug if name in self.array_of else ""


def _numbered(names: Sequence[Any] | npt.NDArray[Any]) -> dict[str, int]:
    return {str(name): at for at, name in enumerate(names)}


def _merged(old: Table, new: Table, *, index: str) -> Table:
    """One table: the rows of `old` where they stood, as `new` has them now if it does, then what only `new` has."""
    at_old, at_new = _numbered(old.get(index, ())), _numbered(new[index])
    names = list(at_old | at_new)
    merged: Table = {}
    for column, values in new.items():
        rows = [values[at_new[name]] if name in at_new else old[column][at_old[name]] for name in names]
        merged[column] = np.array(rows, dtype=np.str_ if values.dtype.kind in "UOT" else values.dtype)
    return merged
