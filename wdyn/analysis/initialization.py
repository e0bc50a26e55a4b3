"""Did the initialization do what was meant?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis import initialization_check
from wdyn.analysis.analyzer import analyzer
from wdyn.analysis.fans import facts_of
from wdyn.analysis.initialization_judging import Judged, Seen, judged
from wdyn.analysis.initialization_reading import first_row, observed, observed_parts
from wdyn.analysis.initializers import Facts, Rule, parse_rule
from wdyn.analysis.inputs import statistics_or_none
from wdyn.analysis.overriding import replaced
from wdyn.analysis.skipping import skip
from wdyn.analysis.verdicts import FITS, NOT_AS_MEANT, OVERRIDDEN
from wdyn.errors import InvalidArgument
from wdyn.naming import closest
from wdyn.reading.tables import parameters
from wdyn.schema import Kind


@analyzer(
    family="INI",
    question="Did the initialization do what was meant?",
    check=initialization_check.check,
    codes=initialization_check.CODES,
)
def init_audit(run: xr.DataTree, *, expected: Mapping[str, str | float] | None = None) -> xr.Dataset:
    """Did the initialization do what was meant?

    Reads the statistics of step 0. What was meant cannot be seen: it is given by `expected`, else it is the rule that
    fits best, of the well-known ones (`wdyn.analysis.initializers` lists them with their sources); where several fit a
    tensor, the one that fits most tensors of the model.

    A rule fits if mean and std lie within 4 standard errors, and the shape agrees: kurtosis, the farthest value, and
    the histogram was recorded the share below each edge of its bins (Smirnov 1948). A fused weight is held against the
    rules as one matrix and as several; where none fits the whole, each recorded part is held against them by itself.

    Parameters
    ----------
    run
        A run.
    expected
        Which rule each pattern of full names should follow, the first that matches counts:
        ``{"*.wpe.weight": "xavier_normal", "h.*.weight": 0.02}``. A rule is a number (the std of a normal),
        ``normal(s)``, ``uniform(bound)``, ``truncated_normal(s)`` (at 2 s), ``depth_scaled(s)`` (s / sqrt(2 layers)),
        ``mup(s)`` (s / sqrt(fan_in), s / fan_in of an output head), ``constant(c)``, ``zeros``, ``ones``,
        ``xavier_normal``, ``kaiming_uniform``, ``torch_default`` and so on.

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
        - ``rule`` : the rule meant, or the best fit; "" where none fits. Of parts that differ, each:
          "q, k: normal(0.02); v: zeros".
        - ``also`` : other rules that fit, separated by "; ".
        - ``expected_std`` : what the rule gives; NaN without a rule.
        - ``standard_error`` : of ``std`` under the rule, std sqrt((kurtosis - 1) / (4 count)); that is
          std / sqrt(2 count) for normal values, and with the kurtosis of the rule less for all others (Kendall and
          Stuart, vol. 1, 10.5).
        - ``z`` : (std - expected_std) / standard_error.
        - ``fan_in``, ``fan_out`` : as in `torch.nn.init`; 0 for vectors.
        - ``logit_scale`` : std sqrt(fan_in): the spread of the outputs for inputs of unit variance; NaN for vectors.
        - ``verdict`` : "as meant", "not as meant", "fits", "overridden by tying", "unknown", "too few values",
          "not finite", "empty" or "not recorded". Overridden is an embedding that carries the first values of the head
          it is tied to, while no embedding with values of its own follows that rule.

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
    facts, row = facts_of(table), first_row(recorded, table)
    seen = observed(run, row)
    nonfinite = dict(zip(seen, (row["nonfinite"].values > 0).tolist(), strict=True))
    found = judged(seen, observed_parts(run), nonfinite=nonfinite, facts=facts, meant=_meant(expected or {}, facts))
    row = row.assign(zeros=row["zeros"] / row["count"].where(row["count"] > 0))
    result = row.assign(_columns(seen, facts, found)).assign_attrs(expected=json.dumps(dict(expected or {})))
    return _overridden(result).drop_vars(["min", "max", "kurtosis"])


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


def _columns(
    seen: Seen, facts: Mapping[str, Facts], found: Mapping[str, Judged]
) -> dict[str, tuple[str, npt.NDArray[Any]]]:
    columns = {
        "reach": [one.reach for one in seen.values()],
        "rule": [found[name].rule for name in seen],
        "also": [found[name].also for name in seen],
        "expected_std": [found[name].std for name in seen],
        "standard_error": [found[name].standard_error for name in seen],
        "z": [found[name].z for name in seen],
        "fan_in": [facts[name].fan_in for name in seen],
        "fan_out": [facts[name].fan_out for name in seen],
        "logit_scale": [one.std * math.sqrt(facts[name].fan_in or math.nan) for name, one in seen.items()],
        "verdict": [found[name].verdict for name in seen],
    }
    return {name: (schema.PARAMETER, np.asarray(values)) for name, values in columns.items()}


def _overridden(result: xr.Dataset) -> xr.Dataset:
    """Let the verdict name what a tie replaced, unless the values are what was meant all the same."""
    verdict = result["verdict"]
    tied = verdict.isin((FITS, NOT_AS_MEANT)) & verdict[schema.PARAMETER].isin(replaced(result))
    return result.assign(verdict=xr.where(tied, OVERRIDDEN, verdict))
