"""Which ties, and which of the ties that are none, deserve a word?"""

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
    "TIE001": "Two names that shared one weight no longer do.",
    "TIE002": "Two names came to share one weight while training.",
    "TIE003": "Two names hold equal values in separate memory, which is no tie.",
    "TIE004": "Two names shared one weight throughout.",
}

_WHERE = {
    "TIE001": "m.broke_at.notnull()",
    "TIE002": "m.appeared_at.notnull()",
    "TIE003": "(m.equal == 1).any('step') & (m.shared != 1).all('step')",
    "TIE004": "(m.shared == 1).any('step') & m.broke_at.isnull()",
}
"""What shows the evidence again where the pairs are too many to list."""

_PAIR = "pair"


def check(result: xr.Dataset) -> Iterator[Finding]:
    """Judge what `tied_weights` measured."""
    broke, appeared = result["broke_at"].notnull().values, result["appeared_at"].notnull().values
    for at in np.flatnonzero(broke):
        yield _broken(result, int(at))
    for at in np.flatnonzero(appeared & ~broke):
        yield _appeared(result, int(at))
    yield from _held(result, (_last(result["shared"]) == 1) & ~broke & ~appeared)
    yield from _only_equal(result)


def _broken(result: xr.Dataset, at: int) -> Finding:
    one = result.isel({_PAIR: at})
    name, partner, step = one["name"].item(), one["partner"].item(), int(one["broke_at"])
    after = one["equal"].sel({schema.STEP: slice(step, None)})
    parted = after[schema.STEP].values[after.values == 0]
    values = f"; their values differ from step {parted[0]}" if parted.size else ""
    again = _last(one["shared"].expand_dims(_PAIR))[0] == 1
    return _finding(
        result,
        [at],
        "TIE001",
        Severity.ERROR,
        f"{name} and {partner} no longer share one weight from step {step} on{_when_resumed(result, step)}{values}"
        + ("; later they share one again" if again else ""),
        "Something replaced one of them: load_state_dict(assign=True), to_empty(), a cast, a new Parameter. Tie them "
        "again (head.weight = embedding.weight), and make the optimizer anew.",
    )


def _when_resumed(result: xr.Dataset, step: int) -> str:
    """Say that a step is the first after the run was resumed; "" where it is not."""
    attempts = result["attempt"].sel({schema.STEP: slice(None, step)}).dropna(schema.STEP).values
    return ", where the run was resumed" if attempts.size > 1 and attempts[-1] > attempts[-2] else ""


def _appeared(result: xr.Dataset, at: int) -> Finding:
    one = result.isel({_PAIR: at})
    return _finding(
        result,
        [at],
        "TIE002",
        Severity.WARNING,
        f"{one['name'].item()} and {one['partner'].item()} share one weight from step {int(one['appeared_at'])} on"
        f"{_when_resumed(result, int(one['appeared_at']))}, and did not before",
        "If that was meant, tie them before the optimizer is made: it may still hold the weight that was given up.",
    )


def _held(result: xr.Dataset, held: npt.NDArray[np.bool_]) -> Iterator[Finding]:
    at = np.flatnonzero(held)
    if not at.size:
        return
    pairs = [str(pair) for pair in result[_PAIR].values[at]]
    seen = result["shared"].isel({_PAIR: at}).notnull().all(_PAIR)
    steps = result[schema.STEP].values[seen.values]
    when = f"all recorded steps, {steps[0]} to {steps[-1]}" if steps.size > 1 else f"step {steps[0]}"
    yield _finding(
        result,
        at.tolist(),
        "TIE004",
        Severity.INFO,
        f"{examples(pairs)}: one weight under two names at {when}{_as_two_tensors(result.isel({_PAIR: at}))}",
        "",
    )


def _as_two_tensors(held: xr.Dataset) -> str:
    """Name the ties of two tensors, each of which an optimizer may update; "" where every one is of a single tensor."""
    two = held[_PAIR].values[(held["same_tensor"] == 0).any(schema.STEP).values].tolist()
    return f"; as two tensors in one memory, each with a gradient of its own: {examples(two)}" if two else ""


def _only_equal(result: xr.Dataset) -> Iterator[Finding]:
    apart = (result["shared"] == 0).any(schema.STEP) | result["shared"].isnull().all(schema.STEP) & ~result["declared"]
    alike = ((result["equal"] == 1) & (result["shared"] != 1)).any(schema.STEP)
    untied = result["broke_at"].isnull() & result["appeared_at"].isnull()
    at = np.flatnonzero((apart & alike & untied).values)
    if not at.size:
        return
    copies = _copied_layers(result, at)
    if copies:
        yield _finding(result, at.tolist(), "TIE003", Severity.INFO, copies, _COPIES)
        return
    pairs = [str(pair) for pair in result[_PAIR].values[at]]
    equal = result["equal"].isel({_PAIR: int(at[0])})
    steps = equal[schema.STEP].values[equal.values == 1]
    yield _finding(
        result,
        at.tolist(),
        "TIE003",
        Severity.INFO,
        f"{examples(pairs)}: equal values at {_when(steps, equal)}, but in separate memory, which is no tie",
        "A copy, or layers initialized from one another. If a tie was meant, assign the same Parameter to both.",
    )


_COPIES = (
    "Layers that were copied, as nn.TransformerEncoder copies the layer it is given, begin alike. They part as they "
    "train; initialize each of them anew if they should differ from the start."
)


def _copied_layers(result: xr.Dataset, at: npt.NDArray[np.int64]) -> str:
    """Say in one sentence that several layers hold the values of one; "" where the pairs are not of that kind.

    Layers are what a number in a name tells: ``layers.2.norm.weight`` and ``layers.0.norm.weight``.
    """
    numbers: set[int] = set()
    around: set[str] = set()
    first = set()
    for name, partner in zip(result["name"].values[at].tolist(), result["partner"].values[at].tolist(), strict=True):
        parts = list(zip(name.split("."), partner.split("."), strict=False))
        differing = [place for place, (one, other) in enumerate(parts) if one != other]
        if name.count(".") != partner.count(".") or len(differing) != 1:
            return ""
        one, other = parts[differing[0]]
        if not (one.isdigit() and other.isdigit()):
            return ""
        numbers |= {int(one), int(other)}
        around.add(".".join(part for part, _ in parts[: differing[0]]))
        first.add(".".join(["*", *(part for part, _ in parts[differing[0] + 1 :])]))
    if len(around) != 1 or len(numbers) < 2 or at.size < 2:
        return ""
    equal = result["equal"].isel({_PAIR: at}).dropna(schema.STEP)
    steps = equal[schema.STEP].values[(equal == 1).all(_PAIR).values]
    when = f"at {_when(steps, equal.isel({_PAIR: 0}))}" if steps.size else "at some step"
    under = around.pop()
    return (
        f"All {len(numbers)} layers, {under}.{min(numbers)} to {under}.{max(numbers)}, held the same values {when}, in "
        f"separate memory: {len(first)} "
        f"tensor{'' if len(first) == 1 else 's'} of each ({examples(sorted(first))}) are copies, which is no tie"
    )


def _when(steps: npt.NDArray[np.int64], equal: xr.DataArray) -> str:
    compared = equal[schema.STEP].values[equal.notnull().values]
    if 1 < compared.size == steps.size:
        return f"all compared steps, {compared[0]} to {compared[-1]}"
    return f"step {steps[0]}"


def _last(shared: xr.DataArray) -> npt.NDArray[np.float64]:
    """Give what was recorded last of each pair; NaN where nothing was."""
    columns = shared.transpose(_PAIR, schema.STEP).values
    return np.array([column[~np.isnan(column)][-1] if (~np.isnan(column)).any() else np.nan for column in columns])


def _finding(result: xr.Dataset, at: list[int], code: str, severity: Severity, message: str, advice: str) -> Finding:
    evidence = result.isel({_PAIR: at})
    labels = [str(pair) for pair in evidence[_PAIR].values]
    line = sel_line("wdyn.tied_weights(run)", where=_WHERE[code], pair=labels)
    return Finding(code, severity, message, evidence, advice, line)
