"""Does a fingerprint tell whether two tensors hold the same bits?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.fingerprints import fingerprints

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.int8]


def printed(tensor):
    return fingerprints({"w": tensor})["w"]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool, torch.complex64], ids=str)
def test_fingerprints__are_those_of_the_bits(dtype):
    values = (torch.arange(35) % 2).reshape(5, 7).to(dtype)
    assert printed(values) == printed(values.clone())
    assert printed(values) == printed(values.t().contiguous().t())  # however they lie
    other = values.clone()
    other[3, 2] = 1 - int(values[3, 2].real.item() if dtype.is_complex else values[3, 2].item())
    assert printed(other) != printed(values)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=40), st.data())
def test_fingerprints__tell_any_single_bit(words, data):
    tensor = torch.tensor(words, dtype=torch.uint32).view(torch.float32)
    at, bit = data.draw(st.integers(0, len(words) - 1)), data.draw(st.integers(0, 31))
    changed = [word ^ (1 << bit) if number == at else word for number, word in enumerate(words)]
    assert printed(torch.tensor(changed, dtype=torch.uint32).view(torch.float32)) != printed(tensor)


def test_fingerprints__tell_two_elements_that_changed_places():
    tensor = torch.randn(100)
    swapped = tensor.clone()
    swapped[[3, 71]] = tensor[[71, 3]]
    assert printed(swapped) != printed(tensor)


def test_fingerprints__tell_minus_zero_and_other_nans():
    assert printed(torch.tensor([0.0])) != printed(torch.tensor([-0.0]))
    nan = torch.tensor([float("nan")])
    assert printed(nan) == printed(nan.clone())


def test_fingerprints__know_scalars_and_nothing():
    assert printed(torch.tensor(2.0)) == printed(torch.tensor(2.0)) != printed(torch.tensor(3.0))
    assert printed(torch.empty(0, 3)) == 0
    assert fingerprints({}) == {}


def test_fingerprints__go_on_beyond_what_is_multiplied_at_one_time(monkeypatch):
    monkeypatch.setattr("wdyn.capture.fingerprints._AT_ONCE", 8)
    tensor = torch.randn(50)
    small = printed(tensor)
    monkeypatch.undo()
    assert small == printed(tensor)
