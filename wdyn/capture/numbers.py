"""What was measured of a step, how is it joined over several processes, and which rows does it give?"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn import schema
from wdyn.capture import relations
from wdyn.capture.measuring import Layout, Measurement, Populations, Shown, quantity_rows, spread
from wdyn.capture.moments import quantity_name
from wdyn.capture.relations import Sums
from wdyn.capture.statistics import Measured, together
from wdyn.rows import Row
from wdyn.schema import Quantity


@dataclass(frozen=True)
class Numbers:
    """What was measured of one step, over what of the parameters lies in one process, or in all of them.

    Attributes
    ----------
    quantities
        By name of the quantity.
    moments
        By the key under which the optimizer holds them.
    relations
        What relations are made of, where updates were measured.
    fingerprints
        Of the bits of the tensors in this process, by name, where copies are to be compared.
    """

    quantities: Mapping[Quantity, Measurement] = field(default_factory=dict)
    moments: Mapping[str, Measurement] = field(default_factory=dict)
    relations: Sums | None = None
    fingerprints: Mapping[str, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that they hold."""
        every = (*self.quantities.values(), *self.moments.values())
        held = (one.measured for measurement in every for one in (measurement.whole, measurement.parts))
        return sum(one.sums.nbytes + one.counts.nbytes for one in held)


def number_rows(step: int, numbers: Numbers, layout: Layout) -> Iterator[Row]:
    """Give the rows of all that was measured."""
    for quantity, measurement in numbers.quantities.items():
        yield from quantity_rows(quantity, step, measurement, layout)
    if numbers.relations is not None:
        yield _relations_row(step, numbers.relations, numbers.quantities[Quantity.UPDATES], layout.whole)
    for key, measurement in numbers.moments.items():
        name = quantity_name(key)
        attributes = {} if name == key else {"quantity": key}
        yield from quantity_rows(name, step, measurement, layout, attributes=attributes)


def _relations_row(step: int, sums: Sums, updates: Measurement, shown: Shown) -> Row:
    statistics = updates.whole.measured.statistics()
    norms = np.where(statistics["nonfinite"] == 0, statistics["l2"], np.nan)  # l2 is that of the finite elements
    found = relations.relations(sums, norms[[updates.whole.place[name] for name in sums.names]])
    place = {name: at for at, name in enumerate(sums.names)}
    at = {column: place[name] for column, name in shown.source.items() if name in place}
    return Row(schema.RELATIONS, step, {name: spread(values, at, shown=shown) for name, values in found.items()})


def joined(several: Sequence[Numbers]) -> Numbers:
    """Join what disjoint pieces of the same parameters gave."""
    keys = dict.fromkeys(key for one in several for key in one.moments)
    sums = [one.relations for one in several if one.relations is not None]
    return Numbers(
        {name: _joined([one.quantities[name] for one in several]) for name in several[0].quantities},
        {key: _joined([one.moments[key] for one in several if key in one.moments]) for key in keys},
        relations.added(sums) if sums else None,
    )


def _joined(several: Sequence[Measurement]) -> Measurement:
    return Measurement(_of_pieces([one.whole for one in several]), _of_pieces([one.parts for one in several]))


def _of_pieces(several: Sequence[Populations]) -> Populations:
    """Join the populations of one name; each piece is of a process."""
    every = together([one.measured for one in several])
    members: dict[str, list[int]] = {}
    first = 0
    for one in several:
        for name, at in one.place.items():
            members.setdefault(name, []).append(first + at)
        first += len(one.measured.sums)
    return Populations(every.joined(list(members.values())), {name: at for at, name in enumerate(members)})


def to_bytes(numbers: Numbers) -> bytes:
    """Write numbers, for another process."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for kind, measurements in (("quantities", numbers.quantities), ("moments", numbers.moments)):
        for at, measurement in enumerate(measurements.values()):
            for of, populations in (("whole", measurement.whole), ("parts", measurement.parts)):
                arrays |= {f"{kind}/{at}/{of}/{name}": one for name, one in _arrays(populations).items()}
    if numbers.relations is not None:
        arrays |= {f"relations/{key}": sums for key, sums in numbers.relations.of.items()}
        arrays["related"] = _texts(numbers.relations.names)
    arrays["printed"] = _texts(numbers.fingerprints)
    arrays["fingerprints"] = np.array(list(numbers.fingerprints.values()), dtype=np.int64)
    about = {"quantities": list(numbers.quantities), "moments": list(numbers.moments)}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> Numbers:
    """Read what `to_bytes` wrote.

    Raises
    ------
    ValueError, KeyError, OSError
        It is something else.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = dict(file)
    about = json.loads(arrays["about"].tobytes())
    keys = [name.removeprefix("relations/") for name in arrays if name.startswith("relations/")]
    sums = {key: arrays[f"relations/{key}"] for key in keys}
    return Numbers(
        {Quantity(name): _measurement(arrays, f"quantities/{at}") for at, name in enumerate(about["quantities"])},
        {key: _measurement(arrays, f"moments/{at}") for at, key in enumerate(about["moments"])},
        Sums(tuple(arrays["related"].tolist()), sums) if "related" in arrays else None,
        dict(zip(arrays["printed"].tolist(), arrays["fingerprints"].tolist(), strict=True)),
    )


def _arrays(populations: Populations) -> dict[str, npt.NDArray[Any]]:
    one = populations.measured
    at = np.array(list(populations.place.values()), dtype=np.int64)
    return {"names": _texts(populations.place), "at": at, "sums": one.sums, "used": one.used, "counts": one.counts}


def _measurement(arrays: Mapping[str, npt.NDArray[Any]], place: str) -> Measurement:
    return Measurement(_populations(arrays, f"{place}/whole"), _populations(arrays, f"{place}/parts"))


def _populations(arrays: Mapping[str, npt.NDArray[Any]], place: str) -> Populations:
    names, at, sums, used, counts = (arrays[f"{place}/{name}"] for name in ("names", "at", "sums", "used", "counts"))
    return Populations(Measured(sums, used, counts), dict(zip(names.tolist(), at.tolist(), strict=True)))


def _texts(names: Mapping[str, Any] | Sequence[str]) -> npt.NDArray[np.str_]:
    return np.array(list(names), dtype=np.str_)
