"""Does the model go on from where the run that it continues ended?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.rows import Before, Row
from wdyn.schema import Address, Quantity

_CLOSE = 1e-6
"""Relative difference of statistics that summing in another order may make."""


@dataclass(frozen=True)
class Continuity:
    """How a model compares with that of the run.

    Attributes
    ----------
    lost, reshaped
        Parameters of the run that the model no longer has, or has in another shape.
    changed
        Those of the same shape whose weights are not those that the run has at this step.
    complaints
        What the user is told, sentence by sentence.
    """

    lost: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()

    @property
    def gone(self) -> frozenset[str]:
        """Parameters of which what the run held no longer tells."""
        return frozenset((*self.lost, *self.reshaped, *self.changed))


def continuity(before: Before | None, now: Sequence[Address], rows: Sequence[Row], *, step: int) -> Continuity:
    """Compare a model with the run that is continued after `step`.

    Parameters
    ----------
    before
        What the run held; None for a run that starts.
    now
        The parameters of the model.
    rows
        Its first rows in this attempt.

    Raises
    ------
    InvalidArgument
        It is another model: most parameters of the run are gone, or have another shape.
    """
    if before is None:
        return Continuity()
    shapes = {one.name: list(one.shape) for one in now}
    recorded = zip(before.table[schema.PARAMETER].tolist(), before.table["shape"].tolist(), strict=True)
    known = {name: json.loads(shape) for name, shape in recorded}
    lost = tuple(name for name in known if name not in shapes)
    reshaped = tuple(name for name in known if name in shapes and shapes[name] != known[name])
    if (len(lost) + len(reshaped)) * 2 > len(known):
        raise InvalidArgument(
            f"This is not the model of the run: of its {len(known)} parameters the model has "
            f"{len(known) - len(lost) - len(reshaped)} with the same name and shape. Record into a new run, or "
            f"continue with the model that began this one"
        )
    changed = tuple(name for name in _changed(before, rows) if name not in reshaped)
    found = Continuity(lost, reshaped, changed)
    return Continuity(lost, reshaped, changed, tuple(_complaints(found, before, step=step)))


def _complaints(found: Continuity, before: Before, *, step: int) -> Iterator[str]:
    if found.lost:
        yield (
            f"The model lacks {len(found.lost)} of the parameters of the run: {examples(found.lost)}. "
            f"They stay in its table, and have no rows after step {step}"
        )
    if found.reshaped:
        yield (
            f"{len(found.reshaped)} parameters have another shape than in the run before: {examples(found.reshaped)}. "
            f"The table gives the new one, and their snapshots go on as arrays of their own"
        )
    if step > before.last_step:
        yield (
            f"The run continues after step {step}, but its last recorded step is {before.last_step}: what was "
            f"between was lost with the end of the last attempt, or resume={step} is not meant"
        )
    if found.changed:
        yield (
            f"The weights are not those that the run has at step {step}: {len(found.changed)} differ, such as "
            f"{examples(found.changed)}. Was another checkpoint loaded? Say which step it is of: resume=STEP, or "
            f"Watch.load_state_dict with what Watch.state_dict() gave when it was saved"
        )


def _changed(before: Before, rows: Sequence[Row]) -> list[str]:
    place = f"{schema.STATISTICS}/{Quantity.WEIGHTS}"
    row = next((row for row in rows if row.group == place), None)
    if row is None or not before.statistics:
        return []
    names = before.table[schema.PARAMETER].tolist()
    differ = np.zeros(len(names), dtype=bool)
    for statistic, old in before.statistics.items():
        new = np.asarray(row.values[statistic])[: len(old)]
        differ[: len(old)] |= np.abs(new - old) > _CLOSE * np.abs(old)  # False where either is NaN: not recorded
    return [name for name, one in zip(names, differ, strict=True) if one]
