"""What stands in for a measurement whose input was not recorded?"""

from __future__ import annotations

import xarray as xr

SKIPPED = "skipped"
"""Attribute of a result that could not be measured: the reason."""
REMEDY = "remedy"
"""Attribute beside it: how to record what was missing."""


def skip(reason: str, *, remedy: str) -> xr.Dataset:
    """Make the result of a measurement whose input was not recorded.

    Returns
    -------
    Dataset
        Without variables; its attributes ``skipped`` and ``remedy`` say what was missing and how to record it.
    """
    return xr.Dataset(attrs={SKIPPED: reason, REMEDY: remedy})


def skipped(result: xr.Dataset) -> str:
    """Say why nothing could be measured; "" when it was."""
    return str(result.attrs.get(SKIPPED, ""))
