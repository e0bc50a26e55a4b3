"""Do counts of bins tell how far apart two distributions are, within the error that is promised?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from scipy import stats

from populations import histogram, populations
from wdyn import bins
from wdyn.analysis import binned_distances
from wdyn.analysis.binned_distances import (
    in_pieces,
    kolmogorov_smirnov,
    largest_gap,
    occupied,
    transport,
    wasserstein,
)
from wdyn.errors import InvalidArgument

BOTH = [wasserstein, kolmogorov_smirnov]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@given(populations(), populations())
def test_wasserstein__is_off_by_an_eighth_of_the_mean_magnitudes_at_most(a: np.ndarray, b: np.ndarray) -> None:
    found = wasserstein(histogram(a), histogram(b))
    size = np.abs(a).mean() + np.abs(b).mean()
    assert abs(found - stats.wasserstein_distance(a, b)) <= (size / 8 + 2.0**-126) * (1 + 1e-9)


def test_wasserstein__of_many_is_far_nearer_than_its_bound(generator: np.random.Generator) -> None:
    a, b = generator.normal(size=100_000), generator.normal(0.5, 1.5, size=100_000)
    true = stats.wasserstein_distance(a, b)
    assert wasserstein(histogram(a), histogram(b)) == pytest.approx(true, rel=5e-3)


def test_wasserstein__of_a_shift_by_an_octave_is_exact_in_closed_form() -> None:
    # Evenly spread over [1, 1.25) and over [2, 2.5): every quantile moves from 1 + q / 4 to 2 + q / 2.
    a, b = histogram(np.full(7, 1.1)), histogram(np.full(3, 2.2))
    assert wasserstein(a, b) == pytest.approx(1.125, rel=1e-12)
    assert wasserstein(histogram(-np.full(7, 1.1)), b) == pytest.approx(1.125 + 2.25, rel=1e-12)


def test_wasserstein__crossing_within_a_bin_is_not_cancelled() -> None:
    # Each bin spread evenly: F_a - F_b is 0.5 from 1.25 to 4, runs to -0.5 over [4, 5), and is 0 again at 80.
    a, b = np.array([1.0, 64.0]), np.array([4.5])
    area = 0.5 * 0.25 / 2 + 0.5 * (4 - 1.25) + 2 * 0.5 * 0.5 / 2 + 0.5 * (64 - 5) + 0.5 * 16 / 2
    assert wasserstein(histogram(a), histogram(b)) == pytest.approx(area, rel=1e-12)


@given(populations(), populations())
def test_wasserstein__is_symmetric_and_zero_for_equal_shares(a: np.ndarray, b: np.ndarray) -> None:
    one, other = histogram(a), histogram(b)
    np.testing.assert_allclose(wasserstein(one, other), wasserstein(other, one), rtol=1e-12)
    assert wasserstein(one, 3 * one) == 0


def test_wasserstein__a_rounding_far_out_does_not_drown_what_is_near() -> None:
    far = np.full(3, 1e30)
    a, b = np.concatenate([np.zeros(4), far]), np.concatenate([np.zeros(7), np.zeros(1), np.repeat(far, 2)])
    assert wasserstein(histogram(a), histogram(b)) == 0


def test_wasserstein__of_different_shares_at_infinity_is_infinite_and_of_equal_ones_unknown() -> None:
    one, more = histogram(np.array([0.0, np.inf])), histogram(np.array([0.0, 0.0, np.inf]))
    assert wasserstein(one, more) == np.inf
    assert np.isnan(wasserstein(one, one))
    assert wasserstein(one, histogram(np.array([0.0, -np.inf]))) == np.inf


@given(populations(), populations())
def test_kolmogorov_smirnov__is_below_the_true_one_by_one_bin_at_most(a: np.ndarray, b: np.ndarray) -> None:
    one, other = histogram(a), histogram(b)
    with np.errstate(divide="ignore"):  # scipy's p-value, of a size rounded to 0
        true = stats.ks_2samp(a, b, method="asymp").statistic
    shared = np.minimum(one / a.size, other / b.size)
    shared[bins.ZERO] = 0  # a bin of one value hides nothing
    found = kolmogorov_smirnov(one, other)
    assert found - 1e-12 <= true <= found + shared.max() + 1e-12


def test_kolmogorov_smirnov__of_what_does_not_overlap_is_one() -> None:
    assert kolmogorov_smirnov(histogram(np.array([-1.0, -2])), histogram(np.array([3.0]))) == 1


def test_kolmogorov_smirnov__knows_the_infinities() -> None:
    assert kolmogorov_smirnov(histogram(np.array([0, np.inf])), histogram(np.array([0.0]))) == 0.5


@pytest.mark.parametrize("distance", BOTH)
def test_distance__leaves_nan_out_and_tells_how_many_there_are(distance: object) -> None:
    a, b = np.array([1.0, 2.0, np.nan]), np.array([np.nan, np.nan, 1.0, 2.0])
    found = distance(histogram(a), histogram(b))
    assert (found, found["nans"]) == (0, 3)


@pytest.mark.parametrize("distance", BOTH)
def test_distance__to_nothing_is_nan(distance: object) -> None:
    one = histogram(np.ones(2))
    for nothing in (histogram(np.array([])), histogram(np.array([np.nan])), one * np.nan):
        assert np.isnan(distance(one, nothing))
        assert np.isnan(distance(nothing, one))


@pytest.mark.parametrize("distance", BOTH)
def test_distance__from_one_step_to_all_of_them(distance: object, generator: np.random.Generator) -> None:
    rows = [histogram(generator.normal(size=500) * scale) for scale in (1, 2, 4)]
    counts = xr.concat(rows, "step").assign_coords(step=[0, 10, 20])
    found = distance(counts, counts.sel(step=0))
    assert found.dims == ("step",)
    assert found["step"].values.tolist() == [0, 10, 20]
    assert found[0] == 0
    assert (found.diff("step") > 0).all()


@pytest.mark.parametrize("distance", BOTH)
def test_distance__is_the_same_however_few_rows_are_seen_at_once(
    distance: object, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [[histogram(row) for row in rows] for rows in generator.normal(size=(3, 2, 50))]
    counts = xr.concat([xr.concat(rows, "parameter") for rows in steps], "step").assign_coords(step=range(3))
    whole = distance(counts, counts.sel(step=0))
    monkeypatch.setattr(binned_distances, "_AT_ONCE", 1)
    xr.testing.assert_identical(distance(counts, counts.sel(step=0)), whole)
    assert distance(counts[:0], counts.sel(step=0)).sizes["step"] == 0


@pytest.mark.parametrize("distance", BOTH)
def test_distance__works_piece_by_piece_on_dask_arrays(distance: object, generator: np.random.Generator) -> None:
    counts = xr.concat([histogram(row) for row in generator.normal(size=(4, 50))], "step")
    lazy = counts.chunk({"step": 2, "bin": 500})
    assert distance(lazy, counts[0]).chunks is not None
    xr.testing.assert_identical(distance(lazy, counts[0]).compute(), distance(counts, counts[0]))


@pytest.mark.parametrize("distance", BOTH)
def test_distance__refuses_what_is_no_histogram(distance: object) -> None:
    with pytest.raises(InvalidArgument, match=r"2038 bins.*not a ndarray.*histogram=True"):
        distance(histogram(np.ones(1)), np.ones(bins.COUNT))


@given(populations(), populations())
def test_distances__need_only_the_bins_that_hold_anything(a: np.ndarray, b: np.ndarray) -> None:
    one, other = (np.stack([histogram(values).values, np.full(bins.COUNT, np.nan)]) for values in (a, b))
    kept = occupied(one, other)
    for kernel in (transport, largest_gap):
        np.testing.assert_allclose(
            in_pieces(kernel, one, other, kept=kept), in_pieces(kernel, one, other), rtol=1e-12, atol=0
        )


def test_occupied__leaves_most_bins_out(generator: np.random.Generator) -> None:
    counts = histogram(generator.normal(size=1000)).values
    assert occupied(counts, counts).size < bins.COUNT / 5
    assert np.isin(np.flatnonzero(counts[: bins.NAN] > 0), occupied(counts, counts)).all()
