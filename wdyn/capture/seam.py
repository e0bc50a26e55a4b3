"""What does the first row of a continued run take over from the row of that step, which it supersedes?

No step led to it in this attempt, so what it tells of one (the update, the gradient, how they relate, the learning
rate) is what the run knew already. It holds for weights that are still those of the run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.rows import Before, Counts, Row, Values

Columns = npt.NDArray[np.int64]
"""Those of the old row whose weights are still the same."""


def taken_over(rows: Sequence[Row], before: Before | None, *, gone: Collection[str]) -> tuple[Row, ...]:
    """Give the first rows of an attempt, with what is known of the step that led there.

    Parameters
    ----------
    before
        What the run held; None for a run that starts.
    gone
        Names whose weights are no longer those of the run, or are not there.
    """
    if before is None:
        return tuple(rows)
    return tuple(_filled(row, before, gone) if row.group in before.reached else row for row in rows)


def scalars(before: Before | None, *, gone: Collection[str]) -> Row | None:
    """Give what was used for the step that led there, and logged of it; None where other weights are continued."""
    return before.reached.get(schema.SCALARS) if before is not None and not gone else None


def _filled(row: Row, before: Before, gone: Collection[str]) -> Row:
    old = before.reached[row.group].values
    of_part = row.group.startswith(f"{schema.PARTS}/")
    names = before.parts[schema.PARAMETER] if of_part else before.table[schema.PARAMETER]
    same = np.flatnonzero([name not in gone for name in names.tolist()])
    return replace(row, values=dict(_values(row.values, old, same)))


def _values(
    new: Mapping[str, Values | Counts], old: Mapping[str, Values | Counts], same: Columns
) -> Iterator[tuple[str, Values | Counts]]:
    for name, values in new.items():
        known = old.get(name)
        if isinstance(values, Counts):
            yield name, _counts(known, values.shape, same) if isinstance(known, Counts) else values
        elif known is None or isinstance(known, Counts):
            yield name, values
        else:
            kept = values.copy()
            kept[same] = known[same]
            yield name, kept


def _counts(old: Counts, shape: tuple[int, int], same: Columns) -> Counts:
    dense = np.zeros(shape, dtype=np.int64)
    dense[same] = old.dense()[same]
    here = np.setdiff1d(same, old.absent)
    return Counts.of(dense, absent=np.setdiff1d(np.arange(shape[0]), here))
