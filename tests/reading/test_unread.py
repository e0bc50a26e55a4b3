"""Do axes change places, or split, without the whole array being read?"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from xarray.backends import BackendArray
from xarray.core import indexing

from wdyn.reading.unread import reordered, split

WHOLE = np.arange(2 * 3 * 12 * 5, dtype=np.float32).reshape(2, 3, 12, 5)
DIMS = ("step", "layer", "fan_in", "fan_out")


class Counted(BackendArray):
    """Values on a disk that counts how many of them were asked for."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, 0

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.asked)

    def asked(self, key):
        found = self.values[np.ix_(*(np.atleast_1d(np.arange(n)[k]) for k, n in zip(key, self.shape, strict=True)))]
        self.read += found.size
        return found.reshape([n for n, k in zip(found.shape, key, strict=True) if not isinstance(k, int | np.integer)])


def stored():
    disk = Counted(WHOLE)
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(disk), {"long_name": "weights"})
    return disk, xr.DataArray(variable, {"step": [0, 7], "layer": [1, 2, 5]}, name="value")


def keys(length):
    positions = st.integers(0, length - 1)
    some = st.slices(length).filter(lambda part: range(length)[part])  # xarray itself fails on empty backward ones
    return positions | st.lists(positions, min_size=1, max_size=4) | some


@given(st.data())
def test_reordered__gives_any_part_as_numpy_does(data):
    dims = data.draw(st.permutations(DIMS))
    key = {dim: data.draw(keys(WHOLE.shape[DIMS.index(dim)])) for dim in dims}
    _, values = stored()
    found = reordered(values, *dims)
    wanted = xr.DataArray(WHOLE, dims=DIMS).transpose(*dims)
    assert found.dims == tuple(dims)
    np.testing.assert_array_equal(found.isel(key), wanted.isel(key))
    np.testing.assert_array_equal(found, wanted)


@given(st.data())
def test_split__gives_any_part_as_numpy_does(data):
    _, values = stored()
    found = split(values, "fan_in", {"head": 4, "head_dim": 3})
    wanted = xr.DataArray(WHOLE.reshape(2, 3, 4, 3, 5), dims=("step", "layer", "head", "head_dim", "fan_out"))
    key = {dim: data.draw(keys(length)) for dim, length in wanted.sizes.items()}
    np.testing.assert_array_equal(found.isel(key), wanted.isel(key))
    np.testing.assert_array_equal(found, wanted)


def test_both__read_what_is_asked_for_and_nothing_else():
    disk, values = stored()
    found = split(reordered(values, "step", "layer", "fan_out", "fan_in"), "fan_in", {"head": 4, "head_dim": 3})
    assert found.shape == (2, 3, 5, 4, 3)
    assert disk.read == 0
    part = found.sel(step=7, layer=5).isel(head=2)
    np.testing.assert_array_equal(part, WHOLE[1, 2].T[:, 6:9])
    assert disk.read == 15


def test_both__keep_labels_and_attributes():
    _, values = stored()
    found = split(reordered(values, "step", "layer", "fan_out", "fan_in"), "fan_in", {"head": 4, "head_dim": 3})
    assert found.name == "value"
    assert found.attrs == {"long_name": "weights"}
    assert found["step"].values.tolist() == [0, 7]
    assert found["layer"].values.tolist() == [1, 2, 5]
    assert found["head_dim"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("chunks", [{}, {"step": 1, "fan_in": 4}])
def test_both__leave_dask_arrays_to_dask(chunks):
    values = xr.DataArray(WHOLE, {"step": [0, 7]}, DIMS).chunk(chunks)
    found = split(reordered(values, "step", "layer", "fan_out", "fan_in"), "fan_in", {"head": 4, "head_dim": 3})
    assert found.chunks is not None
    np.testing.assert_array_equal(found, WHOLE.swapaxes(2, 3).reshape(2, 3, 5, 4, 3))


def test_values__are_not_shared_with_the_array_they_came_from():
    values = xr.DataArray(WHOLE.copy(), dims=DIMS)
    found = reordered(values, "layer", "step", "fan_out", "fan_in")
    found[0, 0, 0, 0] = -1
    assert values[0, 0, 0, 0] == 0
