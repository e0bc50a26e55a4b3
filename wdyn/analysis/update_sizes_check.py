"""Which updates deserve a word: are they far larger or smaller than usual, or than the balance of AdamW?"""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from wdyn import schema
from wdyn.analysis.telling import count, names_where, which
from wdyn.analysis.update_sizes_faults import decayed, not_finite, oscillating, still_weights
from wdyn.analysis.update_sizes_telling import Judged, lead, told
from wdyn.findings import Finding, Severity

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
    enough = Judged(rows, f"(m.late_rows >= {least_rows})")
    matrix = Judged(rows & result["matrix"].values, f"{enough.where} & m.matrix")
    yield from _large(result, matrix, above, reckless)
    yield from _small(result, matrix, below)
    yield from oscillating(result, enough, cosine=cosine, overshoot=overshoot)
    yield from decayed(result, enough, limit=decay)
    yield from still_weights(result, enough, limit=still)
    yield from not_finite(result)
    yield from _off_balance(result, matrix, settled, off_balance)


def _large(result: xr.Dataset, judged: Judged, above: float, reckless: float) -> Iterator[Finding]:
    ratio = result["late_ratio"]
    names = names_where(result, judged.mask & (ratio > above).values, by=ratio)
    if not names:
        return
    most = float(ratio.sel({schema.PARAMETER: names[0]}))
    yield told(
        result[["update_ratio", "late_ratio"]],
        names,
        "UPD001",
        Severity.WARNING if most > reckless else Severity.INFO,
        f"{count(names, 'matrix', 'matrices')} change{'s' * (len(names) == 1)} by more than {above:g} of "
        f"{'its' if len(names) == 1 else 'their'} norm in each step: {which(result, names)}; the most, {most:.2g}, in "
        f"{lead(names)} (medians of the later half; usual is about {GUIDE:g})",
        "If the loss does not fall any more, or is noisy, lower the learning rate, or let it decay. Small models, and "
        "weights that began near zero, can bear it.",
        f"{judged.where} & (m.late_ratio > {above:g})",
    )


def _small(result: xr.Dataset, judged: Judged, below: float) -> Iterator[Finding]:
    ratio = result["late_ratio"]
    names = names_where(result, judged.mask & ((ratio < below) & (ratio > 0)).values, by=-ratio)
    if names:
        least = float(ratio.sel({schema.PARAMETER: names[0]}))
        yield told(
            result[["update_ratio", "late_ratio"]],
            names,
            "UPD002",
            Severity.INFO,
            f"{count(names, 'matrix', 'matrices')} hardly move{'s' * (len(names) == 1)}: {which(result, names)}; the "
            f"least, {least:.2g} of its norm in each step, {lead(names)} (medians of the later half; usual is about "
            f"{GUIDE:g})",
            "Usual at the end of a schedule and in careful fine-tuning. Else raise the learning rate, or look at the "
            "gradient that reaches these weights.",
            f"{judged.where} & (m.late_ratio < {below:g}) & (m.late_ratio > 0)",
        )


def _off_balance(result: xr.Dataset, judged: Judged, settled: float, factor: float) -> Iterator[Finding]:
    there = judged.mask & (result["approach"].max(schema.STEP) >= settled).values
    ratio = result["late_rotation_ratio"]
    for fast in (True, False):
        off = (ratio > factor) if fast else (ratio < 1 / factor)
        names = names_where(result, there & off.values, by=ratio if fast else -ratio)
        if names:
            most = float(ratio.sel({schema.PARAMETER: names[0]}))
            yield told(
                result[["rotation", "expected_rotation", "rotation_ratio", "norm_ratio", "late_rotation_ratio"]],
                names,
                "UPD007",
                Severity.INFO,
                f"{count(names, 'matrix', 'matrices')} turn{'s' * (len(names) == 1)} {'faster' if fast else 'slower'} "
                f"than the balance of AdamW predicts: {which(result, names)}; {lead(names)} by {most:.2g} times the "
                "expected angle",
                "An observation. Gradients that agree from step to step turn a weight faster; a weight that is not "
                "followed by a normalization, or whose gradients are rare, keeps another balance.",
                f"{judged.where} & (m.approach.max('step') >= {settled:g}) & (m.late_rotation_ratio "
                + (f"> {factor:g})" if fast else f"< 1 / {factor:g})"),
            )
