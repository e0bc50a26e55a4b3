"""Do counts of bins tell quantiles, tails and other bins, within the error that is promised?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from populations import histogram, populations
from wdyn import bins
from wdyn.analysis.binned import absolute, quantile, rebin, tail_weight
from wdyn.errors import InvalidArgument

TINY = 2.0**-126
ROUNDING = 1e-12

shares = st.floats(0, 1)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def width_of(values: np.ndarray) -> np.ndarray:
    """A bin is at most this wide where the values are."""
    return np.maximum(0.25 * np.abs(values), TINY * (values != 0))


# Bins, on which the bounds rest.


def test_bins__are_at_most_a_quarter_of_their_smaller_edge_wide() -> None:
    size = bins.magnitudes()
    assert (np.diff(size) / size[:-1]).max() == 0.25


# Quantiles.


@given(populations(), shares)
def test_quantile__is_off_by_the_width_of_a_bin_at_most(values: np.ndarray, share: float) -> None:
    found = quantile(histogram(values), share)
    lower, higher = (np.quantile(values, share, method=method) for method in ("lower", "higher"))
    limit = max(width_of(lower), width_of(higher))
    assert abs(found - np.quantile(values, share)) <= limit * (1 + ROUNDING)


def test_quantile__of_many_is_far_nearer_than_its_bound(generator: np.random.Generator) -> None:
    values = generator.normal(size=200_000)
    at = [0.001, 0.01, 0.25, 0.75, 0.99, 0.999]
    np.testing.assert_allclose(quantile(histogram(values), at), np.quantile(values, at), rtol=0.03)


def test_quantile__of_zeros_and_infinities_is_exact() -> None:
    values = np.array([-np.inf, -np.inf, 0, 0, 0, 0, np.inf])
    np.testing.assert_array_equal(quantile(histogram(values), [0, 0.5, 1]), [-np.inf, 0, np.inf])


def test_quantile__halfway_between_the_infinities_is_nan_as_in_numpy() -> None:
    assert np.isnan(quantile(histogram(np.array([-np.inf, np.inf])), 0.5))


def test_quantile__beside_an_infinity_stays_finite() -> None:
    assert quantile(histogram(np.array([1.0, np.inf])), 0) == pytest.approx(1, rel=0.25)


def test_quantile__of_one_element_lies_in_its_bin() -> None:
    np.testing.assert_array_equal(quantile(histogram(np.array([-1.0])), [0, 0.3, 1]), [-1.125] * 3)


def test_quantile__does_not_count_nan_and_tells_how_many_there_are() -> None:
    found = quantile(histogram(np.array([np.nan, np.nan, -8.0, 0.0, 8.0])), 0.5)
    assert found == 0
    assert found["nans"] == 2


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_quantile__of_nothing_is_nan(values: list[float]) -> None:
    assert np.isnan(quantile(histogram(np.array(values)), [0, 0.5, 1])).all()


def test_quantile__where_nothing_was_recorded_is_nan_and_the_rest_is_known() -> None:
    counts = xr.concat([histogram(np.zeros(3)), histogram(np.ones(1)) * np.nan], "step")
    found = quantile(counts, 0.5)
    assert found.dims == ("step",)
    np.testing.assert_array_equal(found, [0, np.nan])
    np.testing.assert_array_equal(found["nans"], [0, np.nan])


@given(populations(), shares)
def test_quantile__of_the_mirror_image_is_mirrored(values: np.ndarray, share: float) -> None:
    one, other = quantile(histogram(values), share), quantile(histogram(-values), 1 - share)
    np.testing.assert_allclose(one, -other, rtol=1e-6, atol=1e-6 * np.abs(values).max())


def test_quantile__of_merged_counts_is_that_of_all(generator: np.random.Generator) -> None:
    parts = [generator.normal(size=n) * scale for n, scale in ((100, 1), (1000, 30))]
    together = xr.concat([histogram(part) for part in parts], "parameter").sum("parameter", skipna=False)
    assert quantile(together, 0.9).identical(quantile(histogram(np.concatenate(parts)), 0.9))


def test_quantile__keeps_dims_and_coordinates_and_puts_its_own_first() -> None:
    counts = histogram(np.arange(6.0)).expand_dims(step=[0, 5]).expand_dims(parameter=["a", "b", "c"], axis=1)
    found = quantile(counts, [0.1, 0.9])
    assert found.dims == ("quantile", "step", "parameter")
    assert found["step"].values.tolist() == [0, 5]
    assert found["quantile"].values.tolist() == [0.1, 0.9]


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, [0.5, 2], [[0.5]]])
def test_quantile__refuses_what_is_no_share(bad: object) -> None:
    with pytest.raises(InvalidArgument, match="needed are one or several shares between 0 and 1"):
        quantile(histogram(np.ones(1)), bad)


# Tails.


@given(populations(), st.floats(0, 1e3))
def test_tail_weight__is_off_by_the_bin_of_the_threshold_at_most(values: np.ndarray, times: float) -> None:
    size, limit = np.abs(values), times * np.median(np.abs(values))
    found = tail_weight(histogram(values), beyond=limit)
    shared = (bins.bin_of(size) == bins.bin_of(np.array([limit]))).mean() if limit else 0
    assert abs(found - (size > limit).mean()) <= shared + ROUNDING


def test_tail_weight__beyond_some_rms_of_each(generator: np.random.Generator) -> None:
    values = np.stack([generator.normal(size=100_000), 50 * generator.laplace(size=100_000)])
    rms = xr.DataArray(np.sqrt((values**2).mean(axis=1)), dims="parameter")
    counts = xr.concat([histogram(row) for row in values], "parameter")
    found = tail_weight(counts, beyond=3 * rms)
    true = (np.abs(values) > 3 * rms.values[:, None]).mean(axis=1)
    np.testing.assert_allclose(found, true, rtol=0.1)
    assert found[1] > 4 * found[0]


def test_tail_weight__beyond_0_is_the_exact_share_of_what_is_not_0() -> None:
    assert tail_weight(histogram(np.array([0, 0, 1e-44, -1.0, -0.0])), beyond=0) == 0.4


def test_tail_weight__infinities_are_beyond_every_number() -> None:
    counts = histogram(np.array([1, 2, np.inf, -np.inf]))
    assert tail_weight(counts, beyond=1e300) == 0.5
    assert tail_weight(counts, beyond=np.inf) == 0


def test_tail_weight__does_not_count_nan_and_tells_how_many_there_are() -> None:
    found = tail_weight(histogram(np.array([1.0, 64.0, np.nan])), beyond=8)
    assert (found, found["nans"]) == (0.5, 1)


def test_tail_weight__of_nothing_or_beyond_the_unknown_is_nan() -> None:
    assert np.isnan(tail_weight(histogram(np.array([])), beyond=1))
    assert np.isnan(tail_weight(histogram(np.ones(2)) * np.nan, beyond=1))
    assert np.isnan(tail_weight(histogram(np.ones(2)), beyond=np.nan))


# Other bins.


@given(populations(), hnp.arrays(np.int64, st.integers(2, 8), elements=st.integers(-99, 99), unique=True))
def test_rebin__is_off_by_the_bins_that_the_edges_cut_at_most(values: np.ndarray, edges: np.ndarray) -> None:
    edges = np.sort(edges) / 12 * max(np.median(np.abs(values)), TINY)
    found = rebin(histogram(values), edges)
    cut = np.bincount(bins.bin_of(values), minlength=bins.COUNT)[bins.bin_of(edges)] * (edges != 0)
    assert (abs(found - np.histogram(values, edges)[0]) <= cut[:-1] + cut[1:] + ROUNDING * values.size).all()


@given(populations(), hnp.arrays(np.float64, st.integers(2, 8), elements=st.floats(-1e38, 1e38), unique=True))
def test_rebin__keeps_every_element(values: np.ndarray, edges: np.ndarray) -> None:
    found = rebin(histogram(np.append(values, [np.nan, np.inf, -np.inf])), np.sort(edges))
    total = found.sum() + found["below"] + found["above"] + found["nans"]
    np.testing.assert_allclose(total, values.size + 3, rtol=ROUNDING)
    assert (found >= -ROUNDING * values.size).all()


def test_rebin__onto_its_own_edges_gives_the_counts_back(generator: np.random.Generator) -> None:
    counts = histogram(generator.normal(size=1000))
    edges = np.concatenate([[-np.inf], -bins.magnitudes()[::-1], [0], bins.magnitudes(), [np.inf]])
    assert rebin(counts, edges).values.tolist() == np.delete(counts.values, [bins.ZERO, bins.NAN]).tolist()


def test_rebin__outer_edges_at_infinity_hold_all() -> None:
    found = rebin(histogram(np.array([-np.inf, -3, 0, 0, 7, np.inf])), [-np.inf, 0, np.inf])
    assert found.values.tolist() == [2, 4]
    assert (found["below"], found["above"]) == (0, 0)


def test_rebin__what_overflowed_lies_beyond_every_finite_edge() -> None:
    found = rebin(histogram(np.array([-np.inf, -np.inf, 1, np.inf])), [-1e300, 0, 1e300])
    assert found.values.tolist() == [0, 1]
    assert (found["below"], found["above"]) == (2, 1)


def test_rebin__the_last_bin_holds_its_upper_edge_as_in_numpy() -> None:
    assert rebin(histogram(np.zeros(3)), [-1, 0]).values.tolist() == [3]
    assert rebin(histogram(np.zeros(3)), [-1, 0, 1]).values.tolist() == [0, 3]


def test_rebin__tells_its_edges_and_what_is_outside() -> None:
    found = rebin(histogram(np.array([-5, 2.5, 30, np.nan])).expand_dims(step=[3]), [-1, 2, 8])
    assert found.dims == ("step", "bin")
    assert found["lower"].values.tolist() == [-1, 2]
    assert found["upper"].values.tolist() == [2, 8]
    assert [found[name].item() for name in ("below", "above", "nans")] == [1, 1, 1]


def test_rebin__where_nothing_was_recorded_is_nan() -> None:
    assert np.isnan(rebin(histogram(np.ones(1)) * np.nan, [0, 1, 2])).all()


@pytest.mark.parametrize("bad", [[1], [1, 1], [2, 1], [[0, 1]], [0, np.nan]])
def test_rebin__refuses_edges_that_do_not_rise(bad: list[float]) -> None:
    with pytest.raises(InvalidArgument, match="at least two numbers, each larger than the one before"):
        rebin(histogram(np.ones(1)), bad)


# Magnitudes.


@given(populations())
def test_absolute__is_the_histogram_of_the_magnitudes(values: np.ndarray) -> None:
    all_kinds = np.append(values, [np.nan, -np.inf, np.inf, -0.0])
    assert absolute(histogram(all_kinds)).identical(histogram(np.abs(all_kinds)))


def test_absolute__of_what_was_not_recorded_is_nan() -> None:
    assert np.isnan(absolute(histogram(np.ones(1)) * np.nan)).all()


def test_absolute__keeps_the_dims_in_order() -> None:
    counts = histogram(np.array([-1.0])).expand_dims(step=2, axis=1)
    assert absolute(counts).dims == ("bin", "step")


# What is given.


@pytest.mark.parametrize("bad", [xr.DataArray(np.zeros(5), dims="bin"), xr.DataArray(0.0), np.zeros(bins.COUNT)])
def test_functions__refuse_what_is_no_histogram(bad: object) -> None:
    for call in (lambda: quantile(bad, 0.5), lambda: tail_weight(bad, beyond=1), lambda: rebin(bad, [0, 1])):
        with pytest.raises(InvalidArgument, match=r"2038 bins.*histogram=True"):
            call()


def test_functions__work_piece_by_piece_on_dask_arrays(generator: np.random.Generator) -> None:
    rows = [histogram(row) for row in generator.normal(size=(4, 50))]
    counts = xr.concat(rows, "step")
    lazy = counts.chunk({"step": 2, "bin": 500})
    for call in (lambda c: quantile(c, [0.5]), lambda c: tail_weight(c, beyond=1), lambda c: rebin(c, [-1, 0, 1])):
        assert call(lazy).chunks is not None
        xr.testing.assert_identical(call(lazy).compute(), call(counts))
