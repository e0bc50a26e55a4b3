"""Are the numbers of two tensors those of numpy in float64, for every dtype, with NaN, and for nothing at all?"""

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wdyn.checkpoints import pairs
from wdyn.checkpoints.pairs import alone, changes, compare

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]


def wide(tensor):
    return tensor.to(torch.float64).numpy()


def drawn(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ulps_by_stepping(a, b):
    """Count steps of `np.nextafter` from a to b."""
    count = 0
    while a != b:
        a = np.nextafter(a, b)
        count += 1
    return count


@pytest.mark.parametrize("one", FLOATS, ids=str)
@pytest.mark.parametrize("other", FLOATS, ids=str)
def test_compare__gives_the_numbers_of_numpy(one, other):
    a, b = drawn(7, 9).to(one), drawn(7, 9, seed=1).to(other)
    x, y = wide(a), wide(b)
    found = compare(a, b)
    assert found.numel == 63
    assert found.changed == (x != y).sum()
    np.testing.assert_allclose(found.squares_change, ((y - x) ** 2).sum(), rtol=1e-14)
    np.testing.assert_allclose(found.relative, np.linalg.norm(y - x) / np.linalg.norm(x), rtol=1e-14)
    np.testing.assert_allclose(found.cosine, (x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), rtol=1e-12)
    assert found.max_abs == np.abs(y - x).max()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_ulps__are_steps_to_the_next_number(dtype):
    a = np.array([1.0, -0.01, 0.0, 0.5], dtype)
    b = np.array([1.25, 0.01, 0.02, 0.5], dtype)
    torch_type = getattr(torch, np.dtype(dtype).name)
    tensors = (torch.from_numpy(one.astype(np.float32)).to(torch_type) for one in (a, b))
    assert compare(*tensors).ulps == max(ulps_by_stepping(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_ulps__are_exact_far_from_zero(dtype):
    far = np.array([1.0], dtype)
    for _ in range(3):
        far = np.nextafter(far, dtype(2))
    a, b = torch.ones(1, dtype=getattr(torch, np.dtype(dtype).name)), torch.from_numpy(far)
    assert compare(a, b).ulps == compare(b, a).ulps == 3


def test_ulps__are_counted_in_the_coarser_dtype():
    a = torch.tensor([1.0, 2.0])
    b = torch.tensor([1.0, 2.0 + 2 * 2**-6]).bfloat16()  # two steps of bfloat16 above 2
    assert compare(a, b).ulps == compare(b, a).ulps == 2


def test_ulps__reach_over_zero_and_are_none_for_integers():
    tiny = torch.finfo(torch.float32).smallest_normal * torch.finfo(torch.float32).eps
    assert compare(torch.tensor([-tiny]), torch.tensor([tiny])).ulps == 2
    assert compare(torch.tensor([-0.0]), torch.tensor([0.0])).ulps == 0
    assert math.isnan(compare(torch.tensor([1]), torch.tensor([2])).ulps)


def test_compare__tells_bits_from_values():
    found = compare(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert (found.changed, found.squares_change) == (1, 0.0)
    assert compare(torch.tensor([0.0]), torch.tensor([-0.0]).bfloat16()).changed == 0  # one value, in two dtypes


def test_compare__shows_and_counts_what_is_no_number():
    a = torch.tensor([1.0, math.nan, math.inf, 2.0])
    b = torch.tensor([math.nan, math.nan, math.inf, -math.inf])
    found = compare(a, b)
    assert (found.nans_a, found.infs_a, found.nans_b, found.infs_b, found.changed) == (1, 1, 2, 2, 2)
    assert math.isnan(found.max_abs)
    assert math.isnan(found.squares_change)
    assert math.isnan(found.ulps)
    assert math.isnan(found.cosine)


def test_compare__sees_no_change_in_equal_nans_and_infinities():
    both = torch.tensor([math.nan, -math.inf, 1.0])
    found = compare(both, both.clone())
    assert (found.changed, found.squares_change, found.max_abs, found.ulps, found.relative) == (0, 0, 0, 0, 0)
    assert (found.nans_a, found.infs_b) == (1, 1)


@pytest.mark.parametrize(
    ("a", "b", "changed", "largest"),
    [
        ([True, False], [True, True], 1, 1),
        ([2**60, 5], [2**60 + 1, 5], 1, 1),
        ([-128, 127], [127, -128], 2, 255),
    ],
)
def test_compare__takes_integers_and_bools_exactly(a, b, changed, largest):
    kind = torch.bool if isinstance(a[0], bool) else torch.int64 if a[0] > 1000 else torch.int8
    found = compare(torch.tensor(a, dtype=kind), torch.tensor(b, dtype=kind))
    assert (found.changed, found.max_abs) == (changed, largest)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint64], ids=str)
def test_compare__takes_unsigned_integers(dtype):
    assert compare(torch.tensor([7, 9]).to(dtype), torch.tensor([7, 8]).to(dtype)).changed == 1


def test_compare__takes_complex_numbers_as_pairs():
    a = torch.tensor([1 + 2j, 3 - 1j])
    found = compare(a, a + 3j)
    np.testing.assert_allclose(found.squares_change, 18)
    assert found.changed == 2


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
def test_compare__takes_what_is_empty(shape):
    found = compare(torch.empty(shape), torch.empty(shape))
    assert (found.numel, found.changed, found.relative, found.max_abs) == (0, 0, 0, 0)


def test_compare__takes_scalars_and_views():
    assert compare(torch.tensor(1.0), torch.tensor(3.0)).relative == 2
    a = drawn(4, 6)
    assert compare(a.T, a.T.contiguous()).changed == 0


def test_relative__is_infinite_from_zero():
    found = compare(torch.zeros(3), torch.ones(3))
    assert found.relative == math.inf
    assert math.isnan(found.cosine)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 12))
def test_compare__does_not_depend_on_the_size_of_its_pieces(count, piece):
    a, b = drawn(count), drawn(count, seed=1)
    whole = compare(a, b)
    kept, pairs.PIECE = pairs.PIECE, piece
    try:
        pieces = compare(a, b)
        rebuilt = torch.cat(list(changes(a[:, None], b[:, None], columns=1)))
    finally:
        pairs.PIECE = kept
    np.testing.assert_allclose(pieces.squares_change, whole.squares_change, rtol=1e-13)
    assert (pieces.max_abs, pieces.ulps, pieces.changed) == (whole.max_abs, whole.ulps, whole.changed)
    torch.testing.assert_close(rebuilt[:, 0], b - a, rtol=0, atol=0)


def test_compare__knows_a_rounding_and_its_neighbour():
    a = drawn(50).float()
    rounded = a.bfloat16()
    assert compare(a, rounded).rounds_to == [torch.bfloat16]
    assert compare(rounded, a).rounded_from == [torch.bfloat16]
    assert compare(a, rounded.float()).rounds_to == [torch.bfloat16]
    assert compare(rounded, rounded.float()).rounds_to == [torch.float32]
    near = rounded.clone()
    near[3] *= 1.01
    assert compare(a, near).rounds_to == []
    assert compare(a, a.clone()).rounds_to == []


def test_alone__measures_one_tensor():
    assert alone(torch.tensor([3.0, 4.0])) == (5.0, 0, 0)
    assert alone(torch.tensor([math.nan, math.inf, 1.0]))[1:] == (1, 1)
