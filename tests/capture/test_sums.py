"""Do the sums of parts join to those of the whole?"""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdyn.capture.plain import PlainKernel
from wdyn.capture.sums import EMPTY, NAMES, join

# What is so small that its fourth power is nothing cannot be told from zero in the sums.
numbers = st.floats(-1e3, 1e3).map(lambda x: x if abs(x) > 1e-70 else 0.0)
populations = hnp.arrays(np.float64, st.integers(2, 60), elements=numbers)
cuts = st.lists(st.integers(0, 60), max_size=6)


def sums_of(*parts: np.ndarray) -> np.ndarray:
    """Textbook sums of each part, (part, `NAMES`), in long double."""
    rows = []
    for part in parts:
        wide = part.astype(np.longdouble)
        if wide.size == 0:
            rows.append(EMPTY)
            continue
        d = wide - wide.mean()
        moments = [(d**power).sum() for power in (2, 3, 4)]
        extremes = [wide.min(), wide.max()]
        row = [wide.size, wide.mean(), *moments, np.abs(wide).sum(), *extremes, (wide == 0).sum(), 0, 0]
        rows.append(np.array(row, dtype=np.float64))
    return np.array(rows)


def joined(*parts: np.ndarray) -> np.ndarray:
    return join(np.concatenate([np.atleast_2d(part) for part in parts]), sizes=np.array([len(parts)]))[0]


def close(one: np.ndarray, other: np.ndarray, values: np.ndarray) -> None:
    """Equal to 1e-12 of the largest that a sum of such values could be; counts and extremes exactly."""
    powers = (0, 1, 2, 3, 4, 1, 1, 1, 0, 0, 0)
    bound = 1e-12 * (1 + len(values)) * np.array([max(1e-300, np.abs(values).max()) ** power for power in powers])
    assert (np.abs(one - other) <= bound).all()
    exact = [NAMES.index(name) for name in ("n", "min", "max", "zeros", "nans", "infs")]
    np.testing.assert_array_equal(one[exact], other[exact])


@given(populations, cuts, st.randoms())
def test_join__of_any_partition_in_any_order_equals_the_whole(values: np.ndarray, cuts: list[int], random) -> None:
    pieces = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    random.shuffle(pieces)
    close(joined(*sums_of(*pieces)), sums_of(values)[0], values)


@given(populations, populations, populations)
def test_join__of_joined_parts_equals_joining_all_at_once(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    one, two, three = sums_of(a, b, c)
    close(joined(joined(one, two), three), joined(three, two, one), np.concatenate([a, b, c]))


@given(populations)
def test_join__with_nothing_changes_nothing(values: np.ndarray) -> None:
    sums = sums_of(values)[0]
    np.testing.assert_array_equal(joined(EMPTY, sums), sums)
    np.testing.assert_array_equal(joined(sums, EMPTY), sums)


@given(st.floats(-1e30, 1e30), st.lists(st.integers(1, 1000), min_size=1, max_size=9))
def test_join__of_equal_numbers_keeps_their_mean_and_no_deviation(value: float, counts: list[int]) -> None:
    parts = [np.array([n, value, 0, 0, 0, n * abs(value), value, value, 0, 0, 0]) for n in counts]
    np.testing.assert_array_equal(joined(*parts)[1:5], [value, 0, 0, 0])


def test_join__makes_many_wholes_at_once_and_empty_ones_too() -> None:
    a, b, c = np.array([1.0, 2.0]), np.array([5.0]), np.array([-1.0, 0.0, 7.0])
    wholes = join(sums_of(a, b, c), sizes=np.array([0, 2, 0, 1]))
    np.testing.assert_array_equal(wholes[[0, 2]], [EMPTY, EMPTY])
    close(wholes[1], sums_of(np.concatenate([a, b]))[0], np.concatenate([a, b]))
    np.testing.assert_array_equal(wholes[3], sums_of(c)[0])


def test_join__of_nothing_is_nothing() -> None:
    assert join(np.empty((0, len(NAMES))), sizes=np.array([], dtype=np.int64)).shape == (0, len(NAMES))


def test_join__shows_what_was_not_measured() -> None:
    absent = np.full(len(NAMES), np.nan)
    assert np.isnan(joined(sums_of(np.ones(3))[0], absent)[0])


@given(st.lists(populations, min_size=1, max_size=5))
def test_plain_kernel__of_a_batch_equals_the_textbook_of_each_piece(values: list[np.ndarray]) -> None:
    sums, _ = PlainKernel()([(torch.from_numpy(some),) for some in values])
    for got, expected, some in zip(sums, sums_of(*values), values, strict=True):
        close(got, expected, some)
