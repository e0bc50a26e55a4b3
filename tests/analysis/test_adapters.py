"""Are the norm and the directions of a product of thin matrices right, without the product?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.analysis.adapters_kernels import dora_change, effective_rank, product_spectrum


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_product_spectrum__is_that_of_the_whole_product(rows: int, columns: int, rank: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    b, a = source.normal(size=(rows, rank)), source.normal(size=(rank, columns))
    got, whole = product_spectrum(b, a), np.linalg.svd(b @ a, compute_uv=False)
    many = min(got.size, whole.size)
    np.testing.assert_allclose(got[:many], whole[:many], atol=1e-10)
    np.testing.assert_allclose(np.r_[got[many:], whole[many:]], 0, atol=1e-10)


@given(st.integers(1, 12), st.integers(0, 12), st.floats(1e-6, 1e6))
def test_effective_rank__counts_equal_directions_whatever_their_size(used: int, unused: int, size: float) -> None:
    spectrum = np.r_[np.full(used, size), np.zeros(unused)]
    np.testing.assert_allclose(effective_rank(spectrum), used, rtol=1e-9)


def test_effective_rank__of_nothing_is_nan() -> None:
    assert np.isnan(effective_rank(np.zeros(4)))


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_dora_change__of_rows_of_their_own_norm_is_nothing(scale: float) -> None:
    source = np.random.default_rng(0)
    base, a = source.normal(size=(5, 3)), source.normal(size=(2, 3))
    norms = np.linalg.norm(base, axis=1)
    assert dora_change(base, np.zeros((5, 2)), a, norms, scale=scale) < 1e-12
    np.testing.assert_allclose(dora_change(base, np.zeros((5, 2)), a, 3 * norms, scale=scale), 2 * np.linalg.norm(base))
