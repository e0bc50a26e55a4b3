"""How is a run opened? Lazily, following the effective lineage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import xarray as xr

from wdyn.errors import DamagedRun, NoMatch
from wdyn.store.opening import Opening
from wdyn.store.root import read_root

PATH = "path"
"""Root attribute of an opened run: where it lies."""

_IMPOSSIBLE: Final = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, TypeError, ValueError)
"""What comes of metadata that contradicts itself."""


def open_run(
    path: str | os.PathLike[str],
    *,
    attempt: int | None = None,
    chunks: Mapping[str, int] | str | None = None,
    size_limit: int | None = None,
) -> xr.DataTree:
    """Open a run as a labelled tree of arrays; nothing but labels is read yet.

    What is read later is checked: a chunk that is not as it was written raises `DamagedRun`, whichever part of it was
    asked for, and one that is not there at all shows as missing.

    Parameters
    ----------
    path
        The run's folder.
    attempt
        Show the run as it stood when this attempt was the newest, with rows that later attempts superseded.
        Default: the effective lineage, in which an attempt that starts at step s hides earlier rows with step >= s.
    chunks
        Given to xarray, to get dask arrays: ``{}`` or ``"auto"``, or lengths by dimension.
    size_limit
        Bytes that reading one array, or a part of one, may take: what metadata claims is not believed beyond it.
        Default: the memory of this machine.

    Returns
    -------
    DataTree
        Groups ``parameters``, ``weights/<slug>``, ``statistics/<quantity>``, ``histograms/<quantity>``, ``parts``,
        ``relations``, ``states``, ``scalars``, as far as they were recorded. bfloat16 and float8 weights show as
        float32, which holds each of their values.

    Raises
    ------
    NotARun, NewerFormat, DamagedRun
        `path` holds no run, one of a later wdyn, or one that cannot be read.
    NoMatch
        The run has no such attempt.
    """
    place = Path(path)
    root = read_root(place)
    attempts: Sequence[Mapping[str, Any]] = root.attributes["attempts"]
    newest = len(attempts) - 1 if attempt is None else attempt
    if not 0 <= newest < len(attempts):
        raise NoMatch(f"{place} has attempts 0 to {len(attempts) - 1}, not {attempt}")
    try:
        run = Opening(place.absolute(), root, attempts[: newest + 1], size_limit).tree()
    except (DamagedRun, *_IMPOSSIBLE) as error:
        raise DamagedRun(f"{place} cannot be opened: {error}") from error
    run.attrs[PATH] = str(place)
    if chunks is None:
        return run
    lengths = {dim: chunks for node in run.subtree for dim in node.sizes} if isinstance(chunks, str) else chunks
    return run.chunk(lengths)
