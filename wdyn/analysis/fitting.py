"""Which rule made a tensor, to judge by its mean, spread and shape?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from wdyn import bins
from wdyn.analysis.initializers import CONSTANT, KURTOSIS, NORMAL, REACH, TRUNCATION, UNIFORM, Rule

Floats = npt.NDArray[np.float64]

FEW = 32
"""With fewer values than this, a spread says nothing."""

_ROUNDING = 2.0**-8  # of bfloat16, the coarsest type that weights commonly have
_SLACK = 1e-3  # relative: a padding row of zeros, a type's rounding


@dataclass(frozen=True)
class Observation:
    """What was seen of one tensor.

    ``reach`` is the largest ``|x - mean| / std``; ``kurtosis`` is 3 for a normal distribution, NaN if unknown.
    ``counts`` is the histogram on wdyn's bins, ``None`` where it was not recorded.
    """

    mean: float
    std: float
    reach: float
    kurtosis: float
    count: float
    counts: Floats | None = field(default=None, compare=False, repr=False)

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
    """Whether the shape agrees with a distribution: reach, kurtosis, and the histogram where there is one."""
    # Both errors are those of a normal sample, the widest of the four.
    error = limit / math.sqrt(2 * seen.count) + _ROUNDING
    if seen.reach > REACH[distribution] * (1 + error) or (distribution == NORMAL and _surely_cut(seen)):
        return False
    # Of an unknown kurtosis, NaN, this is false: it speaks against nothing.
    if abs(seen.kurtosis - KURTOSIS[distribution]) > limit * math.sqrt(24 / seen.count) + 0.02:
        return False
    return seen.counts is None or _distance(distribution, seen, seen.counts) <= _far(seen.count, limit)


def _surely_cut(seen: Observation) -> bool:
    """Whether normal draws, this many, would almost surely have reached farther (chance below 1e-6)."""
    beyond = math.erfc(seen.reach / math.sqrt(2))
    return seen.count * beyond > -math.log(1e-6)


def _distance(distribution: str, seen: Observation, counts: Floats) -> float:
    """Give the largest difference between the shares below an edge of a bin, as seen and as they should be.

    At the edges the counts are exact, so this is at most the distance of Kolmogorov and Smirnov, and nearly that.
    """
    found = np.cumsum(counts[: bins.NAN]) / counts[: bins.NAN].sum()
    expected = below(distribution, (bins.edges()[1][: bins.NAN] - seen.mean) / seen.std)
    return float(np.abs(found - expected).max())


def _far(count: float, limit: float) -> float:
    """Give the distance that a sample exceeds as rarely as a normal variable exceeds `limit` standard errors.

    From P(D > c / sqrt(n)) = 2 exp(-2 c^2) for many draws (Smirnov 1948). With mean and std taken from the sample
    itself D is smaller, so less is refused.
    """
    chance = math.erfc(limit / math.sqrt(2))
    return math.sqrt(math.log(2 / chance) / (2 * count)) + _SLACK


def below(distribution: str, at: Floats) -> Floats:
    """Give the share of a distribution, scaled to mean 0 and std 1, that lies below each of `at`."""
    if distribution == NORMAL:
        return np.asarray(ndtr(at))
    if distribution == UNIFORM:
        return np.clip((at / REACH[UNIFORM] + 1) / 2, 0, 1)
    scale = TRUNCATION[distribution]
    outside = ndtr(-REACH[distribution] * scale)
    return np.clip((ndtr(at * scale) - outside) / (1 - 2 * outside), 0, 1)


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
