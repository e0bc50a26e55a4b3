"""Which weights moved that should not have, and which did not that should?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.movement_causes import cause_of_move, cause_of_rest
from wdyn.analysis.telling import count, names_where, proof
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "FRZ001": "A frozen weight moved.",
    "FRZ002": "A trainable weight never moved.",
    "FRZ003": "A trainable weight only shrank, as if weight decay alone reached it.",
    "FRZ004": "There are NaN or infinite values in the weights.",
    "FRZ005": "Frozen weights stayed frozen, bit for bit.",
}

Mask = npt.NDArray[np.bool_]
_WHERE = {
    "FRZ001": "m.frozen_moved.any('step')",
    "FRZ002": "(m.change.max('step') == 0) & (m.of_cohort != 'frozen')",
    "FRZ004": "(m.nonfinite > 0).any('step')",
    "FRZ005": "m.of_cohort == 'frozen'",
}
"""What shows the evidence again where the names are too many to list."""


def check(result: xr.Dataset, *, off_scale: float = 0.01, least_values: int = 8) -> Iterator[Finding]:
    """Judge what `movement` measured.

    Parameters
    ----------
    result
        From `movement`.
    off_scale
        Share of a change that may be something else than scaling for the weight to count as decayed only.
    least_values
        With fewer values than this, any change looks like scaling.
    """
    never = (result["of_cohort"] == "frozen").values
    finite = ~(result["nonfinite"] > 0).any(schema.STEP).values & (result["numel"].values > 0)
    moved_frozen = result["frozen_moved"].any(schema.STEP).values
    taken = at_snapshots(result)
    still = (taken["change"] == 0).any(schema.STEP).values & ~(taken["change"] != 0).any(schema.STEP).values
    compared = still if taken.sizes[schema.STEP] > 1 else np.zeros_like(still)
    decayed = _only_shrank(taken, off_scale, least_values)
    yield from _frozen_moved(result, moved_frozen, decayed & never)
    yield from _still(taken, ~never & finite & compared)
    yield from _decayed(taken, ~never & finite & decayed, off_scale)
    yield from _not_finite(result)
    yield from _kept(result, never & finite & ~moved_frozen, compared)


def at_snapshots(result: xr.Dataset) -> xr.Dataset:
    """Keep the steps at which a snapshot was taken."""
    return result.isel({schema.STEP: np.flatnonzero(result["snapshot"].values)})


def _only_shrank(taken: xr.Dataset, off_scale: float, least_values: int) -> Mask:
    if not taken.sizes[schema.STEP]:
        return np.zeros(taken.sizes[schema.PARAMETER], dtype=bool)
    last = taken.isel({schema.STEP: -1})
    shrank = (last["off_scale"] <= off_scale) & (last["scale"] < 1) & (last["change"] > 0)
    return np.asarray(shrank & (last["numel"] >= least_values))


def _frozen_moved(result: xr.Dataset, moved: Mask, decayed: Mask) -> Iterator[Finding]:
    causes = {
        name: cause_of_move(result.sel({schema.PARAMETER: name}), bool(only))
        for name, only in _each(result, moved, decayed)
    }
    for cause in dict.fromkeys(causes.values()):
        names = [name for name, known in causes.items() if known == cause]
        yield _finding(
            result,
            names,
            "FRZ001",
            cause.severity,
            f"{count(names, 'frozen weight')} moved: {examples(names)}; {names[0]} "
            f"{_how_it_moved(result.sel({schema.PARAMETER: names[0]}))}. Likely cause: {cause.text}",
            cause.advice,
        )


def _how_it_moved(one: xr.Dataset) -> str:
    first = one.isel({schema.STEP: int(one["frozen_moved"].argmax(schema.STEP))})
    step, change = int(first[schema.STEP]), float(first["frozen_change"])
    if not change > 0:
        return f"at step {step}, by its statistics"
    share = change / float(at_snapshots(one)["norm"][0] or np.nan)
    return f"by {change:.3g}{'' if np.isnan(share) else f' ({share:.2g} of its first norm)'} at step {step}"


def _still(result: xr.Dataset, still: Mask) -> Iterator[Finding]:
    if not still.any():
        return
    causes = {name: cause_of_rest(result.sel({schema.PARAMETER: name})) for name in names_where(result, still)}
    judged = int((result["of_cohort"] != "frozen").sum())
    span = f"from step {result[schema.STEP].values[0]} to {result[schema.STEP].values[-1]}"
    for cause, advice in dict.fromkeys(causes.values()):
        names = [name for name, known in causes.items() if known == (cause, advice)]
        some = f"{count(names, 'trainable weight')} did not move"
        which = f"None of the {judged} trainable weights moved" if len(names) == judged > 1 else some
        yield _finding(
            result,
            names,
            "FRZ002",
            Severity.WARNING,
            f"{which} {span}: {examples(names)}. Likely cause: {cause}",
            advice,
        )


def _decayed(result: xr.Dataset, decayed: Mask, off_scale: float) -> Iterator[Finding]:
    names = names_where(result, decayed)
    if names:
        first = result.sel({schema.PARAMETER: names[0]}).isel({schema.STEP: -1})
        yield _finding(
            result,
            names,
            "FRZ003",
            Severity.WARNING,
            f"{count(names, 'trainable weight')} only shrank: {examples(names)}; {names[0]} is "
            f"{float(first['scale']):.6g} times its first value, as if weight decay alone reached it",
            "No gradient, or a vanishing one, reaches it: look for an unused branch, or rows that never occur.",
            where="(m.of_cohort != 'frozen') & "
            f"(m.off_scale.sel(step=m.snapshot).isel(step=-1, drop=True) <= {off_scale:g})"
            " & (m.scale.sel(step=m.snapshot).isel(step=-1, drop=True) < 1)",
        )


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = result["nonfinite"] > 0
    names = names_where(result, bad.any(schema.STEP).values)
    if not names:
        return
    step, struck = first_nonfinite(result)
    values = int(result["nonfinite"].sel({schema.STEP: step, schema.PARAMETER: struck}).sum())
    yield _finding(
        result,
        struck + [name for name in names if name not in struck],
        "FRZ004",
        Severity.ERROR,
        f"NaN or infinite values in {count(names, 'weight')}; first seen at step {step}: "
        f"{values} value{'s' if values > 1 else ''} in {examples(struck)}",
        "Their change cannot be judged. Look at the steps before: learning rate, loss scale, a division by zero.",
    )


def first_nonfinite(result: xr.Dataset) -> tuple[int, list[str]]:
    """Give the first step at which a weight held NaN or infinity, and which weights did then; there must be one."""
    bad = result["nonfinite"] > 0
    step = int(result[schema.STEP].values[bad.any(schema.PARAMETER).values][0])
    return step, names_where(result, bad.sel({schema.STEP: step}).values)


def _kept(result: xr.Dataset, kept: Mask, compared: Mask) -> Iterator[Finding]:
    for by_bits in (True, False):
        told = compared if by_bits else ~compared & (result["rows"].values > 1)
        names = names_where(result, kept & told)
        if names:
            kept_ones = f"The {len(names)} frozen weights" if len(names) > 1 else "The one frozen weight"
            yield _finding(
                result,
                names,
                "FRZ005",
                Severity.INFO,
                f"{kept_ones} stayed {_how_it_stayed(result, by_bits)}: {examples(names)}",
                "",
            )


def _how_it_stayed(result: xr.Dataset, by_bits: bool) -> str:
    taken = at_snapshots(result)[schema.STEP].values
    if by_bits:
        return f"bit for bit in all {len(taken)} snapshots, steps {taken[0]} to {taken[-1]}"
    steps = result[schema.STEP].values
    return f"at all recorded steps, {steps[0]} to {steps[-1]}, by their statistics"


def _each(result: xr.Dataset, where: Mask, other: Mask) -> Iterator[tuple[str, bool]]:
    yield from zip(names_where(result, where), other[where].tolist(), strict=True)


def _finding(
    result: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str, *, where: str = ""
) -> Finding:
    line = sel_line("wdyn.movement(run)", where=where or _WHERE[code], parameter=names)
    return Finding(code, severity, message, proof(result, names), advice, line)
