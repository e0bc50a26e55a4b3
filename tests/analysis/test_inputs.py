"""Does an analyzer read the rows and columns that it asks for, and no more?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.analysis.inputs import on_grid, stored_weights
from wdyn.testing import make_run

NAMES = ["a", "b", "c", "d"]
WHOLE = xr.DataArray(
    np.arange(20.0).reshape(5, 4), {"step": [0, 2, 4, 6, 8], "parameter": NAMES}, dims=("step", "parameter")
)


@given(st.lists(st.integers(0, 10), unique=True), st.lists(st.sampled_from([*NAMES, "e"]), unique=True))
def test_on_grid__is_a_reindex(steps: list[int], names: list[str]) -> None:
    expected = WHOLE.reindex(step=np.array(steps, dtype=np.int64), parameter=np.array(names, dtype="U1"))
    for values in (WHOLE, WHOLE.T):
        read = on_grid(values, steps=np.array(steps, dtype=np.int64), names=np.array(names, dtype="U1"))
        np.testing.assert_array_equal(read, expected.values)


def test_on_grid__of_what_is_in_memory_needs_no_copy() -> None:
    assert np.shares_memory(on_grid(WHOLE, steps=[2, 4], names=["b", "c"]), WHOLE.values)


@pytest.mark.parametrize("at_once", [0, 300, 2**28])
def test_stored_weights__are_the_same_however_many_are_read_at_once(tmp_path, at_once: int) -> None:
    make_run(to=tmp_path / "run.zarr", layers=3)
    run = wdyn.open_run(tmp_path / "run.zarr")
    for name, values in stored_weights(run, at_once=at_once).items():
        np.testing.assert_array_equal(values.values, stored_weights(run)[name].values)
