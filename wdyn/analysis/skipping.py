"""What stands in for a measurement whose input was not recorded?"""

from __future__ import annotations

import xarray as xr

SKIPPED = "skipped"
"""Attribute of a result that could not be measured: the reason."""
REMEDY = "remedy"
"""Attribute beside it: how to record what was missing."""
CONCERNS = "concerns"
"""Attribute beside it where it is 0: the question is none to ask of this run."""


def skip(reason: str, *, remedy: str, concerns: bool = True) -> xr.Dataset:
    """Make the result of a measurement whose input was not recorded.

    Parameters
    ----------
    reason, remedy
        What was missing, and how to record it.
    concerns
        Whether the question can be asked of such a run at all. One that cannot is passed over, unless somebody asks it
        by name.

    Returns
    -------
    Dataset
        Without variables; its attributes ``skipped`` and ``remedy`` say what was missing and how to record it.
    """
    return xr.Dataset(attrs={SKIPPED: reason, REMEDY: remedy} | ({} if concerns else {CONCERNS: 0}))


def skipped(result: xr.Dataset) -> str:
    """Say why nothing could be measured; "" when it was."""
    return str(result.attrs.get(SKIPPED, ""))


def concerns(result: xr.Dataset) -> bool:
    """Say whether the question was one to ask of this run."""
    return bool(result.attrs.get(CONCERNS, 1))
