"""Does every number lie in one bin, and in the same one however it is found?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn import bins

ODD = [0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-45, 2.0**-126, -(2.0**-126), 2.0**127, 2.0**128, -(2.0**128), 1e300]
any_number = st.one_of(st.sampled_from(ODD), st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))


def searched(values: np.ndarray) -> np.ndarray:
    """The bins by a search over the edges of magnitude: a second way, which knows nothing of bits."""
    size = bins.magnitudes()
    place = np.searchsorted(size, np.abs(values), side="right")  # 0 below all edges
    found = np.where(values < 0, bins.NEGATIVE_UNDERFLOW - place, bins.POSITIVE_UNDERFLOW + place)
    return np.where(np.isnan(values), bins.NAN, np.where(values == 0, bins.ZERO, found))


def test_magnitudes__are_four_to_an_octave_over_the_range_of_float32() -> None:
    size = bins.magnitudes()
    assert (size[0], size[-1]) == (np.finfo(np.float32).tiny, 2.0**128)
    assert (size[bins.PER_OCTAVE :] == 2 * size[: -bins.PER_OCTAVE]).all()
    assert bins.PER_OCTAVE >= 4


def test_edges__leave_no_gap_and_rise() -> None:
    lower, upper = bins.edges()
    assert len(lower) == len(upper) == bins.COUNT
    np.testing.assert_array_equal(upper[: bins.NAN - 1], lower[1 : bins.NAN])
    assert (np.diff(lower[: bins.NAN]) >= 0).all()
    assert (lower[0], upper[bins.NAN - 1], lower[bins.ZERO], upper[bins.ZERO]) == (-np.inf, np.inf, 0, 0)
    assert np.isnan([lower[bins.NAN], upper[bins.NAN]]).all()


@given(any_number)
def test_bin_of__holds_the_value_and_its_edge_of_smaller_magnitude(value: float) -> None:
    at = bins.bin_of(np.array([value]))[0]
    lower, upper = (edge[at] for edge in bins.edges())
    if value == 0:
        assert at == bins.ZERO
    elif value > 0:
        assert lower <= value < upper or (value == upper == np.inf)
    else:
        assert lower < value <= upper or (value == lower == -np.inf)


@given(st.lists(any_number, min_size=1))
def test_bin_of__is_what_a_search_over_the_edges_finds(values: list[float]) -> None:
    array = np.array(values)
    np.testing.assert_array_equal(bins.bin_of(array), searched(array))


@given(any_number)
def test_bin_of__mirrors_with_the_sign(value: float) -> None:
    here, there = bins.bin_of(np.array([value, -value]))
    assert here + there == 2 * bins.ZERO


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_bin_of__takes_what_float64_holds(dtype: type) -> None:
    assert bins.bin_of(np.array([1, 0], dtype=dtype)).tolist() == [bins.bin_of(np.array([1.0]))[0], bins.ZERO]


def test_bin_of__puts_every_nan_into_one_bin() -> None:
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001], dtype=np.uint64).view(np.float64)
    assert (bins.bin_of(nans) == bins.NAN).all()


@given(st.lists(st.floats(width=32), min_size=1))
def test_of_codes__equals_sorting_each_value_into_its_bin(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    codes = (array.view(np.uint32) >> 21).astype(np.int64)
    codes[array == 0], codes[np.isnan(array)] = bins.CODE_OF_ZERO, bins.CODE_OF_NAN
    counts = np.bincount(codes, minlength=bins.CODES)
    expected = np.bincount(bins.bin_of(array.astype(np.float64)), minlength=bins.COUNT)
    np.testing.assert_array_equal(bins.of_codes(counts[None])[0], expected)


def test_of_codes__keeps_every_count() -> None:
    counts = np.arange(2 * bins.CODES).reshape(2, bins.CODES)
    np.testing.assert_array_equal(bins.of_codes(counts).sum(-1), counts.sum(-1))
