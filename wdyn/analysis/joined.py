"""How do the answers of several runs become one? They are lined up along `run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.skipping import SKIPPED, concerns, skipped


def concatenate(results: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Line results up along `run`: what one run lacks is NaN there; runs that were skipped are named in attributes."""
    reasons = {label: skipped(result) for label, result in results.items() if skipped(result)}
    measured = {label: result for label, result in results.items() if label not in reasons}
    text = "; ".join(f"{label}: {reason}" for label, reason in reasons.items())
    if not measured:
        return max(results.values(), key=concerns).assign_attrs({SKIPPED: text})
    whole = xr.concat(
        list(measured.values()),
        dim=xr.Variable(schema.RUN, list(measured)),
        join="outer",
        data_vars="all",
        coords="different",
        compat="equals",
        fill_value=_fills(measured.values()),
        combine_attrs="override",
    )
    return whole.assign_attrs(skipped_runs=text)


def _fills(results: Iterable[xr.Dataset]) -> dict[str, object]:
    """Choose what stands where a run has no value: "" among words, False among answers, else NaN."""
    kinds = {str(name): values.dtype.kind for result in results for name, values in result.variables.items()}
    return {name: {"U": "", "O": "", "b": False}.get(kind, np.nan) for name, kind in kinds.items()}
