"""Are spectral norm, stable rank and rank of a change those of numpy's SVD, within what is stated?"""

import math

import numpy as np
import pytest
import torch

from wdyn.checkpoints import spectra
from wdyn.checkpoints.spectra import ACCURACY, lanczos_steps, spectrum


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(a, b):
    change = b.double().numpy().reshape(b.shape[0], -1) - a.double().numpy().reshape(a.shape[0], -1)
    return np.linalg.svd(change, compute_uv=False)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (1, 7), (7, 1), (4, 3, 5), (6, 2, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spectrum__is_that_of_the_svd(shape, dtype):
    a, b = drawn(*shape).to(dtype), drawn(*shape, seed=1).to(dtype)
    found, sigma = spectrum(a, b), reference(a, b)
    np.testing.assert_allclose(found.values, sigma, rtol=1e-6, atol=1e-6 * sigma[0])
    np.testing.assert_allclose(found.stable_rank, (sigma**2).sum() / sigma[0] ** 2, rtol=1e-10)


@pytest.fixture
def large(monkeypatch):
    """Let every matrix count as a large one."""
    monkeypatch.setattr(spectra, "EXACT_UP_TO", 0)


@pytest.mark.parametrize("decay", [0.0, 0.5, 3.0])
def test_spectrum__of_a_large_matrix_keeps_the_stated_accuracy(large, decay):
    left, right = (np.linalg.qr(drawn(n, 150, seed=n).double().numpy())[0] for n in (400, 180))
    sigma = (1.0 + np.arange(150)) ** -decay  # decay 0 is the worst: no gap above which to converge
    b = torch.from_numpy((left * sigma) @ right.T).float()
    found = spectrum(torch.zeros_like(b), b)
    exact = (sigma**2).sum() / sigma[0] ** 2
    assert exact * (1 - 1e-5) <= found.stable_rank <= exact * (1 + ACCURACY)
    assert found.values[0] <= sigma[0] * (1 + 1e-5)


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize("exact", [True, False])
def test_rank__is_the_one_that_was_planted(monkeypatch, rank, exact):
    monkeypatch.setattr(spectra, "EXACT_UP_TO", 1024 if exact else 0)
    a = drawn(120, 90)
    b = a + 0.01 * drawn(120, rank, seed=1) @ drawn(rank, 90, seed=2)
    found = spectrum(a, b)
    assert found.rank == rank
    assert found.held > 0.9999
    full = spectrum(a, a + 0.01 * drawn(120, 90, seed=3))
    assert full.rank > 60


def test_rank__is_not_made_of_rounding():
    a = drawn(120, 90)
    b = (a + 0.05 * drawn(120, 3, seed=1) @ drawn(3, 90, seed=2)).bfloat16()
    found = spectrum(a.bfloat16(), b)
    assert found.rank == 3
    assert 0.9 < found.held < 1
    only_rounding = spectrum(a, a.bfloat16())
    assert only_rounding.rank == 0


@pytest.mark.parametrize(
    "a", [torch.zeros(3), torch.zeros(0, 3), torch.tensor(1.0), torch.zeros(2, 2, dtype=torch.complex64)]
)
def test_spectrum__is_none_of_what_is_no_matrix(a):
    assert spectrum(a, a) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_spectrum__is_none_where_the_change_is_not_finite(bad):
    a, b = drawn(4, 4), drawn(4, 4, seed=1)
    b[1, 2] = bad
    assert spectrum(a, b) is None
    a[1, 2] = bad  # and unchanged there
    assert spectrum(a, b).rank > 0


def test_spectrum__of_no_change_has_no_rank():
    a = drawn(5, 4)
    found = spectrum(a, a)
    assert math.isnan(found.stable_rank)
    assert found.rank == 0


def test_spectrum__of_integers_is_exact():
    a, b = torch.zeros(3, 3, dtype=torch.int64), torch.eye(3, dtype=torch.int64)
    assert spectrum(a, b).rank == 3


def test_spectrum__draws_no_random_numbers_of_the_program(large):
    state = torch.get_rng_state()
    spectrum(drawn(9, 8), drawn(9, 8, seed=1))
    assert torch.equal(state, torch.get_rng_state())


def test_lanczos_steps__fulfil_the_bound():
    for size in (1025, 4096, 50_000):
        k = lanczos_steps(size)
        assert 1.648 * math.sqrt(size) * math.exp(-math.sqrt(ACCURACY) * (2 * k - 1)) <= spectra.FAILURE
