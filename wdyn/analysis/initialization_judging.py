"""Which rule does each parameter follow, and is it the one that was meant?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wdyn.analysis.fans import facts_of_part
from wdyn.analysis.fitting import FEW, Observation, agree, fits, z_score
from wdyn.analysis.initializers import CONSTANT, Facts, Rule, candidates
from wdyn.analysis.verdicts import AS_MEANT, EMPTY, FITS, NOT_AS_MEANT, NOT_FINITE, NOT_RECORDED, TOO_FEW, UNKNOWN
from wdyn.naming import examples

Seen = Mapping[str, Observation]


@dataclass(frozen=True)
class Judged:
    """What is said of one parameter; its standard error is the rule's, or what those of its parts make."""

    verdict: str
    rule: str = ""
    also: str = ""
    std: float = math.nan
    standard_error: float = math.nan
    z: float = math.nan


def judged(
    seen: Seen,
    parts: Mapping[str, Seen],
    *,
    nonfinite: Mapping[str, bool],
    facts: Mapping[str, Facts],
    meant: Mapping[str, Rule],
) -> dict[str, Judged]:
    """Judge every parameter; a fused one that no rule fits as a whole is tried part by part."""
    unjudged = {name: _unfit(one, nonfinite=nonfinite[name]) for name, one in seen.items()}
    fitting = {name: _fitting(one, facts[name]) for name, one in seen.items() if not unjudged[name]}
    split = {name: parts[name] for name, rules in fitting.items() if not rules and name in parts}
    of_parts = {
        label: _fitting(one, facts_of_part(facts[name], count=int(one.count)))
        for name, own in split.items()
        for label, one in own.items()
    }
    chosen = agree(fitting | of_parts)
    found: dict[str, Judged] = {}
    for name, one in seen.items():
        if unjudged[name]:
            found[name] = _against(meant.get(name), one, unjudged[name])
        elif name in meant:
            verdict = AS_MEANT if fits(meant[name], one) else NOT_AS_MEANT
            found[name] = _against(meant[name], one, verdict, _others(fitting[name], meant[name]))
        elif rule := chosen.get(name) or _constant(one):
            found[name] = _against(rule, one, FITS, _others(fitting[name], rule))
        else:
            found[name] = _by_part(one, split.get(name, {}), chosen)
    return found


def _fitting(seen: Observation, facts: Facts) -> list[tuple[Rule, float]]:
    return [(rule, z_score(rule, seen)) for rule in candidates(facts) if fits(rule, seen)]


def _others(fitting: list[tuple[Rule, float]], rule: Rule) -> str:
    return "; ".join(sorted({other.name for other, _ in fitting} - {rule.name}))


def _against(rule: Rule | None, seen: Observation, verdict: str, also: str = "") -> Judged:
    if rule is None:
        return Judged(verdict, also=also)
    return Judged(verdict, rule.name, also, rule.std, rule.standard_error(seen.count), z_score(rule, seen))


def _by_part(seen: Observation, parts: Seen, chosen: Mapping[str, Rule]) -> Judged:
    """Judge a fused weight by its parts: they mix to one spread, std^2 = sum n_i (std_i^2 + mean_i^2) / n - mean^2."""
    rules = {label: chosen.get(label) or _constant(one) for label, one in parts.items()}
    known = {label: rule for label, rule in rules.items() if rule is not None}
    if not parts or len(known) < len(parts):
        return Judged(UNKNOWN)
    share = {label: one.count / seen.count for label, one in parts.items()}
    mean = sum(share[label] * rule.mean for label, rule in known.items())
    std = math.sqrt(sum(share[label] * (rule.std**2 + (rule.mean - mean) ** 2) for label, rule in known.items()))
    # Of a sum of squares the errors add as squares: d std = sum n_i / n std_i / std d std_i.
    errors = (share[label] * rule.std / std * rule.standard_error(parts[label].count) for label, rule in known.items())
    error = math.hypot(*errors)
    return Judged(FITS, _named(known), "", std, error, (seen.std - std) / error if error else math.nan)


def _named(rules: Mapping[str, Rule]) -> str:
    """Say which parts follow which rule: ``q, k: normal(0.02); v: normal(0.01)``."""
    by_rule: dict[str, list[str]] = {}
    for label, rule in rules.items():
        by_rule.setdefault(rule.name, []).append(label.rsplit("[", 1)[-1].removesuffix("]"))
    return "; ".join(f"{examples(labels)}: {rule}" for rule, labels in by_rule.items())


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
