"""Which updates are far larger or smaller than usual, undo each other, or do not happen at all?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.findings import Finding, Severity
from wdyn.naming import examples

CODES = {
    "UPD001": "Each step changes matrices by far more than 1e-3 of their norm.",
    "UPD002": "Each step changes matrices by far less than 1e-3 of their norm.",
    "UPD003": "Updates take back much of the update before: the weights oscillate.",
    "UPD004": "Weight decay makes up most of the updates.",
    "UPD005": "A trainable weight gets no update while its learning rate is above 0.",
    "UPD006": "There are NaN or infinite values in the updates.",
    "UPD007": "Weights turn much faster or slower than the balance of AdamW predicts.",
}

GUIDE = 1e-3
"""The update ratio that a rule of thumb calls right."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Judged:
    """Which parameters are judged, as a mask and as the condition on the result ``m`` that gives it."""

    mask: Mask
    where: str


def check(
    result: xr.Dataset,
    *,
    above: float = 0.03,
    reckless: float = 0.1,
    below: float = 1e-5,
    least_rows: int = 6,
    cosine: float = -0.3,
    overshoot: float = 0.9,
    decay: float = 0.5,
    still: float = 0.5,
    settled: float = 0.9,
    off_balance: float = 3.0,
) -> Iterator[Finding]:
    """Judge what `update_sizes` measured, by the later half of its rows.

    Parameters
    ----------
    result
        From `update_sizes`.
    above, reckless
        Median update ratio of a matrix beyond which that is told, and beyond which it is a warning.
    below
        Median update ratio of a matrix under which that is told.
    least_rows
        Rows in the later half that a judgement needs.
    cosine, overshoot
        Mean cosine of successive updates below which a weight oscillates, by two standard errors; and the median share
        of the last update that is taken back from which that is a warning.
    decay
        Share of the update that decay must own to be told.
    still
        Share of rows without an update beyond which that is told.
    settled, off_balance
        How far a matrix must have come towards the balance of AdamW to be compared with it, and the factor between its
        rotation and the expected one beyond which that is told.
    """
    rows = (result["late_rows"] >= least_rows).values
    enough = _Judged(rows, f"(m.late_rows >= {least_rows})")
    matrix = _Judged(rows & result["matrix"].values, f"{enough.where} & m.matrix")
    yield from _large(result, matrix, above, reckless)
    yield from _small(result, matrix, below)
    yield from _oscillating(result, enough, cosine, overshoot)
    yield from _decayed(result, enough, decay)
    yield from _still(result, enough, still)
    yield from _not_finite(result)
    yield from _off_balance(result, matrix, settled, off_balance)


def _large(result: xr.Dataset, judged: _Judged, above: float, reckless: float) -> Iterator[Finding]:
    ratio = result["late_ratio"]
    names = _names(result, judged.mask & (ratio > above).values, by=ratio)
    if not names:
        return
    most = float(ratio.sel({schema.PARAMETER: names[0]}))
    yield _finding(
        result[["update_ratio", "late_ratio"]],
        names,
        "UPD001",
        Severity.WARNING if most > reckless else Severity.INFO,
        f"{_count(names, 'matrix', 'matrices')} change{'s' * (len(names) == 1)} by more than {above:g} of "
        f"{'its' if len(names) == 1 else 'their'} norm in each step: {_where(result, names)}; the most, {most:.2g}, in "
        f"{_first(names)} (medians of the later half; usual is about {GUIDE:g})",
        "If the loss does not fall any more, or is noisy, lower the learning rate, or let it decay. Small models, and "
        "weights that began near zero, can bear it.",
        f"{judged.where} & (m.late_ratio > {above:g})",
    )


def _small(result: xr.Dataset, judged: _Judged, below: float) -> Iterator[Finding]:
    ratio = result["late_ratio"]
    names = _names(result, judged.mask & ((ratio < below) & (ratio > 0)).values, by=-ratio)
    if names:
        least = float(ratio.sel({schema.PARAMETER: names[0]}))
        yield _finding(
            result[["update_ratio", "late_ratio"]],
            names,
            "UPD002",
            Severity.INFO,
            f"{_count(names, 'matrix', 'matrices')} hardly move{'s' * (len(names) == 1)}: {_where(result, names)}; the "
            f"least, {least:.2g} of its norm in each step, {_first(names)} (medians of the later half; usual is about "
            f"{GUIDE:g})",
            "Usual at the end of a schedule and in careful fine-tuning. Else raise the learning rate, or look at the "
            "gradient that reaches these weights.",
            f"{judged.where} & (m.late_ratio < {below:g}) & (m.late_ratio > 0)",
        )


def _oscillating(result: xr.Dataset, judged: _Judged, cosine: float, overshoot: float) -> Iterator[Finding]:
    surely = result["late_cosine"] + 2 * result["late_cosine_error"]
    names = _names(result, judged.mask & (surely < cosine).values, by=-result["late_cosine"])
    if not names:
        return
    worst = result.sel({schema.PARAMETER: names[0]})
    undone = float(worst["late_undone"])
    yield _finding(
        result[["update_cosine", "undone", "late_cosine", "late_cosine_error", "late_undone"]],
        names,
        "UPD003",
        Severity.WARNING if undone >= overshoot else Severity.INFO,
        f"{_count(names, 'weight', 'weights')} oscillate{'s' * (len(names) == 1)}: {_where(result, names)}; in "
        f"{_first(names)} each update takes back {undone:.0%} of the one before "
        f"(cosine {float(worst['late_cosine']):.2f})",
        "The steps are too long for the curvature: lower the learning rate, take larger batches, or use momentum.",
        f"{judged.where} & (m.late_cosine + 2 * m.late_cosine_error < {cosine:g})",
    )


def _decayed(result: xr.Dataset, judged: _Judged, limit: float) -> Iterator[Finding]:
    share = result["late_decay_share"]
    names = _names(result, judged.mask & (share > limit).values, by=share)
    if names:
        most = float(share.sel({schema.PARAMETER: names[0]}))
        yield _finding(
            result[["decay_share", "radial", "late_decay_share"]],
            names,
            "UPD004",
            Severity.INFO,
            f"Weight decay makes up most of the update of {_count(names, 'weight', 'weights')}: "
            f"{_where(result, names)}; its norm is {most:.2g} of that of the whole update in {_first(names)}",
            "Their gradients are small beside the decay: lower the decay, or keep them out of the group that decays.",
            f"{judged.where} & (m.late_decay_share > {limit:g})",
        )


def _still(result: xr.Dataset, judged: _Judged, limit: float) -> Iterator[Finding]:
    share = result["late_still"]
    names = _names(result, judged.mask & (share > limit).values, by=share)
    if not names:
        return
    one = result.sel({schema.PARAMETER: names[0]})
    yield _finding(
        result[["still", "lr", "late_still"]],
        names,
        "UPD005",
        Severity.WARNING,
        f"{_count(names, 'trainable weight', 'trainable weights')} got no update while the learning rate was above 0: "
        f"{_where(result, names)}; {_first(names)} at {float(one['late_still']):.0%} of the later rows, "
        f"first at step {int(one[schema.STEP].values[one['still'].values][0])}",
        "No gradient reaches them (a detach, a branch that is not used), or updates are below the spacing of bfloat16 "
        "or float16: keep float32 master weights.",
        f"{judged.where} & (m.late_still > {limit:g})",
    )


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = result["nonfinite"] > 0
    struck = bad.any(schema.STEP).values
    if not struck.any():
        return
    first = int(result[schema.STEP].values[bad.any(schema.PARAMETER).values][0])
    here = bad.sel({schema.STEP: first}).values
    names = _names(result, here) + _names(result, struck & ~here)
    yield _finding(
        result[["nonfinite"]],
        names,
        "UPD006",
        Severity.ERROR,
        f"NaN or infinite values in the updates of {_count(names, 'weight', 'weights')}; first seen at step {first} in "
        f"{examples(_names(result, here))}",
        "Look at the gradients of that step: learning rate, loss scale, a division by zero. Clip, or skip such steps.",
        "(m.nonfinite > 0).any('step')",
    )


def _off_balance(result: xr.Dataset, judged: _Judged, settled: float, factor: float) -> Iterator[Finding]:
    there = judged.mask & (result["approach"].max(schema.STEP) >= settled).values
    ratio = result["late_rotation_ratio"]
    for fast in (True, False):
        off = (ratio > factor) if fast else (ratio < 1 / factor)
        names = _names(result, there & off.values, by=ratio if fast else -ratio)
        if names:
            most = float(ratio.sel({schema.PARAMETER: names[0]}))
            yield _finding(
                result[["rotation", "expected_rotation", "rotation_ratio", "norm_ratio", "late_rotation_ratio"]],
                names,
                "UPD007",
                Severity.INFO,
                f"{_count(names, 'matrix', 'matrices')} turn{'s' * (len(names) == 1)} {'faster' if fast else 'slower'} "
                f"than the balance of AdamW predicts: {_where(result, names)}; {_first(names)} by {most:.2g} times the "
                "expected angle",
                "An observation. Gradients that agree from step to step turn a weight faster; a weight that is not "
                "followed by a normalization, or whose gradients are rare, keeps another balance.",
                f"{judged.where} & (m.approach.max('step') >= {settled:g}) & (m.late_rotation_ratio "
                + (f"> {factor:g})" if fast else f"< 1 / {factor:g})"),
            )


def _names(result: xr.Dataset, where: Mask, *, by: xr.DataArray | None = None) -> list[str]:
    """Name the parameters that are meant, the one with the largest value of `by` first."""
    chosen = np.flatnonzero(where)
    if by is not None:
        chosen = chosen[np.argsort(-by.values[chosen], kind="stable")]
    return [str(name) for name in result[schema.PARAMETER].values[chosen]]


def _where(result: xr.Dataset, names: list[str]) -> str:
    """Name a few parameters; many in blocks by their roles."""
    if len(names) <= 3:
        return examples(names)
    roles = result["role"].sel({schema.PARAMETER: names}).values.tolist()
    return f"{examples(list(dict.fromkeys(roles)), 4)} (such as {examples(names, 2)})"


def _first(names: list[str]) -> str:
    """Name the one that is told of, unless it was the only one to be named."""
    return names[0] if len(names) > 1 else "it"


def _count(names: list[str], one: str, several: str) -> str:
    return f"1 {one}" if len(names) == 1 else f"{len(names)} {several}"


def _finding(
    told: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str, where: str
) -> Finding:
    evidence = told.sel({schema.PARAMETER: names})
    line = sel_line("wdyn.update_sizes(run)", where=where, parameter=names)
    return Finding(code, severity, message, evidence, advice, line)
