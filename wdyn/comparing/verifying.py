"""Is a run as it was written, or one model what another is?"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import xarray as xr

from wdyn.store import verifying as store

if TYPE_CHECKING:
    from wdyn.checkpoints.sides import Given
    from wdyn.reports.round_trip import RoundTrip
    from wdyn.store.damage import Verification

Progress = Callable[[int, int], None]


@overload
def verify(
    a: str | os.PathLike[str] | xr.DataTree, b: None = None, *, progress: Progress | None = None
) -> Verification: ...
@overload
def verify(a: Given, b: Given, *, progress: Progress | None = None) -> RoundTrip: ...
def verify(a: Given, b: Given | None = None, *, progress: Progress | None = None) -> Verification | RoundTrip:
    """Is a run as it was written? Or, of two models: is the one what the other is?

    Of a run, every chunk of every array is read back, and its checksum compared. Of two models, compared are: the
    weights, bit for bit; which of them are tied; and of folders the config, the tokenizer and the outputs on a probe
    input, for which transformers loads each in turn; and the states of the optimizers, where both have one. What could
    not be compared is told.

    Parameters
    ----------
    a
        The run, or its folder; with `b` whatever `wdyn.diff` takes.
    b
        The model that is to be the same as `a`; None to read a run back.
    progress
        Called with the count of files, or of parameters, done so far, and with that of all.

    Returns
    -------
    Verification or RoundTrip
        Both have ``is_whole``, ``lines()`` and ``as_dict()``; of a run ``damages``, of two models ``findings``.

    Raises
    ------
    NotARun, NewerFormat
        No run is there, or one of a later wdyn.
    InvalidArgument
        `a` is a run in memory, of which no file is known; or one of the two models is none.
    """
    if b is None:
        return store.verify(a, progress=progress)  # type: ignore[arg-type]  # what is no run is refused there
    from wdyn.checkpoints.differences import differences
    from wdyn.checkpoints.sides import side
    from wdyn.comparing.accompanied import compared  # to read a run back takes no torch
    from wdyn.reports.round_trip import RoundTrip

    one, other = side(a), side(b)
    parameters = differences(one, other, spectra=False, progress=progress or (lambda done, total: None))
    return RoundTrip(compared(parameters, one, other))
