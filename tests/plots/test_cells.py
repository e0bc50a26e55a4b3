"""Does a map of many steps keep what is seen in it?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from wdyn.plots.cells import narrowed


def shown(values: np.ndarray) -> xr.Dataset:
    over = ("step", "parameter")
    return xr.Dataset({"ratio": (over, values)}, {"step": np.arange(1, len(values) + 1), "parameter": ["a", "b"]})


@pytest.mark.parametrize("rows", [1, 399, 400])
def test_narrowed__leaves_a_short_run_as_it_is(rows: int) -> None:
    whole = shown(np.ones((rows, 2)))
    assert narrowed(whole) == (whole, 1)


@given(st.integers(401, 3000), st.integers(0, 2**32 - 1))
def test_narrowed__keeps_the_largest_of_the_rows_that_fall_together(rows: int, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=(rows, 2))
    values[:7], values[:, 1] = np.nan, np.nan
    thin, width = narrowed(shown(values))
    assert thin.sizes["step"] <= 400
    groups = [values[first : first + width, 0] for first in range(0, rows, width)]
    expected = [np.nan if np.isnan(group).all() else np.nanmax(group) for group in groups]
    np.testing.assert_array_equal(thin["ratio"].values[:, 0], expected)
    assert np.isnan(thin["ratio"].values[:, 1]).all()
    steps = thin["step"].values
    assert (steps[0], steps[-1]) == (1, rows)
    assert (np.diff(steps) > 0).all()
