"""How do tensors become the rows of one quantity: its statistics and histograms, of whole parameters and of parts?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from wdyn import bins, schema
from wdyn.capture.partition import Partition
from wdyn.capture.pieces import local
from wdyn.capture.statistics import Measured, measure
from wdyn.capture.statistics import together as behind
from wdyn.naming import part_label
from wdyn.rows import Counts, Row, Values


@dataclass(frozen=True)
class Shown:
    """Whose numbers each column of a row shows, and how many columns there are."""

    source: Mapping[int, str]
    columns: int


@dataclass(frozen=True)
class Layout:
    """What the columns of parameters and of parts show."""

    whole: Shown
    parts: Shown


@dataclass(frozen=True)
class Populations:
    """What was measured, and whose numbers these are: for each name, or label, the place of its own."""

    measured: Measured
    place: Mapping[str, int]

    def at(self, shown: Shown) -> dict[int, int]:
        """For each column that shows any of this the place of its numbers."""
        return {column: self.place[name] for column, name in shown.source.items() if name in self.place}


@dataclass(frozen=True)
class Measurement:
    """What was measured of parameters, by name, and of their parts, by label."""

    whole: Populations
    parts: Populations


def measured(
    tensors: Mapping[str, Tensor], partitions: Mapping[str, Partition], *, minus: Mapping[str, Tensor] | None = None
) -> Measurement:
    """Measure tensors, less others of their names and shapes, each element once: the whole is its cells together.

    Of a DTensor the piece that this process holds is measured, less and cut by what fits that piece.
    """
    cells: list[Tensor] = []
    others: list[Tensor | None] = []
    wholes: list[range] = []
    parts: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        first, cut, held = len(cells), partitions.get(name), local(tensor)
        cells += cut.views(held) if cut else [held]
        if minus is not None:
            others += cut.views(minus[name]) if cut else [minus[name]]
        wholes.append(range(first, len(cells)))
        parts |= {part_label(name, part.name): [first + at for at in part.cells] for part in (cut.parts if cut else ())}
    numbers = measure(cells, minus=others if minus is not None else None)
    whole = numbers.joined(wholes) if parts else numbers
    return Measurement(
        Populations(whole, {name: at for at, name in enumerate(tensors)}),
        Populations(numbers.joined(list(parts.values())), {name: at for at, name in enumerate(parts)}),
    )


def together(several: Sequence[Measurement]) -> Measurement:
    """Put measurements of different parameters together; of one that comes twice, the last counts."""
    return Measurement(_together([one.whole for one in several]), _together([one.parts for one in several]))


def _together(several: Sequence[Populations]) -> Populations:
    place: dict[str, int] = {}
    first = 0
    for one in several:
        place |= {name: first + at for name, at in one.place.items()}
        first += len(one.measured.sums)
    return Populations(behind([one.measured for one in several]), place)


def quantity_rows(
    quantity: str, step: int, measurement: Measurement, layout: Layout, *, attributes: Mapping[str, Any] | None = None
) -> Iterator[Row]:
    """Give the rows of a quantity; columns of which nothing was measured are "not recorded"."""
    yield from _rows("", quantity, step, measurement.whole, layout.whole, attributes or {})
    if layout.parts.columns:
        yield from _rows(f"{schema.PARTS}/", quantity, step, measurement.parts, layout.parts, attributes or {})


def _rows(
    prefix: str, quantity: str, step: int, populations: Populations, shown: Shown, attributes: Mapping[str, Any]
) -> Iterator[Row]:
    numbers, at = populations.measured, populations.at(shown)
    statistics = {name: spread(values, at, shown=shown) for name, values in numbers.statistics().items()}
    yield Row(f"{prefix}{schema.STATISTICS}/{quantity}", step, statistics, attributes=attributes)
    counts = {schema.COUNTED: _counts(numbers, at, shown=shown)}
    yield Row(f"{prefix}{schema.HISTOGRAMS}/{quantity}", step, counts, attributes=attributes)


def spread(values: Values, at: Mapping[int, int], *, shown: Shown) -> Values:
    """Put the values at the places ``at[column]`` into their columns; the others are "not recorded"."""
    integer = values.dtype.kind == "i"
    row: Values = np.full(shown.columns, -1, dtype=np.int64) if integer else np.full(shown.columns, np.nan)
    row[list(at)] = values[list(at.values())]
    return row


def _counts(measured: Measured, at: Mapping[int, int], *, shown: Shown) -> Counts:
    """As `spread`, without ever holding every column: nearly all counts are zero."""
    filled = np.array(sorted(at), dtype=np.int64)
    counts = measured.counts[[at[column] for column in filled.tolist()]]
    row, inside = np.nonzero(counts)
    absent = np.setdiff1d(np.arange(shown.columns), filled)
    places = filled[row] * bins.COUNT + measured.used[inside]
    return Counts((shown.columns, bins.COUNT), places, counts[row, inside], absent)
