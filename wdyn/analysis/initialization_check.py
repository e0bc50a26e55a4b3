"""Which of the first values deserve a word?"""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from wdyn import schema
from wdyn.analysis.initialization_adapters import adapters_off_zero, still_adapters
from wdyn.analysis.initialization_telling import told
from wdyn.analysis.initialization_unlike import unlike
from wdyn.analysis.overriding import own_embeddings, own_rule, partners
from wdyn.analysis.telling import count, names_where
from wdyn.analysis.verdicts import NOT_AS_MEANT, NOT_FINITE, OVERRIDDEN
from wdyn.findings import Finding, Severity
from wdyn.naming import examples
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
    yield from unlike(result, wide=wide_heads(result, logit_scale), unknown_share=unknown_share)
    yield from _adapters(result)


def _not_finite(result: xr.Dataset) -> Iterator[Finding]:
    bad = names_where(result, result["verdict"].values == NOT_FINITE)
    if bad:
        values = int(result["nonfinite"].sel({schema.PARAMETER: bad}).sum())
        yield told(
            result,
            bad,
            "INI006",
            Severity.ERROR,
            f"{values} NaN or infinite values before training, in {examples(bad)}",
            "Look for memory that was never initialized (torch.empty, to_empty()) or a checkpoint that was damaged.",
        )


def _not_as_meant(result: xr.Dataset) -> Iterator[Finding]:
    missed = result["verdict"].values == NOT_AS_MEANT
    for rule in dict.fromkeys(result["rule"].values[missed].tolist()):
        names = names_where(result, missed & (result["rule"].values == rule))
        first = result.sel({schema.PARAMETER: names[0]})
        yield told(
            result,
            names,
            "INI001",
            Severity.WARNING,
            f"{count(names, 'parameter is', 'parameters are')} not initialized by {rule} as meant: {examples(names)}; "
            f"{names[0]} has std {float(first['std']):.4g} where {float(first['expected_std']):.4g} was expected (z = "
            f"{float(first['z']):.1f})",
            "See which initializer ran last: a tie, a wrapper or from_pretrained may come after it.",
        )


def wide_heads(result: xr.Dataset, limit: float = WIDE) -> list[str]:
    """Name the output heads with which training begins from extreme logits."""
    head = (result["role"].values == Role.UNEMBEDDING) & (result["kind"].values == Kind.WEIGHT)
    return names_where(result, head & (result["logit_scale"].values > limit))


def _wide_heads(result: xr.Dataset, limit: float) -> Iterator[Finding]:
    for name in wide_heads(result, limit):
        one = result.sel({schema.PARAMETER: name})
        others = [other for other in partners(result, name) if other != name]
        tied = f", tied to {examples(others)}," if others else ""
        yield told(
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
    yield told(
        result,
        [*names, *(other for other in partners(result, names[0]) if other not in names), *own_embeddings(result)],
        "INI003",
        Severity.INFO,
        f"{names[0]} has std {float(first['std']):.4g}, the first values of {head} that it is tied to, not its own"
        f"{own_rule(result)}",
        "Intended in most models with a tied head. If the embedding should keep its own values, tie first and "
        "initialize afterwards.",
    )


def _adapters(result: xr.Dataset) -> Iterator[Finding]:
    if still := still_adapters(result):
        yield told(
            result,
            still,
            "INI009",
            Severity.WARNING,
            f"{examples(still)} are all zero: the gradient of each factor is a product with the other, so none moves",
            "Draw one of the two factors, as PEFT does with A (kaiming_uniform, a=sqrt(5)), and leave the other zero.",
        )
    if moved := adapters_off_zero(result):
        yield told(
            result,
            moved,
            "INI010",
            Severity.INFO,
            f"no factor is zero in {examples(moved)}: the model begins as another than the one that is adapted",
            "Right for PiSSA, OLoRA and adapters that were trained before. Otherwise set one factor to zero.",
        )
