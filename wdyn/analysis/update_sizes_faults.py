"""Which updates undo each other, are owed to decay alone, do not happen at all, or are no numbers?"""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from wdyn import schema
from wdyn.analysis.telling import count, names_where, which
from wdyn.analysis.update_sizes_telling import Judged, lead, told
from wdyn.findings import Finding, Severity
from wdyn.naming import examples


def oscillating(result: xr.Dataset, judged: Judged, *, cosine: float, overshoot: float) -> Iterator[Finding]:
    """Tell of weights whose updates take each other back."""
    surely = result["late_cosine"] + 2 * result["late_cosine_error"]
    names = names_where(result, judged.mask & (surely < cosine).values, by=-result["late_cosine"])
    if not names:
        return
    worst = result.sel({schema.PARAMETER: names[0]})
    undone = float(worst["late_undone"])
    yield told(
        result[["update_cosine", "undone", "late_cosine", "late_cosine_error", "late_undone"]],
        names,
        "UPD003",
        Severity.WARNING if undone >= overshoot else Severity.INFO,
        f"{count(names, 'weight', 'weights')} oscillate{'s' * (len(names) == 1)}: {which(result, names)}; in "
        f"{lead(names)} each update takes back {undone:.0%} of the one before "
        f"(cosine {float(worst['late_cosine']):.2f})",
        "The steps are too long for the curvature: lower the learning rate, take larger batches, or use momentum.",
        f"{judged.where} & (m.late_cosine + 2 * m.late_cosine_error < {cosine:g})",
    )


def decayed(result: xr.Dataset, judged: Judged, *, limit: float) -> Iterator[Finding]:
    """Tell of weights whose updates are mostly decay."""
    share = result["late_decay_share"]
    names = names_where(result, judged.mask & (share > limit).values, by=share)
    if names:
        most = float(share.sel({schema.PARAMETER: names[0]}))
        yield told(
            result[["decay_share", "radial", "late_decay_share"]],
            names,
            "UPD004",
            Severity.INFO,
            f"Weight decay makes up most of the update of {count(names, 'weight', 'weights')}: "
            f"{which(result, names)}; its norm is {most:.2g} of that of the whole update in {lead(names)}",
            "Their gradients are small beside the decay: lower the decay, or keep them out of the group that decays.",
            f"{judged.where} & (m.late_decay_share > {limit:g})",
        )


def still_weights(result: xr.Dataset, judged: Judged, *, limit: float) -> Iterator[Finding]:
    """Tell of trainable weights that got no update."""
    share = result["late_still"]
    names = names_where(result, judged.mask & (share > limit).values, by=share)
    if not names:
        return
    one = result.sel({schema.PARAMETER: names[0]})
    yield told(
        result[["still", "lr", "late_still"]],
        names,
        "UPD005",
        Severity.WARNING,
        f"{count(names, 'trainable weight', 'trainable weights')} got no update while the learning rate was above 0: "
        f"{which(result, names)}; {lead(names)} at {float(one['late_still']):.0%} of the later rows, "
        f"first at step {int(one[schema.STEP].values[one['still'].values][0])}",
        "No gradient reaches them (a detach, a branch that is not used), or updates are below the spacing of bfloat16 "
        "or float16: keep float32 master weights.",
        f"{judged.where} & (m.late_still > {limit:g})",
    )


def not_finite(result: xr.Dataset) -> Iterator[Finding]:
    """Tell of updates that hold NaN or infinity."""
    bad = result["nonfinite"] > 0
    struck = bad.any(schema.STEP).values
    if not struck.any():
        return
    first = int(result[schema.STEP].values[bad.any(schema.PARAMETER).values][0])
    here = bad.sel({schema.STEP: first}).values
    names = names_where(result, here) + names_where(result, struck & ~here)
    yield told(
        result[["nonfinite"]],
        names,
        "UPD006",
        Severity.ERROR,
        f"NaN or infinite values in the updates of {count(names, 'weight', 'weights')}; first seen at step {first} in "
        f"{examples(names_where(result, here))}",
        "Look at the gradients of that step: learning rate, loss scale, a division by zero. Clip, or skip such steps.",
        "(m.nonfinite > 0).any('step')",
    )
