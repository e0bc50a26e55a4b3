"""Which of the first values deserve a word?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr

from wdyn import schema
from wdyn.analysis.evidence import sel_line
from wdyn.analysis.fans import RESIDUAL
from wdyn.analysis.initialization_adapters import adapters_off_zero, still_adapters
from wdyn.analysis.overriding import NOT_LINEAR, names_where, own_embeddings, own_rule, partners
from wdyn.analysis.verdicts import FITS, NOT_AS_MEANT, NOT_FINITE, OVERRIDDEN, UNKNOWN
from wdyn.findings import Finding, Severity
from wdyn.naming import examples, is_adapter
from wdyn.schema import Kind, Role

CODES = {
    "INI001": "The first values are not what was meant.",
    "INI002": "An output head is so wide that training begins with extreme logits.",
    "INI003": "A tie replaced the first values of an embedding by those of the output head.",
    "INI004": "An embedding was left at the default N(0, 1).",
    "INI005": "Some layers miss the depth scaling that others follow.",
    "INI006": "There are NaN or infinite values before training.",
    "INI007": "Some matrices were left at torch's default while others were given another rule.",
    "INI008": "Most matrices match no initializer that is known.",
    "INI009": "Both factors of an adapter are zero, so that neither can learn.",
    "INI010": "Adapters change the model before they have learned anything.",
}

_WHERE = {
    "INI001": "m.verdict == 'not as meant'",
    "INI004": "(m.role == 'embedding') & (m.rule == 'normal(1)')",
    "INI006": "m.verdict == 'not finite'",
    "INI007": "m.rule == 'torch default'",
    "INI008": "(m.verdict == 'unknown') & (m.fan_in > 0)",
}
"""What shows the evidence again where the names are too many to list."""

Mask = npt.NDArray[np.bool_]


WIDE = 4.0
"""std sqrt(fan_in) of an output head beyond which logits start far off."""


def check(result: xr.Dataset, *, logit_scale: float = WIDE, unknown_share: float = 0.5) -> Iterator[Finding]:
    """Judge what `init_audit` measured.

    Parameters
    ----------
    result
        From `init_audit`.
    logit_scale
        std sqrt(fan_in) of an output head beyond which logits start far off.
    unknown_share
        Share of matrices that match no rule beyond which that is reported.
    """
    yield from _not_finite(result)
    yield from _not_as_meant(result)
    yield from _wide_heads(result, logit_scale)
    yield from _overridden(result)
    yield from _default_embeddings(result, logit_scale)
    yield from _depth_scale_missed(result)
    yield from _left_at_default(result)
    yield from _unknown(result, unknown_share)
    yield from _adapters(result)


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = names_where(result, result["verdict"].values == NOT_FINITE)
    if bad:
        count = int(result["nonfinite"].sel({schema.PARAMETER: bad}).sum())
        yield _finding(
            result,
            bad,
            "INI006",
            Severity.ERROR,
            f"{count} NaN or infinite values before training, in {examples(bad)}",
            "Look for memory that was never initialized (torch.empty, to_empty()) or a checkpoint that was damaged.",
        )


def _not_as_meant(result: xr.Dataset) -> Iterator[Finding]:
    missed = result["verdict"].values == NOT_AS_MEANT
    for rule in dict.fromkeys(result["rule"].values[missed].tolist()):
        names = names_where(result, missed & (result["rule"].values == rule))
        first = result.sel({schema.PARAMETER: names[0]})
        yield _finding(
            result,
            names,
            "INI001",
            Severity.WARNING,
            f"{_count(names, 'parameter')} not initialized by {rule} as meant: {examples(names)}; {names[0]} has std "
            f"{float(first['std']):.4g} where {float(first['expected_std']):.4g} was expected (z = "
            f"{float(first['z']):.1f})",
            "See which initializer ran last: a tie, a wrapper or from_pretrained may come after it.",
        )


def wide_heads(result: xr.Dataset, limit: float = WIDE) -> list[str]:
    """Name the output heads with which training begins from extreme logits."""
    return names_where(result, _is_head(result) & (result["logit_scale"].values > limit))


def _wide_heads(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    for name in wide_heads(result, limit):
        one = result.sel({schema.PARAMETER: name})
        others = [other for other in partners(result, name) if other != name]
        tied = f", tied to {examples(others)}," if others else ""
        yield _finding(
            result,
            [name, *others],
            "INI002",
            Severity.WARNING,
            f"{name}{tied} has std {float(one['std']):.3g}: logits start with a spread of about "
            f"{float(one['logit_scale']):.1f} (std x sqrt(fan_in)), far from uniform",
            "Initialize the output head, or the matrix it is tied to, with a std near 0.02 or 1/sqrt(width), unless "
            "the model scales its logits.",
        )


def _overridden(result: xr.Dataset) -> Iterator[Finding]:
    names = names_where(result, result["verdict"].values == OVERRIDDEN)
    if not names:
        return
    first = result.sel({schema.PARAMETER: names[0]})
    head = next(other for other in partners(result, names[0]) if other != names[0])
    yield _finding(
        result,
        [*names, *(other for other in partners(result, names[0]) if other not in names), *own_embeddings(result)],
        "INI003",
        Severity.INFO,
        f"{names[0]} has std {float(first['std']):.4g}, the first values of {head} that it is tied to, not its own"
        f"{own_rule(result)}",
        "Intended in most models with a tied head. If the embedding should keep its own values, tie first and "
        "initialize afterwards.",
    )


def _default_embeddings(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    default = np.isin(result["role"].values, (Role.EMBEDDING,)) & (result["rule"].values == "normal(1)")
    reported = _is_head(result) & (result["logit_scale"].values > limit)
    heads = {other for name in names_where(result, reported) for other in partners(result, name)}
    names = [name for name in names_where(result, default & (result["verdict"].values == FITS)) if name not in heads]
    if names:
        yield _finding(
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
    yield _finding(
        result,
        missed,
        "INI005",
        Severity.WARNING,
        f"{_count(missed, 'residual projection')} without the depth scale that {int(scaled.sum())} others follow: "
        f"{examples(missed)}; std {first:.4g} against {usual:.4g}",
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
        yield _finding(
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
        yield _finding(
            result,
            names,
            "INI008",
            Severity.INFO,
            f"{len(names)} of {int(matrices.sum())} matrices match no known initializer, such as {examples(names, 2)}",
            "Either they were trained before this run began, or the rule is the model's own: "
            "give it with init_audit(run, expected={pattern: rule}).",
        )


def _adapters(result: xr.Dataset) -> Iterator[Finding]:
    if still := still_adapters(result):
        yield _finding(
            result,
            still,
            "INI009",
            Severity.WARNING,
            f"{examples(still)} are all zero: the gradient of each factor is a product with the other, so none moves",
            "Draw one of the two factors, as PEFT does with A (kaiming_uniform, a=sqrt(5)), and leave the other zero.",
        )
    if moved := adapters_off_zero(result):
        yield _finding(
            result,
            moved,
            "INI010",
            Severity.INFO,
            f"no factor is zero in {examples(moved)}: the model begins as another than the one that is adapted",
            "Right for PiSSA, OLoRA and adapters that were trained before. Otherwise set one factor to zero.",
        )


def _is_head(result: xr.Dataset) -> Mask:
    return np.asarray((result["role"].values == Role.UNEMBEDDING) & (result["kind"].values == Kind.WEIGHT))


def _count(names: list[str], noun: str) -> str:
    return f"1 {noun} is" if len(names) == 1 else f"{len(names)} {noun}s are"


def _finding(
    result: xr.Dataset, names: Iterable[str], code: str, severity: Severity, message: str, advice: str
) -> Finding:
    listed = list(dict.fromkeys(names))
    expected = json.loads(result.attrs.get("expected", "{}"))
    call = f"wdyn.init_audit(run, expected={expected!r})" if expected else "wdyn.init_audit(run)"
    evidence = result.sel({schema.PARAMETER: listed})
    return Finding(
        code, severity, message, evidence, advice, sel_line(call, where=_WHERE.get(code, ""), parameter=listed)
    )
