"""Is the schedule what its author can have meant, and did the weights obey it?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis import gradient_norm_check
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.learning_rate_words import how_exact, said, which
from wdyn.analysis.schedule_curves import Floats
from wdyn.analysis.schedule_shapes import CONSTANT, COSINE, LINEAR, OTHER
from wdyn.findings import Finding, Severity

CODES = {
    "SCH001": "The learning rate follows a known schedule.",
    "SCH002": "The schedule began anew where training was resumed.",
    "SCH003": "The learning rate jumps up.",
    "SCH004": "The schedule was made for more steps than were trained.",
    "SCH005": "The learning rate rises again after its horizon.",
    "SCH006": "The learning rate was 0 for long.",
    "SCH007": "Weights moved while their learning rate was 0.",
    **gradient_norm_check.CODES,
}

_PARAMETERS = ("warmup", "hold", "horizon", "cycles", "period", "factor")
_ALIKE = 6  # digits to which the parameters of one schedule agree
_ZERO = 1e-6  # of the largest rate: what no weight feels
_LEAST_ROWS = 3
_REPEATED = 5  # rows that tell that a schedule began anew
_WHOLE_HALVES = 0.02  # cycles by which a cosine may miss a whole number of halves


def check(
    result: xr.Dataset,
    *,
    left: float = 0.2,
    jump: float = 0.5,
    zero_share: float = 0.05,
    clipped: float = 0.5,
    owned: float = 0.5,
    weight_limit: float = np.inf,
    gradient_limit: float = np.inf,
) -> Iterator[Finding]:
    """Judge what `learning_rate` measured.

    Parameters
    ----------
    result
        From `learning_rate`.
    left
        Share of the fall from peak to floor that may still lie ahead at the last step.
    jump
        Share of the largest rate by which it may rise within one step, where no schedule explains it.
    zero_share
        Share of the steps that may follow each other with a rate of 0.
    clipped
        Share of the steps that may be clipped.
    owned
        Share of the squared gradient norm that one layer may own.
    weight_limit, gradient_limit
        M and K: what |w| < M and |g| < K should hold for at all recorded steps.
    """
    yield from _recognised(result)
    for groups in alike(result):
        yield from _of_schedule(result, groups, left, jump, zero_share)
    yield from _moved_at_zero(result)
    limits = {"weight_bound": weight_limit, "gradient_bound": gradient_limit}
    yield from gradient_norm_check.check(result, clipped=clipped, owned=owned, limits=limits)


def alike(result: xr.Dataset) -> list[list[int]]:
    """Put groups together whose rates differ by no more than a factor."""
    found: dict[bytes, list[int]] = {}
    for group in result[schema.GROUP].values.tolist():
        rates = result["lr"].sel({schema.GROUP: group}).values
        if np.isfinite(rates).any():
            largest = float(np.nanmax(np.abs(rates))) or 1.0  # the rows without a rate are the same ones
            found.setdefault(np.round(rates / largest, _ALIKE).tobytes(), []).append(group)
    return list(found.values())


def _recognised(result: xr.Dataset) -> Iterator[Finding]:
    for groups in alike(result):
        one = result.sel({schema.GROUP: groups[0]})
        name = str(one["schedule"].item())
        if name == OTHER or (name == CONSTANT and float(one["warmup"]) == 0):
            continue
        peaks = result["peak"].sel({schema.GROUP: groups})
        several = f" in group {groups[0]}, with peaks from {float(peaks.min()):.4g} to {float(peaks.max()):.4g} in all"
        yield _finding(
            result,
            groups,
            "SCH001",
            Severity.INFO,
            f"The {which(result, groups)} is {said(one)}{several if np.ptp(peaks.values) > 0 else ''}; "
            f"{how_exact(float(one['residual']))}",
            "",
        )


def _of_schedule(
    result: xr.Dataset, groups: list[int], left: float, jump: float, zero_share: float
) -> Iterator[Finding]:
    one = result.sel({schema.GROUP: groups[0]}).dropna(schema.STEP, subset=["lr"])
    found = (
        _began_anew(one),
        _jumped(one, jump),
        _too_long(one, left),
        _rose_again(one, left),
        _zero(one, zero_share),
    )
    for code, severity, words, advice in filter(None, found):
        yield _finding(result, groups, code, severity, f"The {which(result, groups)} {words}", advice)


_Verdict = tuple[str, Severity, str, str] | None


def _began_anew(one: xr.Dataset) -> _Verdict:
    """Compare the rates after each resume with those of the beginning."""
    if schema.ATTEMPT not in one.coords:
        return None
    lr, steps = one["lr"].values, one[schema.STEP].values
    for at in (np.flatnonzero(np.diff(one[schema.ATTEMPT].values)) + 1).tolist():
        rows: int = min(_REPEATED, len(lr) - at, at)
        same = rows > 1 and np.allclose(lr[at : at + rows], lr[:rows], rtol=1e-6, atol=0)
        if same and abs(lr[at] - lr[at - 1]) > _ZERO * lr.max():
            return (
                "SCH002",
                Severity.WARNING,
                f"began anew at step {steps[at]}, where training was resumed: it went from {lr[at - 1]:.4g} to "
                f"{lr[at]:.4g}, and on as from step {steps[0]}",
                "Save scheduler.state_dict() with the weights, and load it before training goes on.",
            )
    return None


def _jumped(one: xr.Dataset, jump: float) -> _Verdict:
    lr, steps = one["lr"].values, one[schema.STEP].values
    if str(one["schedule"].item()) != OTHER or len(lr) < 2:
        return None
    rise = np.where(np.diff(steps) == 1, np.diff(lr), -np.inf)
    at = int(rise.argmax())
    if rise[at] < jump * lr.max():
        return None
    return (
        "SCH003",
        Severity.WARNING,
        f"jumped from {lr[at]:.4g} to {lr[at + 1]:.4g} at step {steps[at + 1]}, and no known schedule goes through it",
        "If no restart was meant, look for a scheduler that was made again, or stepped in two places. Adam's moments "
        "are those of the smaller steps: a short warmup softens the jump.",
    )


def _too_long(one: xr.Dataset, left: float) -> _Verdict:
    made, ahead = int(one[schema.STEP][-1]), _share_left(one)
    if str(one["schedule"].item()) not in (LINEAR, COSINE) or not (float(one["horizon"]) > made and ahead > left):
        return None
    ended = bool(one["ended"])
    return (
        "SCH004",
        Severity.WARNING if ended else Severity.INFO,
        f"was still {float(one['lr'][-1]):.4g} at the last step, {made}: it would reach its floor of "
        f"{float(one['floor']):.4g} at step {float(one['horizon']):.6g}, and {ahead:.0%} of the fall lay ahead",
        "Give the scheduler the number of optimizer steps: batches per epoch × epochs / accumulation, by all processes."
        if ended
        else "The recording had not ended when it was read.",
    )


def _rose_again(one: xr.Dataset, left: float) -> _Verdict:
    cycles = float(one["cycles"])
    if str(one["schedule"].item()) != COSINE or not 0.5 + _WHOLE_HALVES < cycles < 1 - _WHOLE_HALVES:
        return None
    back = _share_left(one)
    return (
        "SCH005",
        Severity.WARNING if back > left else Severity.INFO,
        f"reached its floor at step {float(one['horizon']):.6g} and rose again, up to {float(one['lr'][-1]):.4g} at "
        f"the last step, {int(one[schema.STEP][-1])}: the cosine goes on after its horizon",
        "Give the scheduler all the steps (T_max), or hold the rate at its floor from there on.",
    )


def _share_left(one: xr.Dataset) -> float:
    fall = float(one["peak"] - one["floor"])
    return float(one["lr"][-1] - one["floor"]) / fall if fall > 0 else 0.0


def _zero(one: xr.Dataset, share: float) -> _Verdict:
    lr, steps = one["lr"].values, one[schema.STEP].values
    begin, end = _longest(np.abs(lr) <= _ZERO * np.abs(lr).max())
    if end - begin < max(_LEAST_ROWS, share * len(lr)):
        return None
    norms = one["update_norm"].values[begin:end]
    known = norms[~np.isnan(norms)]  # rows without updates tell nothing of them
    still = " and the weights stood still" if known.size and not known.any() else ""
    when = f"from step {steps[begin]} to {steps[end - 1]}" if end - begin < len(lr) else "at every step"
    tail = begin > 0 and end == len(lr)
    return (
        "SCH006",
        Severity.WARNING if tail else Severity.INFO,
        f"was 0 {when}{', the last,' if tail else ''}{still}",
        "Training went on after the schedule had ended: those steps were for nothing. Give the scheduler all the steps."
        if tail
        else "Nothing is learned there. Where that is meant, requires_grad_(False) saves the work.",
    )


def _longest(where: Floats) -> tuple[int, int]:
    """Give begin and end of the longest stretch of truths."""
    edges = np.flatnonzero(np.diff(np.r_[False, where, False].astype(int)))
    begins, ends = edges[::2], edges[1::2]
    if not begins.size:
        return 0, 0
    best = int((ends - begins).argmax())
    return int(begins[best]), int(ends[best])


def _moved_at_zero(result: xr.Dataset) -> Iterator[Finding]:
    moved = (result["lr"] == 0) & (result["update_norm"] > 0)
    groups = [int(group) for group in result[schema.GROUP].values[moved.any(schema.STEP).values]]
    if groups:
        rows = moved.any(schema.GROUP).values
        step = int(result[schema.STEP].values[rows][0])
        norm = float(result["update_norm"].where(moved).sel({schema.STEP: step}).max())
        yield _finding(
            result,
            groups,
            "SCH007",
            Severity.WARNING,
            f"The {which(result, groups)} was 0 at step {step}, and weights moved by {norm:.3g}; so at "
            f"{int(rows.sum())} recorded steps",
            "Something other than this optimizer writes to them: another optimizer, an averaged copy (EMA), code that "
            "changes .data, or an optimizer that decays weights whatever its rate.",
        )


def _finding(
    result: xr.Dataset, groups: list[int], code: str, severity: Severity, message: str, advice: str
) -> Finding:
    over = [name for name, values in result.data_vars.items() if schema.GROUP in values.dims]
    evidence = result[over].sel({schema.GROUP: groups})
    return Finding(code, severity, message, evidence, advice, sel_line("wdyn.learning_rate(run)", group=groups))
