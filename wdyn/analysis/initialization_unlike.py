"""Which matrices were filled by another rule than those like them, or by none that is known?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import xarray as xr

from wdyn import schema
from wdyn.analysis.fans import RESIDUAL
from wdyn.analysis.initialization_telling import told
from wdyn.analysis.overriding import NOT_LINEAR, partners
from wdyn.analysis.telling import count, names_where
from wdyn.analysis.verdicts import FITS, UNKNOWN
from wdyn.findings import Finding, Severity
from wdyn.naming import examples, is_adapter
from wdyn.schema import Kind, Role


def unlike(result: xr.Dataset, *, wide: list[str], unknown_share: float) -> Iterator[Finding]:
    """Give the findings about rules; `wide` names the output heads that are told of already."""
    yield from _default_embeddings(result, wide)
    yield from _depth_scale_missed(result)
    yield from _left_at_default(result)
    yield from _unknown(result, unknown_share)


def _default_embeddings(result: xr.Dataset, wide: list[str]) -> Iterator[Finding]:
    default = np.isin(result["role"].values, (Role.EMBEDDING,)) & (result["rule"].values == "normal(1)")
    heads = {other for name in wide for other in partners(result, name)}
    names = [name for name in names_where(result, default & (result["verdict"].values == FITS)) if name not in heads]
    if names:
        yield told(
            result,
            names,
            "INI004",
            Severity.INFO,
            f"{examples(names)} {'stands' if len(names) == 1 else 'stand'} at torch's default N(0, 1)",
            "Fine where a norm follows at once; otherwise language models use a std near 0.02.",
        )


def _depth_scale_missed(result: xr.Dataset) -> Iterator[Finding]:
    rules = result["rule"].values.astype(str)
    residual = np.isin(result["role"].values, list(RESIDUAL)) & (result["kind"].values == Kind.WEIGHT)
    scaled = residual & np.char.startswith(rules, "depth-scaled")
    judged = np.isin(result["verdict"].values, (FITS, UNKNOWN)) & (result["std"].values > 0)
    missed = names_where(result, residual & judged & ~scaled)
    if not scaled.any() or not missed:
        return
    usual = float(np.median(result["std"].values[scaled]))
    first = float(result["std"].sel({schema.PARAMETER: missed[0]}))
    yield told(
        result,
        missed,
        "INI005",
        Severity.WARNING,
        f"{count(missed, 'residual projection is', 'residual projections are')} without the depth scale that "
        f"{int(scaled.sum())} others follow: {examples(missed)}; std {first:.4g} against {usual:.4g}",
        "Scale every matrix whose output is added to the residual stream by 1/sqrt(2 layers), by role rather than by "
        "name or by count of calls.",
    )


def _left_at_default(result: xr.Dataset) -> Iterator[Finding]:
    rules = result["rule"].values.astype(str)
    linear = (result["kind"].values == Kind.WEIGHT) & ~np.isin(result["role"].values, NOT_LINEAR)
    linear &= [not is_adapter(name) for name in result[schema.PARAMETER].values.tolist()]  # their A is meant to be so
    fitted = linear & (result["verdict"].values == FITS) & (result["std"].values > 0)
    default = fitted & (rules == "torch default")
    names = names_where(result, default)
    if names and default.sum() * 2 < fitted.sum():
        usual = Counter(rules[fitted & ~default].tolist()).most_common(1)[0][0]
        verb = "is" if len(names) == 1 else "are"
        yield told(
            result,
            names,
            "INI007",
            Severity.INFO,
            f"{examples(names)} {verb} at torch's default, uniform within 1/sqrt(fan_in), while most matrices follow "
            f"{usual}",
            "Check that the function that initializes the model reaches these modules.",
        )


def _unknown(result: xr.Dataset, share: float) -> Iterator[Finding]:
    matrices = (result["kind"].values == Kind.WEIGHT) & (result["fan_in"].values > 0)
    names = names_where(result, matrices & (result["verdict"].values == UNKNOWN))
    if names and len(names) > share * matrices.sum():
        yield told(
            result,
            names,
            "INI008",
            Severity.INFO,
            f"{len(names)} of {int(matrices.sum())} matrices match no known initializer, such as {examples(names, 2)}",
            "Either they were trained before this run began, or the rule is the model's own: "
            "give it with init_audit(run, expected={pattern: rule}).",
        )
