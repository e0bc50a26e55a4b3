"""What did a killed writer leave behind that belongs to no committed row, and how does it go away?

An array that begins late, or grows by columns, never writes the chunks before it: readers find nothing there, and show
NaN. A chunk of a killed writer at that place would be taken for rows of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wdyn import schema
from wdyn.store import files, metadata
from wdyn.store.metadata import Node

GROUPS = (
    schema.PARAMETERS,
    schema.WEIGHTS,
    schema.STATISTICS,
    schema.HISTOGRAMS,
    schema.PARTS,
    schema.RELATIONS,
    schema.STATES,
    schema.SCALARS,
)


def sweep(run: Path, nodes: Mapping[str, Node]) -> None:
    """Delete half-written files, and chunks beyond what `nodes`, the committed arrays by path, reach to."""
    for file in [file for group in GROUPS for file in (run / group).rglob("*")]:
        at = metadata.chunk_indices(file.name)
        array = nodes.get(file.parent.relative_to(run).as_posix())
        if file.name.endswith(files.PARTIAL) or (at is not None and not (array and metadata.reaches(array, at))):
            file.unlink()
