"""What does planted training leave beside the weights? Updates, gradients and moments, by closed forms.

A weight's gradient is the same at every step, so the moments of Adam are known: m = (1 - beta1^t) g and
v = (1 - beta2^t) g^2, t being the steps since the first row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.rows import Row
from wdyn.schema import Address, Extra, Quantity
from wdyn.testing.numbers import statistics
from wdyn.testing.planting import Planted, gradients

BETA1, BETA2 = 0.9, 0.999

Tensors = Mapping[str, npt.NDArray[Any]]


def training_rows(
    planted: Planted, addresses: Sequence[Address], weights_at: Callable[[int], Tensors]
) -> Iterator[tuple[Row, ...]]:
    """Give, for each recorded step in order, the rows of all that was asked for beside the weights."""
    slopes = gradients(planted, addresses)
    names = [one.name for one in addresses]
    first, before = planted.steps[0], planted.steps[0]
    last: Tensors = {}
    for step in planted.steps:
        found: dict[str, Tensors] = {}
        rows: list[Row] = []
        if Quantity.UPDATES in planted.what:
            old, new = (weights_at(at) if step > first else {} for at in (step - 1, step))
            moved = {name: values.astype(np.float64) - old[name] for name, values in new.items()}
            found[Quantity.UPDATES] = moved
            rows.append(_relations(step, names, moved, old=old, last=last, gap=step - before))
            last, before = moved, step
        if Quantity.DISPLACEMENT in planted.what:
            begin = weights_at(first)
            found[Quantity.DISPLACEMENT] = {
                name: values.astype(np.float64) - begin[name] for name, values in weights_at(step).items()
            }
        found |= _of_gradients(planted.what, slopes, made=step - first)
        yield (*rows, *(_row(quantity, step, names, values) for quantity, values in found.items()))


def _of_gradients(what: Sequence[str], slopes: Tensors, *, made: int) -> dict[str, Tensors]:
    found: dict[str, Tensors] = {}
    if Quantity.GRADIENTS in what:
        found[Quantity.GRADIENTS] = slopes if made else {}
    if Extra.MOMENTS in what and made:
        m, v = 1 - BETA1**made, 1 - BETA2**made
        found["exp_avg"] = {name: m * values for name, values in slopes.items()}
        found["exp_avg_sq"] = {name: v * values**2 for name, values in slopes.items()}
    return found


def _row(quantity: str, step: int, names: Sequence[str], values: Tensors) -> Row:
    """Statistics of each parameter; the marks of what was not recorded, where there are no such values."""
    nothing = {name: -1 if name in schema.COUNTS else np.nan for name in schema.STATISTIC_NAMES}
    measured = [statistics(values[name]) if name in values else nothing for name in names]
    columns = {name: np.array([one[name] for one in measured]) for name in schema.STATISTIC_NAMES}
    return Row(f"{schema.STATISTICS}/{quantity}", step, columns)


def _relations(step: int, names: Sequence[str], moved: Tensors, *, old: Tensors, last: Tensors, gap: int) -> Row:
    """How each update stands to the weights before it, and to the update of the row before."""
    nothing = dict.fromkeys(schema.RELATION_NAMES, np.nan)
    rows = [
        nothing
        | {
            schema.UPDATE_RATIO: float(np.linalg.norm(moved[name]) / (np.linalg.norm(old[name]) or np.nan)),
            schema.WEIGHT_COSINE: _cosine(moved[name], old[name]),
            schema.UPDATE_COSINE: _cosine(moved[name], last[name]) if last else np.nan,
            schema.UPDATE_GAP: gap if last else np.nan,
        }
        if moved
        else nothing
        for name in names
    ]
    return Row(schema.RELATIONS, step, {name: np.array([one[name] for one in rows]) for name in schema.RELATION_NAMES})


def _cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Cosine of two tensors; NaN where one of them is all zero."""
    norms = float(np.linalg.norm(one.astype(np.float64)) * np.linalg.norm(other.astype(np.float64)))
    return float((one * other).sum(dtype=np.float64) / (norms or np.nan))
