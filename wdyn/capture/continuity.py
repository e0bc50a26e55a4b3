"""Does the model go on from where the run that it continues ended?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from wdyn import schema
from wdyn.errors import InvalidArgument
from wdyn.naming import examples
from wdyn.rows import Before, Row
from wdyn.schema import Address, Quantity

_CLOSE = 1e-6
"""Relative difference of statistics that summing in another order may make."""


def continuity(before: Before | None, now: Sequence[Address], rows: Sequence[Row], *, step: int) -> Iterator[str]:
    """Say, sentence by sentence, what does not fit the run that is continued after `step`.

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
        return
    yield from _other_shapes(before, now)
    if step > before.last_step:
        yield (
            f"The run continues after step {step}, but its last recorded step is {before.last_step}: what was "
            f"between was lost with the end of the last attempt, or resume={step} is not meant"
        )
    changed = _changed(before, rows)
    if changed:
        yield (
            f"The weights are not those that the run has at step {step}: {len(changed)} differ, such as "
            f"{examples(changed)}. Was another checkpoint loaded? Say which step it is of: resume=STEP, or "
            f"Watch.load_state_dict with what Watch.state_dict() gave when it was saved"
        )


def _other_shapes(before: Before, now: Sequence[Address]) -> Iterator[str]:
    shapes = {one.name: list(one.shape) for one in now}
    recorded = zip(before.table[schema.PARAMETER].tolist(), before.table["shape"].tolist(), strict=True)
    known = {name: json.loads(shape) for name, shape in recorded}
    other = [name for name in known if name in shapes and shapes[name] != known[name]]
    same = [name for name in known if shapes.get(name) == known[name]]
    if len(same) * 2 < len(known):
        raise InvalidArgument(
            f"This is not the model of the run: of its {len(known)} parameters the model has {len(same)} with the "
            f"same name and shape. Record into a new run, or continue with the model that began this one"
        )
    if other:
        yield f"{len(other)} parameters have another shape than in the run before: {examples(other)}"


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
