"""Which weights moved that should not have, and which did not that should?"""

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
    "FRZ001": "A frozen weight moved.",
    "FRZ002": "A trainable weight never moved.",
    "FRZ003": "A trainable weight only shrank, as if weight decay alone reached it.",
    "FRZ004": "There are NaN or infinite values in the weights.",
    "FRZ005": "Frozen weights stayed frozen, bit for bit.",
}

Mask = npt.NDArray[np.bool_]
_COARSE = ("bfloat16", "float16", "float8")


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
    last = result["change"].isel({schema.STEP: -1})
    decayed = (
        (result["off_scale"].isel({schema.STEP: -1}) <= off_scale)
        & (result["scale"].isel({schema.STEP: -1}) < 1)
        & (result["numel"] >= least_values)
    ).values
    moved_frozen = ((result["change"] > 0) & result["frozen"]).any(schema.STEP).values
    whole = (result["nonfinite"] == 0).all(schema.STEP).values & (result["numel"].values > 0)
    tuned = ~result["frozen"].isel({schema.STEP: -1}).values
    yield from _frozen_moved(result, moved_frozen, decayed)
    yield from _still(result, tuned & whole & (result["change"] == 0).all(schema.STEP).values)
    yield from _decayed(result, tuned & whole & decayed & (last > 0).values)
    yield from _not_finite(result)
    yield from _kept(result, ~tuned & whole & ~moved_frozen & (last == 0).values)


def _frozen_moved(result: xr.Dataset, moved: Mask, decayed: Mask) -> Iterator[Finding]:
    causes = {
        name: _cause_of_move(result.sel({schema.PARAMETER: name}), bool(only))
        for name, only in _each(result, moved, decayed)
    }
    for cause, advice in dict.fromkeys(causes.values()):
        names = [name for name, known in causes.items() if known == (cause, advice)]
        first = result.sel({schema.PARAMETER: names[0]})
        at = first[schema.STEP].values[((first["change"] > 0) & first["frozen"]).values][0]
        noun = "1 frozen weight" if len(names) == 1 else f"{len(names)} frozen weights"
        yield _finding(
            result,
            names,
            "FRZ001",
            Severity.ERROR,
            f"{noun} moved: {examples(names)}; {names[0]} by {_size(first, at)} at step {at}. Likely cause: {cause}",
            advice,
        )


def _cause_of_move(one: xr.Dataset, decayed: bool) -> tuple[str, str]:
    if bool(one["partner_trains"]):
        return "it shares memory with a trainable weight", "Freeze both names, or untie them before training."
    if decayed:
        return (
            "weight decay, for it only shrank",
            "Give the optimizer only parameters with requires_grad=True, and clear old gradients (set_to_none=True).",
        )
    if bool(one["in_optimizer"]):
        return (
            "an optimizer holds it",
            "Leave it out of the optimizer: a gradient from before the freeze, or momentum, still moves it.",
        )
    return (
        "something other than the optimizer writes to it",
        "Look for load_state_dict, an averaged copy (EMA), a cast, or code that changes .data.",
    )


def _still(result: xr.Dataset, still: Mask) -> Iterator[Finding]:
    if not still.any():
        return
    causes = {name: _cause_of_rest(result.sel({schema.PARAMETER: name})) for name in _names(result, still)}
    judged = int((~result["frozen"].isel({schema.STEP: -1})).sum())
    span = f"from step {result[schema.STEP].values[0]} to {result[schema.STEP].values[-1]}"
    for cause, advice in dict.fromkeys(causes.values()):
        names = [name for name, known in causes.items() if known == (cause, advice)]
        noun = "1 trainable weight" if len(names) == 1 else f"{len(names)} trainable weights"
        which = f"None of the {judged} trainable weights moved" if len(names) == judged > 1 else f"{noun} did not move"
        yield _finding(
            result,
            names,
            "FRZ002",
            Severity.WARNING,
            f"{which} {span}: {examples(names)}. Likely cause: {cause}",
            advice,
        )


def _cause_of_rest(one: xr.Dataset) -> tuple[str, str]:
    if not bool(one["in_optimizer"]):
        return "no optimizer holds it", "Add it to the optimizer, or freeze it with requires_grad_(False)."
    if bool(one["lr_zero"]):
        return "the learning rate of its group was 0", "Check the schedule and the lr of its parameter group."
    if str(one["dtype"].item()).startswith(_COARSE):
        return (
            f"updates below the spacing of {one['dtype'].item()} are lost, or no gradient reaches it",
            "Keep a float32 copy for the optimizer (mixed precision), or round stochastically.",
        )
    return (
        "no gradient reaches it",
        "Look for a detach(), a branch that is not used, torch.no_grad(), or freeze it if that is meant.",
    )


def _decayed(result: xr.Dataset, decayed: Mask) -> Iterator[Finding]:
    names = _names(result, decayed)
    if names:
        first = result.sel({schema.PARAMETER: names[0]}).isel({schema.STEP: -1})
        noun = "1 trainable weight" if len(names) == 1 else f"{len(names)} trainable weights"
        yield _finding(
            result,
            names,
            "FRZ003",
            Severity.WARNING,
            f"{noun} only shrank: {examples(names)}; {names[0]} is {float(first['scale']):.6g} times its first value, "
            "as if weight decay alone reached it",
            "No gradient, or a vanishing one, reaches it: look for an unused branch, or rows that never occur.",
        )


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = result["nonfinite"] > 0
    names = _names(result, bad.any(schema.STEP).values)
    if names:
        steps = result[schema.STEP].values[bad.any(schema.PARAMETER).values]
        first = result["nonfinite"].sel({schema.STEP: steps[0]})
        struck = _names(result, (first > 0).values)
        yield _finding(
            result,
            struck + [name for name in names if name not in struck],
            "FRZ004",
            Severity.ERROR,
            f"NaN or infinite values in {examples(names)}; first seen at step {steps[0]}: {int(first.sum())} values in "
            f"{examples(struck, 1)}",
            "Their change cannot be judged. Look at the steps before: learning rate, loss scale, a division by zero.",
        )


def _kept(result: xr.Dataset, kept: Mask) -> Iterator[Finding]:
    names = _names(result, kept)
    if names:
        count = f"The {len(names)} frozen weights" if len(names) > 1 else "The one frozen weight"
        yield _finding(
            result,
            names,
            "FRZ005",
            Severity.INFO,
            f"{count} stayed bit for bit in {result.sizes[schema.STEP]} snapshots: {examples(names)}",
            "",
        )


def _size(one: xr.Dataset, step: int) -> str:
    at = one.sel({schema.STEP: step})
    relative = float(at["relative"])
    share = "" if np.isnan(relative) else f" ({relative:.2g} of its first norm)"
    return f"{float(at['change']):.3g}{share}"


def _names(result: xr.Dataset, where: Mask) -> list[str]:
    return [str(name) for name in result[schema.PARAMETER].values[where]]


def _each(result: xr.Dataset, where: Mask, other: Mask) -> Iterator[tuple[str, bool]]:
    yield from zip(_names(result, where), other[where].tolist(), strict=True)


def _finding(result: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str) -> Finding:
    over_names = [name for name, values in result.data_vars.items() if schema.PARAMETER in values.dims]
    evidence = result[over_names].sel({schema.PARAMETER: names})
    return Finding(code, severity, message, evidence, advice, sel_line("wdyn.movement(run)", parameter=names))
