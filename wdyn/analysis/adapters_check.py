"""Which adapters changed nothing, much, or by few directions?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "LOR001": "An adapter still adds nothing after training.",
    "LOR002": "The weight under an adapter trains as well.",
    "LOR003": "An adapter changed its weight by a large share.",
    "LOR004": "Adapters use few of the directions that their rank gives them.",
    "LOR005": "The factor alpha / r of an adapter is not known.",
}

_ADAPTER = "adapter"


@dataclass(frozen=True)
class _Told:
    """What is said of the adapters that a code is of; ``{their}``, ``{them}``, ``{they}`` fit their number."""

    severity: Severity
    verbs: tuple[str, str]
    """For one, and for several."""
    what: str
    advice: str


_ARE = ("is", "are")
_TOLD = {
    "LOR001": _Told(
        Severity.WARNING,
        _ARE,
        "still zero at the last snapshot, so that {they} never changed anything",
        "Is it active (set_adapter), trainable, and in the optimizer? Is its module reached by the forward?",
    ),
    "LOR002": _Told(
        Severity.WARNING,
        _ARE,
        "on a weight that trains as well, so that its change is not the adapter's alone",
        "Freeze the base before the optimizer is made, or leave the adapter out.",
    ),
    "LOR003": _Told(
        Severity.INFO,
        ("changes", "change"),
        "more than {large:.0%} of the norm of the weight under {them}, at the last snapshot",
        "So much of a change forgets what the weight knew; a smaller learning rate or alpha changes less.",
    ),
    "LOR004": _Told(
        Severity.INFO,
        ("uses", "use"),
        "fewer than {few:.0%} of the directions that {their} rank allows, at the last snapshot",
        "A smaller rank may do as well; or the training is short, or alpha / r too small for the rank: see rsLoRA.",
    ),
    "LOR005": _Told(
        Severity.INFO,
        _ARE,
        "of unknown alpha / r, without which the size of {their} change cannot be told",
        "Record with wdyn.watch, which asks the modules of PEFT for it; a file of weights does not hold it.",
    ),
}


def check(result: xr.Dataset, *, large: float = 0.5, few: float = 1 / 3) -> Iterator[Finding]:
    """Judge what `adapters` measured.

    Parameters
    ----------
    large
        Share of the norm of a weight from which a change is large.
    few
        Share of its rank below which an adapter uses few directions; of rank 4 or more.
    """
    for code, where in _where(result, large=large, few=few).items():
        at = np.flatnonzero(where.values)
        if at.size:
            yield _finding(result.isel({_ADAPTER: at}), code, large=large, few=few)


def _where(result: xr.Dataset, *, large: float, few: float) -> dict[str, xr.DataArray]:
    """Say of each code which adapters it is of."""
    last = result.isel({schema.STEP: -1})
    many = result.sizes[schema.STEP] > 1
    return {
        # From the first snapshot on: one that was trained and is zero now was reset by somebody.
        "LOR001": (result["still_zero"] == 1).all(schema.STEP) & many,
        "LOR002": result["base_trains"],
        "LOR003": last["ratio"] > large,
        "LOR004": (last["rank_used"] < few * last["rank"]) & (last["rank"] >= 4),
        "LOR005": result["scale"].isnull(),
    }


def _finding(found: xr.Dataset, code: str, **limits: float) -> Finding:
    told, many = _TOLD[code], found.sizes[_ADAPTER] > 1
    names = [str(label) for label in found[_ADAPTER].values]
    words = {"they": "they", "them": "them", "their": "their"} if many else {"they": "it", "them": "it", "their": "its"}
    count = f"{len(names)} adapters" if many else "1 adapter"
    message = f"{count} {told.verbs[many]} {told.what.format(**words, **limits)}: {examples(names)}"
    line = sel_line("wdyn.adapters(run)", adapter=names)
    return Finding(code, told.severity, message, found, told.advice, line)
