"""Do the sums of parts join to those of the whole?"""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdyn.capture.device_sums import device_sums, piece_sums
from wdyn.capture.host_sums import host_sums, numpy_sums
from wdyn.capture.sums import EMPTY, NAMES, merge, merge_all

NOTHING = np.empty(0)
populations = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e3, 1e3))
cuts = st.lists(st.integers(0, 60), max_size=6)


def close(one: np.ndarray, other: np.ndarray, values: np.ndarray) -> None:
    """Equal to 1e-12 of the largest that a sum of such values could be; counts and extremes exactly."""
    powers = (0, 1, 2, 3, 4, 1, 1, 1, 0, 0, 0)
    bound = 1e-12 * (1 + len(values)) * np.array([max(1e-300, np.abs(values).max()) ** power for power in powers])
    assert (np.abs(one - other) <= bound).all()
    exact = [NAMES.index(name) for name in ("n", "min", "max", "zeros", "nans", "infs")]
    np.testing.assert_array_equal(one[exact], other[exact])


@given(populations, cuts)
def test_merge__of_any_partition_equals_the_whole(values: np.ndarray, cuts: list[int]) -> None:
    pieces = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    close(merge_all(numpy_sums(piece, NOTHING) for piece in pieces), numpy_sums(values, NOTHING), values)


@given(populations, populations, populations)
def test_merge__in_any_order_gives_the_same(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    one, two, three = (numpy_sums(values, NOTHING) for values in (a, b, c))
    close(merge(merge(one, two), three), merge(three, merge(two, one)), np.concatenate([a, b, c]))


@given(populations)
def test_merge__with_nothing_changes_nothing(values: np.ndarray) -> None:
    sums = numpy_sums(values, NOTHING)
    np.testing.assert_array_equal(merge(EMPTY, sums), sums)
    np.testing.assert_array_equal(merge(sums, EMPTY), sums)


@given(populations, st.sets(st.integers(0, 59)), st.booleans())
def test_piece_sums__with_a_mask_equal_the_plain_ones(values: np.ndarray, bad: set[int], nan: bool) -> None:
    values[[at for at in bad if at < len(values)]] = np.nan if nan else np.inf
    finite = values[np.isfinite(values)]
    masked = piece_sums(torch.from_numpy(values)).numpy()
    expected = numpy_sums(values, NOTHING)
    if finite.size:
        close(masked, expected, finite)
    else:
        np.testing.assert_array_equal(masked, expected)


def test_device_sums__of_many_tensors_come_over_together_and_keep_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator) for size in (5, 0, 3000)]
    before: list[torch.Tensor | None] = [None, None, torch.randn(3000, generator=generator)]
    for got, tensor, other in zip(device_sums(tensors, before), tensors, before, strict=True):
        np.testing.assert_allclose(got, host_sums(tensor, other), rtol=1e-10, atol=1e-10)


def test_host_sums__of_many_pieces_on_many_threads_equal_one_pass() -> None:
    tensor = torch.randn(5_000_001, generator=torch.Generator().manual_seed(0))
    wide = tensor.double().numpy()
    got = dict(zip(NAMES, host_sums(tensor), strict=True))
    assert got["n"] == wide.size
    np.testing.assert_allclose(got["mean"], wide.mean(), rtol=1e-9)
    np.testing.assert_allclose(got["m2"] / wide.size, wide.var(), rtol=1e-12)
