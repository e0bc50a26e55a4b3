"""Do the kernels agree with the geometry of vectors, and with a random walk under AdamW's rule?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.testing import assert_allclose

from wdyn.analysis.update_sizes_kernels import approach, equilibrium_rms, equilibrium_rotation, rotation, tangential

vectors = nps.arrays(np.float64, 5, elements=st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3))


@given(vectors, vectors)
def test_parts__are_those_of_the_vectors(before: np.ndarray, update: np.ndarray) -> None:
    length, size = np.linalg.norm(before), np.linalg.norm(update)
    if length == 0 or size == 0:
        return
    ratio, cosine = size / length, before @ update / (length * size)
    along = (before @ update) / length**2
    across = np.linalg.norm(update - along * before) / length
    assert_allclose(tangential(np.array(ratio), np.array(cosine)), across, atol=1e-6 * ratio)
    after = before + update
    if np.linalg.norm(after) > 1e-6 * size:
        # Half-angle form, which keeps its digits where the vectors are nearly parallel.
        one, other = before / length, after / np.linalg.norm(after)
        angle = 2 * np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))
        assert_allclose(rotation(np.array(ratio), np.array(cosine)), angle, atol=1e-5)


def test_parts__of_a_cosine_beyond_one_by_rounding_are_no_nan() -> None:
    assert tangential(np.array(0.1), np.array(-1 - 1e-16)) == 0


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_equilibrium__is_where_a_random_walk_settles(beta1: float) -> None:
    random = np.random.default_rng(0)
    lr, decay, beta2, size = 1e-2, 0.5, 0.999, 1000
    weights, first, second = random.normal(size=size), np.zeros(size), np.ones(size)
    turned, rms = [], []
    for step in range(1200):
        gradient = random.normal(size=size)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        after = weights - lr * decay * weights - lr * first / np.sqrt(second)
        if step >= 900:
            turned.append(np.arccos(weights @ after / np.linalg.norm(weights) / np.linalg.norm(after)))
            rms.append(np.sqrt((after**2).mean()))
        weights = after
    assert_allclose(np.mean(turned), equilibrium_rotation(np.array(lr), np.array(decay), np.array(beta1)), rtol=0.05)
    assert_allclose(np.mean(rms), equilibrium_rms(np.array(lr), np.array(decay)), rtol=0.05)


def test_approach__is_that_of_the_mean_square_of_the_weights() -> None:
    lr, decay, steps = 1e-3, 0.3, 1000
    square, balance = 9.0, lr / (2 * decay)
    for _ in range(steps):
        square = square * (1 - lr * decay) ** 2 + lr**2
    assert_allclose((9.0 - square) / (9.0 - balance), approach(np.array(lr * decay * steps)), rtol=1e-3)


def test_equilibrium__does_not_exist_without_decay() -> None:
    assert np.isnan(equilibrium_rms(np.array(1e-3), np.array(0.0)))
