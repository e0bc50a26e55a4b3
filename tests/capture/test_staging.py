"""Is a snapshot an exact copy, in memory that is used again?"""

import numpy as np
import pytest
import torch

from wdyn.arrays import WeightArray
from wdyn.capture.staging import Staging, as_stored, fits, same_view
from wdyn.store.dtypes import STORED_TYPES


def array(dtype: str = "float32", layers: tuple[int, ...] = (0, 1), shape: tuple[int, ...] = (2, 3)) -> WeightArray:
    names = tuple(f"h.{layer}.w" for layer in layers) or ("w",)
    return WeightArray("w-0000", "h.w", "q", "decoder", names, layers, shape, ("fan_out", "fan_in"), dtype)


def test_copy__is_of_the_values_at_that_moment() -> None:
    tensors = {"h.0.w": torch.ones(2, 3), "h.1.w": torch.full((2, 3), 2.0)}
    values, _ = Staging().copy([array()], tensors)
    tensors["h.0.w"].zero_()
    np.testing.assert_array_equal(values["w-0000"], np.stack([np.ones((2, 3)), np.full((2, 3), 2.0)]))


def test_copy__uses_released_memory_again_and_no_other() -> None:
    staging, tensors = Staging(), {"w": torch.ones(2, 3)}
    one, release = staging.copy([array(layers=())], tensors)
    two, _ = staging.copy([array(layers=())], tensors)
    assert not np.shares_memory(one["w-0000"], two["w-0000"])
    release()
    three, _ = staging.copy([array(layers=())], tensors)
    assert np.shares_memory(one["w-0000"], three["w-0000"])


def test_copy__a_layer_that_is_gone_or_changed_shows_nan() -> None:
    values, _ = Staging().copy([array(layers=(0, 1, 2))], {"h.0.w": torch.ones(2, 3), "h.1.w": torch.ones(3, 2)})
    assert np.isnan(values["w-0000"]).all(axis=(1, 2)).tolist() == [False, True, True]


@pytest.mark.parametrize("name", STORED_TYPES)
def test_as_stored__keeps_the_bits_of_every_dtype_that_can_be_kept(name: str) -> None:
    dtype = getattr(torch, name)
    raw = torch.arange(16 * dtype.itemsize, dtype=torch.uint8) % (2 if name == "bool" else 255)
    stored = as_stored(raw.view(dtype))
    assert stored.dtype == np.dtype(STORED_TYPES[name].dtype)
    assert stored.tobytes() == raw.numpy().tobytes()


def test_fits__needs_shape_and_dtype() -> None:
    assert fits(array(), torch.ones(2, 3))
    assert not fits(array(), torch.ones(3, 2))
    assert not fits(array(), torch.ones(2, 3, dtype=torch.float64))


def test_same_view__is_the_same_elements_in_the_same_order() -> None:
    base = torch.ones(4, 4)
    assert same_view(base, base.detach())
    assert not same_view(base, base.t())
    assert not same_view(base, base.clone())
    assert not same_view(base[:2], base[2:])
    assert not same_view(torch.empty(0), torch.empty(0))
