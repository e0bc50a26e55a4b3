"""Which rule made a tensor, to judge by its mean, spread and shape?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wdyn.analysis.initializers import CONSTANT, KURTOSIS, NORMAL, REACH, Rule

FEW = 32
"""With fewer values than this, a spread says nothing."""

_ROUNDING = 2.0**-8  # of bfloat16, the coarsest type that weights commonly have
_SLACK = 1e-3  # relative: a padding row of zeros, a type's rounding


@dataclass(frozen=True)
class Observation:
    """What was seen of one tensor.

    ``reach`` is the largest ``|x - mean| / std``; ``kurtosis`` is 3 for a normal distribution, NaN if unknown.
    """

    mean: float
    std: float
    reach: float
    kurtosis: float
    count: float

    @property
    def constant(self) -> bool:
        """Whether all values are the same."""
        return self.std == 0


def z_score(rule: Rule, seen: Observation) -> float:
    """Give the distance between observed and expected std in standard errors; 0 or infinite for constants."""
    error = rule.standard_error(seen.count)
    if error == 0:
        return 0.0 if math.isclose(rule.std, seen.std, rel_tol=1e-6) else math.copysign(math.inf, seen.std - rule.std)
    return (seen.std - rule.std) / error


def fits(rule: Rule, seen: Observation, *, limit: float = 4.0) -> bool:
    """Whether what was seen may have come from the rule: within `limit` standard errors in mean and std."""
    if rule.distribution == CONSTANT or seen.constant:
        return seen.constant and rule.distribution == CONSTANT and math.isclose(rule.mean, seen.mean, rel_tol=_ROUNDING)
    spread_error = limit * rule.standard_error(seen.count) + _SLACK * rule.std
    mean_error = limit * rule.std / math.sqrt(seen.count) + _SLACK * rule.std
    in_place = abs(seen.std - rule.std) <= spread_error and abs(seen.mean - rule.mean) <= mean_error
    return in_place and has_shape(rule.distribution, seen, limit=limit)


def has_shape(distribution: str, seen: Observation, *, limit: float = 4.0) -> bool:
    """Whether reach and kurtosis agree with a distribution."""
    # Both errors are those of a normal sample, the widest of the four.
    error = limit / math.sqrt(2 * seen.count) + _ROUNDING
    if seen.reach > REACH[distribution] * (1 + error):
        return False
    if math.isnan(seen.kurtosis):
        return distribution != NORMAL or not _surely_cut(seen)
    return abs(seen.kurtosis - KURTOSIS[distribution]) <= limit * math.sqrt(24 / seen.count) + 0.02


def _surely_cut(seen: Observation) -> bool:
    """Whether normal draws, this many, would almost surely have reached farther (chance below 1e-6)."""
    beyond = math.erfc(seen.reach / math.sqrt(2))
    return seen.count * beyond > -math.log(1e-6)


def agree(fitting: Mapping[str, Sequence[tuple[Rule, float]]]) -> dict[str, Rule]:
    """Choose one rule for each tensor from those that fit it, given with their z-scores.

    People initialize by few rules, so the rule that fits most tensors of the model wins; among equals a
    common one, then the closest.
    """
    votes: Counter[str] = Counter()
    squares: defaultdict[str, float] = defaultdict(float)
    for options in fitting.values():
        for rule, z in options:
            votes[rule.name] += 1
            squares[rule.name] += z * z

    def rank(option: tuple[Rule, float]) -> tuple[float, bool, float]:
        name = option[0].name
        return -votes[name], option[0].rare, squares[name] / votes[name]

    return {name: min(options, key=rank)[0] for name, options in fitting.items() if options}
