"""Did the initialization do what was meant?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import initialization_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.fans import facts_of
from wdyn.analysis.fitting import FEW, Observation, agree, fits, z_score
from wdyn.analysis.initializers import CONSTANT, Facts, Rule, candidates, parse_rule
from wdyn.analysis.inputs import statistics_or_none
from wdyn.analysis.skipping import skip
from wdyn.analysis.verdicts import AS_MEANT, EMPTY, FITS, NOT_AS_MEANT, NOT_FINITE, NOT_RECORDED, TOO_FEW, UNKNOWN
from wdyn.errors import InvalidArgument
from wdyn.naming import closest
from wdyn.reading.tables import parameters
from wdyn.schema import Kind

_READ = ("mean", "std", "min", "max", "kurtosis", "count", "zeros", "nonfinite")
_COPIED = ("role", "kind", "stack", "layer", "path", "tied_to")


@analyzer(
    family="INI",
    question="Did the initialization do what was meant?",
    check=initialization_check.check,
    codes=initialization_check.CODES,
)
def init_audit(run: xr.DataTree, *, expected: Mapping[str, str | float] | None = None) -> xr.Dataset:
    """Did the initialization do what was meant?

    Reads the statistics of step 0. What was meant cannot be seen: it is given by `expected`, else it is the rule that
    fits best, of the well-known ones; where several fit a tensor, the one that fits most tensors of the model.

    Parameters
    ----------
    run
        A run.
    expected
        Which rule each pattern of full names should follow, the first that matches counts:
        ``{"*.wpe.weight": "xavier_normal", "h.*.weight": 0.02}``. A rule is a number (the std of a normal),
        ``normal(s)``, ``uniform(bound)``, ``truncated_normal(s)``, ``depth_scaled(s)`` (s / sqrt(2 layers)),
        ``constant(c)``, ``zeros``, ``ones``, ``xavier_normal``, ``kaiming_uniform``, ``torch_default`` and so on.

    Returns
    -------
    Dataset
        Over ``parameter``; buffers are left out:

        - ``std`` : unitless. Population standard deviation at step 0.
        - ``mean`` : unitless.
        - ``reach`` : max |x - mean| / std; 1.73 for uniform values; NaN for constants.
        - ``zeros`` : share of values that are zero, 0 to 1.
        - ``nonfinite`` : count of NaN and infinite values.
        - ``count`` : count of values.
        - ``rule`` : the rule meant, or the best fit; "" where none fits.
        - ``also`` : other rules that fit, separated by "; ".
        - ``expected_std`` : what the rule gives; NaN without a rule.
        - ``standard_error`` : of ``std`` under the rule, std sqrt((kurtosis - 1) / (4 count)); that is
          std / sqrt(2 count) for normal values (Kendall and Stuart, vol. 1, 10.5).
        - ``z`` : (std - expected_std) / standard_error.
        - ``fan_in``, ``fan_out`` : as in `torch.nn.init`; 0 for vectors.
        - ``logit_scale`` : std sqrt(fan_in): the spread of the outputs for inputs of unit variance; NaN for vectors.
        - ``verdict`` : "as meant", "not as meant", "fits", "unknown", "too few values", "not finite", "empty" or
          "not recorded".

        Coordinates role, kind, stack, layer, path, tied_to.

    Raises
    ------
    InvalidArgument
        If a pattern of `expected` matches no name, or a rule is not understood.
    """
    table, recorded = parameters(run), statistics_or_none(run)
    if recorded is None:
        return skip("no statistics of the weights were recorded", remedy="record them: wdyn.watch(..., every=10)")
    first = int(recorded[schema.STEP].values[0])
    if first != 0:
        return skip(
            f"recording began at step {first}, when the weights had been trained already",
            remedy="begin wdyn.watch(...) before the first optimizer step",
        )
    table = table.isel({schema.PARAMETER: table["kind"].values != Kind.BUFFER})
    facts = facts_of(table)
    row = _first_row(recorded, table)
    seen = {str(name): _seen(row.sel({schema.PARAMETER: name})) for name in row[schema.PARAMETER].values}
    judged = _judged(seen, row, facts, _meant(expected or {}, facts))
    result = row.assign(_columns(seen, facts, judged)).assign_attrs(expected=json.dumps(dict(expected or {})))
    return result.drop_vars(["min", "max", "kurtosis"])


def _meant(expected: Mapping[str, str | float], facts: Mapping[str, Facts]) -> dict[str, Rule]:
    """Find the rule that the user named for each parameter: that of the first pattern that matches."""
    rules: dict[str, Rule] = {}
    for pattern, text in expected.items():
        names = [name for name in facts if fnmatchcase(name, pattern)]
        if not names:
            near = ", ".join(closest(pattern, facts)) or "none"
            raise InvalidArgument(
                f"expected={{{pattern!r}: ...}} matches no parameter. Closest: {near}. Patterns are matched against "
                "full names, with * and ?. List them with: wdyn info RUN"
            )
        for name in names:
            rules.setdefault(name, parse_rule(text, facts[name]))
    return rules


def _first_row(recorded: xr.Dataset, table: xr.Dataset) -> xr.Dataset:
    """Read step 0 of each parameter; a tied name without statistics of its own shows those of its partner."""
    row = recorded[list(_READ)].isel({schema.STEP: 0}).load()
    have = row["count"].dropna(schema.PARAMETER).indexes[schema.PARAMETER]
    names = table[schema.PARAMETER].values
    sources = [name if name in have else tied for name, tied in zip(names, table["tied_to"].values, strict=True)]
    values = row.drop_vars([name for name in row.coords if name != schema.PARAMETER]).reindex(
        {schema.PARAMETER: sources}
    )
    values = values.assign_coords({schema.PARAMETER: names, **{name: table[name].variable for name in _COPIED}})
    return values.assign(zeros=values["zeros"] / values["count"].where(values["count"] > 0))


def _seen(one: xr.Dataset) -> Observation:
    numbers = {str(name): float(one[name]) for name in one.data_vars}
    std, mean = numbers["std"], numbers["mean"]
    farthest = max(numbers["max"] - mean, mean - numbers["min"])
    return Observation(
        mean=mean,
        std=std,
        reach=farthest / std if std > 0 else math.nan,
        kurtosis=numbers["kurtosis"],
        count=numbers["count"] - numbers["nonfinite"],
    )


@dataclass(frozen=True)
class _Judged:
    verdict: str
    rule: Rule | None = None
    also: str = ""


def _judged(
    seen: Mapping[str, Observation], row: xr.Dataset, facts: Mapping[str, Facts], meant: Mapping[str, Rule]
) -> dict[str, _Judged]:
    nonfinite = dict(zip(seen, row["nonfinite"].values > 0, strict=True))
    unjudged = {name: _unfit(one, nonfinite=bool(nonfinite[name])) for name, one in seen.items()}
    fitting = {
        name: [(rule, z_score(rule, one)) for rule in candidates(facts[name]) if fits(rule, one)]
        for name, one in seen.items()
        if not unjudged[name]
    }
    chosen = agree(fitting)
    judged = {}
    for name, one in seen.items():
        if unjudged[name]:
            judged[name] = _Judged(unjudged[name], meant.get(name))
            continue
        rule = meant.get(name) or chosen.get(name) or _constant(one)
        verdict = (
            (AS_MEANT if fits(rule, one) else NOT_AS_MEANT) if rule and name in meant else FITS if rule else UNKNOWN
        )
        others = sorted({other.name for other, _ in fitting[name]} - {rule.name if rule else ""})
        judged[name] = _Judged(verdict, rule, "; ".join(others))
    return judged


def _constant(seen: Observation) -> Rule | None:
    return Rule(f"constant({seen.mean:g})", CONSTANT, 0.0, seen.mean) if seen.constant else None


def _unfit(seen: Observation, *, nonfinite: bool) -> str:
    """Say why a tensor cannot be held against any rule; "" when it can."""
    if nonfinite:
        return NOT_FINITE
    if math.isnan(seen.count):
        return NOT_RECORDED
    if seen.count == 0:
        return EMPTY
    alone = seen.count == 1 and seen.mean not in (0, 1)  # one drawn value looks constant
    return TOO_FEW if alone or (seen.count < FEW and not seen.constant) else ""


def _columns(
    seen: Mapping[str, Observation], facts: Mapping[str, Facts], judged: Mapping[str, _Judged]
) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    rules = [(judged[name].rule, one) for name, one in seen.items()]
    columns = {
        "reach": [one.reach for one in seen.values()],
        "rule": [rule.name if rule else "" for rule, _ in rules],
        "also": [judged[name].also for name in seen],
        "expected_std": [rule.std if rule else math.nan for rule, _ in rules],
        "standard_error": [rule.standard_error(one.count) if rule else math.nan for rule, one in rules],
        "z": [z_score(rule, one) if rule else math.nan for rule, one in rules],
        "fan_in": [facts[name].fan_in for name in seen],
        "fan_out": [facts[name].fan_out for name in seen],
        "logit_scale": [one.std * math.sqrt(facts[name].fan_in or math.nan) for name, one in seen.items()],
        "verdict": [judged[name].verdict for name in seen],
    }
    return {name: (schema.PARAMETER, np.asarray(values)) for name, values in columns.items()}
