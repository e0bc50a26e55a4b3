"""What takes the room: which groups of a run, which dtypes of a model, and what did packing save?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.arrays import WeightArray
from wdyn.reports.anatomy import Anatomy, itemsize
from wdyn.reports.numbers import Table, cell
from wdyn.reports.summarizing import disk_bytes
from wdyn.reports.summary import size
from wdyn.store.reader import PATH

METADATA, TABLES, OTHER = "metadata", "tables", "other"
_DOCUMENT = "zarr.json"
_MEASURED = (schema.STATISTICS, schema.HISTOGRAMS)
_TABLES = (schema.PARAMETERS, schema.PARTS)


@dataclass(frozen=True)
class Held:
    """Weights of one dtype.

    Attributes
    ----------
    values
        Count of elements, of all snapshots of a run.
    nbytes
        What they take in memory.
    disk_bytes
        What they take on disk; -1 where that cannot be told apart.
    """

    dtype: str
    values: int
    nbytes: int
    disk_bytes: int = -1

    @property
    def ratio(self) -> float:
        """How many times smaller they are on disk; NaN when unknown."""
        return self.nbytes / self.disk_bytes if self.disk_bytes > 0 else float("nan")


@dataclass(frozen=True)
class Storage:
    """What takes the room of a run, or of a saved model.

    Attributes
    ----------
    disk_bytes
        Size of all files.
    dtypes
        Weights by dtype, largest first.
    groups
        Of a run, the size of the files of each kind of data, largest first.
    snapshots
        Of a run, how often weights were kept.
    """

    disk_bytes: int
    dtypes: tuple[Held, ...]
    groups: Mapping[str, int] = field(default_factory=dict)
    snapshots: int = 0


def of_model(found: Anatomy, *, files: Iterable[Path]) -> Storage:
    """Set the weights of a saved model, tied ones once, beside the size of its files."""
    held = (Held(dtype, count // itemsize(dtype), count) for dtype, count in found.bytes_by_dtype.items())
    return Storage(sum(file.stat().st_size for file in files), tuple(held))


def of_run(run: xr.DataTree) -> Storage:
    """Count the files of a run as `wdyn.open_run` gave it, superseded rows that were not pruned included."""
    place = Path(str(run.attrs[PATH]))
    sizes: Counter[str] = Counter()
    for file in place.rglob("*"):
        if file.is_file():
            sizes[_group(file.relative_to(place).parts)] += file.stat().st_size
    nodes = run.children[schema.WEIGHTS].children if schema.WEIGHTS in run.children else {}
    steps = {int(step) for node in nodes.values() for step in node.coords[schema.STEP].values}
    dtypes = sorted(_by_dtype(run, place, nodes), key=lambda one: -one.nbytes)
    return Storage(sizes.total(), tuple(dtypes), dict((+sizes).most_common()), len(steps))


def tables(found: Storage) -> tuple[Table, ...]:
    """Write it for people."""
    return (_groups(found), _packed(found)) if found.groups else (_plain(found),)


def _group(parts: tuple[str, ...]) -> str:
    """The kind of data that a file of a run holds, by the parts of its path."""
    if parts[-1] == _DOCUMENT:
        return METADATA
    inner = parts[1:] if parts[0] == schema.PARTS and parts[1] in _MEASURED else parts
    if inner[0] in _TABLES:
        return TABLES
    return inner[0] if len(inner) > 1 and not inner[0].startswith(".") else OTHER


def _by_dtype(run: xr.DataTree, place: Path, nodes: Mapping[str, xr.DataTree]) -> Iterator[Held]:
    values: Counter[str] = Counter()
    disk: Counter[str] = Counter()
    for slug, node in nodes.items():
        array = WeightArray.from_attributes(slug, node.attrs[schema.ATTRIBUTES])
        path = f"{schema.WEIGHTS}/{slug}"
        values[array.dtype] += _rows(run, path, node) * int(np.prod(array.full_shape, dtype=np.int64))
        disk[array.dtype] += disk_bytes(str(place / path / schema.VALUE))
        disk[array.dtype] -= (place / path / schema.VALUE / _DOCUMENT).stat().st_size
    for dtype, count in values.items():
        yield Held(dtype, count, count * itemsize(dtype), disk[dtype])


def _rows(run: xr.DataTree, path: str, node: xr.DataTree) -> int:
    """Count the rows whose values are on disk: all that were written, or, once some were pruned, those that show."""
    about: Mapping[str, Any] = run.attrs.get(schema.ATTRIBUTES, {})
    shown = node.sizes[schema.STEP]
    pruned = any(one.get("pruned", 0) for one in about.get("attempts", ()))
    return shown if pruned else int(about.get("rows", {}).get(path, shown))


def _plain(found: Storage) -> Table:
    rows = [(one.dtype, f"{one.values:,}", size(one.nbytes), cell(itemsize(one.dtype))) for one in found.dtypes]
    values = sum(one.values for one in found.dtypes)
    each = cell(found.disk_bytes / values) if values else ""
    rows.append(("on disk", f"{values:,}", size(found.disk_bytes), each))
    return Table("Storage", ("Dtype", "Values", "Size", "Bytes a value"), tuple(rows), (False, True, True, True))


def _groups(found: Storage) -> Table:
    rows = tuple((name, size(count), f"{count / found.disk_bytes:.1%}") for name, count in found.groups.items())
    return Table("Storage", ("Group", "On disk", "Share"), rows, (False, True, True))


def _packed(found: Storage) -> Table:
    rows = []
    for one in found.dtypes:
        each = size(one.disk_bytes / found.snapshots) if found.snapshots else ""
        rows.append((one.dtype, size(one.nbytes), size(one.disk_bytes), f"{one.ratio:.2f}", each))
    columns = ("Weights", "In memory", "On disk", "Times smaller", "Each snapshot")
    return Table("Snapshots", columns, tuple(rows), (False, True, True, True, True))
