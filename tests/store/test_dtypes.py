"""Are bits that numpy has no type for shown as the values they mean, and given back as they were?"""

import ml_dtypes
import numpy as np
import pytest
import torch

from wdyn.store.dtypes import STORED_TYPES, narrow, widen

FLOAT8 = [name for name in STORED_TYPES if name.startswith("float8")]
EVERY_CODE = {"bfloat16": np.arange(2**16, dtype=np.uint16)} | {name: np.arange(256, dtype=np.uint8) for name in FLOAT8}


@pytest.mark.parametrize("name", EVERY_CODE)
def test_widen__gives_the_value_of_every_code(name):
    bits = EVERY_CODE[name]
    expected = torch.from_numpy(bits).view(getattr(torch, name)).float().numpy()
    shown = widen(bits, bits_of=name)
    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(np.signbit(shown[shown == 0]), np.signbit(expected[shown == 0]))


@pytest.mark.parametrize("name", EVERY_CODE)
def test_narrow__gives_every_code_back_with_the_payloads_of_nans(name):
    bits = EVERY_CODE[name].reshape(16, -1)
    back = narrow(widen(bits, bits_of=name), bits_of=name)
    assert back.dtype == bits.dtype
    np.testing.assert_array_equal(back, bits)


@pytest.mark.parametrize("name", EVERY_CODE)
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 1, 3)])
def test_narrow__keeps_the_shape(name, shape):
    bits = np.full(shape, 3, dtype=EVERY_CODE[name].dtype)
    shown = widen(bits, bits_of=name)
    assert isinstance(shown, np.ndarray)
    assert shown.shape == narrow(shown, bits_of=name).shape == shape


@pytest.mark.parametrize("name", EVERY_CODE)
def test_narrow__refuses_a_value_that_the_type_cannot_hold(name):
    with pytest.raises(ValueError, match=f"none that {name} can hold"):
        narrow(np.array([1.0000001], dtype=np.float32), bits_of=name)


@pytest.mark.parametrize("name", STORED_TYPES)
def test_fill__is_nan_where_the_type_has_one(name):
    stored = STORED_TYPES[name]
    if stored.bits_of:
        fill = np.array([stored.fill], dtype=stored.dtype).view(getattr(ml_dtypes, name))
        assert np.isnan(fill.astype(np.float32)).all()
    elif np.dtype(stored.dtype).kind in "fc":
        assert set(np.atleast_1d(stored.fill)) == {"NaN"}
    else:
        assert stored.fill in (0, False)
