"""Which adapters changed nothing, much, or by few directions?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
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


def check(result: xr.Dataset, *, large: float = 0.5, few: float = 1 / 3) -> Iterator[Finding]:
    """Judge what `adapters` measured.

    Parameters
    ----------
    large
        Share of the norm of a weight from which a change is large.
    few
        Share of its rank below which an adapter uses few directions; of rank 4 or more.
    """
    last = result.isel({schema.STEP: -1})
    many = result.sizes[schema.STEP] > 1
    # From the first snapshot on: one that was trained and is zero now was reset by somebody.
    yield from _finding(
        result,
        ((result["still_zero"] == 1).all(schema.STEP) & many).values,
        "LOR001",
        Severity.WARNING,
        "still zero at the last snapshot, so that {they} never changed anything",
        "Is it active (set_adapter), trainable, and in the optimizer? Is its module reached by the forward?",
    )
    yield from _finding(
        result,
        result["base_trains"].values,
        "LOR002",
        Severity.WARNING,
        "on a weight that trains as well, so that its change is not the adapter's alone",
        "Freeze the base before the optimizer is made, or leave the adapter out.",
    )
    yield from _finding(
        result,
        (last["ratio"] > large).values,
        "LOR003",
        Severity.INFO,
        f"more than {large:.0%} of the norm of the weight under {{them}}, at the last snapshot",
        "So much of a change forgets what the weight knew; a smaller learning rate or alpha changes less.",
    )
    yield from _finding(
        result,
        ((last["rank_used"] < few * last["rank"]) & (last["rank"] >= 4)).values,
        "LOR004",
        Severity.INFO,
        f"fewer than {few:.0%} of the directions that {{their}} rank allows, at the last snapshot",
        "A smaller rank may do as well; or the training is short, or alpha / r too small for the rank: see rsLoRA.",
    )
    yield from _finding(
        result,
        result["scale"].isnull().values,
        "LOR005",
        Severity.INFO,
        "of unknown alpha / r, without which the size of {their} change cannot be told",
        "Record with wdyn.watch, which asks the modules of PEFT for it; a file of weights does not hold it.",
    )


_VERB = {"LOR003": ("changes", "change"), "LOR004": ("uses", "use")}


def _finding(
    result: xr.Dataset, where: npt.NDArray[np.bool_], code: str, severity: Severity, told: str, advice: str
) -> Iterator[Finding]:
    at = np.flatnonzero(where)
    if not at.size:
        return
    one = at.size == 1
    names = [str(label) for label in result[_ADAPTER].values[at]]
    words = {"they": "it" if one else "they", "them": "it" if one else "them", "their": "its" if one else "their"}
    verb = _VERB.get(code, ("is", "are"))[not one]
    count = "1 adapter" if one else f"{at.size} adapters"
    message = f"{count} {verb} {told.format(**words)}: {examples(names)}"
    line = sel_line("wdyn.adapters(run)", adapter=names)
    yield Finding(code, severity, message, result.isel({_ADAPTER: at}), advice, line)
