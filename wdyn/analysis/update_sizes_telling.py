"""How does a finding about updates show its proof, and whom is it about?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity


@dataclass(frozen=True)
class Judged:
    """Which parameters are judged, as a mask and as the condition on the result ``m`` that gives it."""

    mask: npt.NDArray[np.bool_]
    where: str


def lead(names: list[str]) -> str:
    """Name the one that is told of, unless it was the only one to be named."""
    return names[0] if len(names) > 1 else "it"


def told(
    shown: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str, where: str
) -> Finding:
    """Make a finding about parameters; `where` is the condition on the result ``m`` that gives them again."""
    line = sel_line("wdyn.update_sizes(run)", where=where, parameter=names)
    return Finding(code, severity, message, shown.sel({schema.PARAMETER: names}), advice, line)
