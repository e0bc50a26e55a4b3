"""Which parameters does the optimizer treat otherwise than one would expect?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.optimizer_state_rules import SECOND
from wdyn.analysis.telling import count, names_where, proof
from wdyn.findings import Finding, Severity
from wdyn.naming import examples
from wdyn.schema import Kind, Role

_LAST = "m.{}.isel(step=-1, drop=True)"
"""A measure at the last row, as a line of Python has it."""


def odd_parameters(result: xr.Dataset, *, pull: float, misfit: float, idle: float) -> Iterator[Finding]:
    """Give the findings about single parameters, with the limits of `optimizer_state_check.check`."""
    yield from _not_held(result)
    yield from _decayed(result, pull)
    yield from _never_reached(result)
    yield from _not_finite(result)
    yield from _off_the_rule(result, misfit)
    yield from _swamped(result)
    yield from _partly_idle(result, idle)


def _not_held(result: xr.Dataset) -> Iterator[Finding]:
    loose = (result["of_group"] < 0).values & result["trainable"].values & (result["numel"].values > 0)
    names = names_where(result, loose)
    if names:
        yield _finding(
            result,
            names,
            "OPT003",
            Severity.WARNING,
            f"No optimizer holds {count(names, 'trainable parameter')}: {examples(names)}",
            "Give them to an optimizer, also when they were made after it (optimizer.add_param_group), or freeze them "
            "with requires_grad_(False).",
            where="m.trainable & (m.of_group < 0) & (m.numel > 0)",
        )


def _decayed(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    pulls = _of_group(result, "pull")
    soft = (result["role"].values == Role.NORM) | (result["kind"].values == Kind.BIAS)
    names = names_where(result, soft & result["trainable"].values & (pulls >= limit))
    if names:
        most = float(pulls[np.isin(result[schema.PARAMETER].values, names)].max())
        yield _finding(
            result,
            names,
            "OPT004",
            Severity.INFO,
            f"Weight decay reaches {count(names, 'norm or bias', 'norms and biases')}: {examples(names)}; lr times "
            f"decay adds up to {most:.2g} over the run",
            "Usual advice is to decay matrices alone: put parameters of one dimension into a group with "
            "weight_decay=0.",
            where="m.trainable & ((m.role == 'norm') | (m.kind == 'bias')) & "
            f"m.of_group.isin(m.group[m.pull >= {limit:g}].values)",
        )


def _never_reached(result: xr.Dataset) -> Iterator[Finding]:
    held, rows = result["nonfinite"].notnull().any(schema.STEP).values, result["idle"]
    group = result["of_group"].values
    has_moments = np.isin(group, np.unique(group[held & (group >= 0)]))
    nothing = ~held | ((rows == 1) | rows.isnull()).all(schema.STEP).values
    full = result["numel"].values > 0
    names = names_where(result, has_moments & result["trainable"].values & nothing & full)
    if names:
        yield _finding(
            result,
            names,
            "OPT005",
            Severity.WARNING,
            f"{count(names, 'trainable parameter')} never got a gradient that is not 0: {examples(names)}; the "
            f"optimizer's moments are zero, or were never made, up to step {int(result[schema.STEP].values[-1])}",
            "Look for a detach(), torch.no_grad(), a branch that is not used, or gradients that underflow; freeze what "
            "is not meant to learn.",
            where="m.trainable & (m.of_group >= 0) & (m.numel > 0) & ((m.idle == 1) | m.idle.isnull()).all('step') & "
            "m.of_group.isin(m.of_group[m.nonfinite.notnull().any('step')].values)",
        )


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = result["nonfinite"] > 0
    names = names_where(result, bad.any(schema.STEP).values)
    if names:
        step = int(result[schema.STEP].values[bad.any(schema.PARAMETER).values][0])
        struck = names_where(result, bad.sel({schema.STEP: step}).values)
        yield _finding(
            result,
            struck + [name for name in names if name not in struck],
            "OPT006",
            Severity.ERROR,
            f"NaN or infinite values in the moments of {count(names, 'parameter')}; first seen at step {step}, in "
            f"{examples(struck)}",
            "The weights follow, and no later gradient mends a moment. Go back to a snapshot and a saved optimizer "
            "from before, and skip steps whose gradients are not finite.",
            where="(m.nonfinite > 0).any('step')",
        )


def _off_the_rule(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    ratio = result["predicted_ratio"].median(schema.STEP)  # over the rows that tell: there is none at step 0
    names = names_where(result, (abs(ratio - 1) > limit).values)
    if names:
        first = float(ratio.sel({schema.PARAMETER: names[0]}))
        yield _finding(
            result,
            names,
            "OPT007",
            Severity.WARNING,
            f"Updates of {count(names, 'parameter')} are not what the optimizer's rule says: {examples(names)}; for "
            f"{names[0]} the rule gives {first:.3g} times the measured norm, in the median row",
            "Above 1: weights in bfloat16 or float16 round small updates away (keep a float32 copy). Below 1: "
            "something else moves the weight too, such as a clamp, a projection or an averaged copy.",
            where=f"abs(m.predicted_ratio.median('step') - 1) > {limit:g}",
        )


def _swamped(result: xr.Dataset) -> Iterator[Finding]:
    divides = np.isin(result["rule"].values, list(SECOND))
    last = result["second_moment"].isel({schema.STEP: -1}).values
    names = names_where(result, divides & (last > 0) & (last < result["eps"].values))
    if names:
        one = result.sel({schema.PARAMETER: names[0]}).isel({schema.STEP: -1})
        yield _finding(
            result,
            names,
            "OPT008",
            Severity.INFO,
            f"eps outweighs the second moment of {count(names, 'parameter')}: {examples(names)}; of {names[0]} it is "
            f"{float(one['second_moment']):.2g} beside eps = {float(one['eps']):.2g}",
            "Such weights move less than the learning rate says, in proportion to their gradients. Take a smaller eps "
            "if that is not meant, or find out why their gradients are so small.",
            where=f"({_LAST.format('second_moment')} > 0) & ({_LAST.format('second_moment')} < m.eps)",
        )


def _partly_idle(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    share = result["idle"].isel({schema.STEP: -1}).values
    names = names_where(result, result["trainable"].values & (share > limit) & (share < 1))
    if names:
        one = float(result["idle"].sel({schema.PARAMETER: names[0]}).isel({schema.STEP: -1}))
        yield _finding(
            result,
            names,
            "OPT009",
            Severity.INFO,
            f"Part of {count(names, 'parameter')} never got a gradient: {examples(names)}; of {names[0]} "
            f"{one:.0%} of the elements by step {int(result[schema.STEP].values[-1])}",
            "In an embedding these are tokens or positions that never occurred; elsewhere units or experts that are "
            "always off. With decoupled decay they only shrink.",
            where=f"m.trainable & ({_LAST.format('idle')} > {limit:g}) & ({_LAST.format('idle')} < 1)",
        )


def _of_group(result: xr.Dataset, name: str) -> npt.NDArray[np.float64]:
    """Give each parameter what its group has; NaN where it has none."""
    group = result["of_group"].fillna(schema.NO_GROUP).values.astype(int)  # NaN: of another one of joined runs
    return np.where(group >= 0, result[name].values[group], np.nan)


def _finding(
    result: xr.Dataset, names: list[str], code: str, severity: Severity, message: str, advice: str, *, where: str
) -> Finding:
    """Make a finding; `where` is the condition on the result ``m`` that gives its names again."""
    line = sel_line("wdyn.optimizer_state(run)", where=where, parameter=names)
    return Finding(code, severity, message, proof(result, names), advice, line)
