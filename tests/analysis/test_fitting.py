"""Does a shape tell one distribution from another, with as many values as it takes and no fewer?"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from wdyn import bins
from wdyn.analysis.fitting import Observation, below, fits, has_shape
from wdyn.analysis.initializers import NORMAL, TRUNCATED_2, TRUNCATED_3, UNIFORM, Rule

EXACT = {
    NORMAL: stats.norm(),
    UNIFORM: stats.uniform(-1, 2),
    TRUNCATED_2: stats.truncnorm(-2, 2),
    TRUNCATED_3: stats.truncnorm(-3, 3),
}


def seen(values: np.ndarray, *, histogram: bool = True) -> Observation:
    mean, std = values.mean(), values.std()
    return Observation(
        mean=mean,
        std=std,
        reach=np.abs(values - mean).max() / std,
        kurtosis=stats.kurtosis(values, fisher=False),
        count=values.size,
        counts=np.bincount(bins.bin_of(values), minlength=bins.COUNT).astype(float) if histogram else None,
    )


@pytest.mark.parametrize("name", EXACT)
def test_share_below__equals_scipy(name: str) -> None:
    at = np.linspace(-5, 5, 201)
    assert_allclose(below(name, at), EXACT[name].cdf(at * EXACT[name].std()), atol=1e-12)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("histogram", [True, False])
def test_shape__of_draws_is_their_own_and_of_many_no_other(name: str, histogram: bool) -> None:
    random = np.random.default_rng(0)
    for count in (100, 1000, 100_000):
        drawn = [seen(EXACT[name].rvs(count, random_state=random), histogram=histogram) for _ in range(20)]
        assert all(has_shape(name, one) for one in drawn)
    others = {other for other in EXACT if other != name}
    assert not any(has_shape(other, one) for other in others for one in drawn)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_shape__survives_rounding(dtype: object) -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 1_000_000).astype(np.float32)
    if dtype == "bfloat16":
        values = ((values.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    else:
        values = values.astype(np.float16)
    assert fits(Rule("normal(0.02)", NORMAL, 0.02), seen(values.astype(np.float64)))


def test_histogram__tells_what_moments_and_reach_cannot() -> None:
    drawn = np.random.default_rng(0).normal(0, 1, 10_000)
    rounded = np.round(2 * drawn) / 2  # as a weight of few bits would be
    assert has_shape(NORMAL, seen(drawn))
    assert has_shape(NORMAL, seen(rounded, histogram=False))
    assert not has_shape(NORMAL, seen(rounded))


def test_reach__tells_a_sample_that_was_cut_from_one_that_was_not() -> None:
    cut = np.clip(np.random.default_rng(0).normal(0, 1, 10_000), -2.6, 2.6)
    assert not has_shape(NORMAL, seen(cut, histogram=False))
    assert has_shape(NORMAL, seen(cut[:500], histogram=False))  # of these, some would rarely reach farther
