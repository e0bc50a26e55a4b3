"""Which rows stand after which attempts, and which attempt does each continue?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.store.lineage import effective, parent


def attempts(*steps):
    return [{"resumed_from_step": step} for step in (-1, *steps)]


@pytest.mark.parametrize(
    ("steps", "at", "expected"),
    [
        pytest.param((), -1, 0, id="the only one"),
        pytest.param((10,), 12, 1, id="the newest"),
        pytest.param((10,), 10, 1, id="at its first row"),
        pytest.param((10,), 4, 0, id="before it began"),
        pytest.param((10, 5), 7, 2, id="one that took another's place"),
        pytest.param((10, 5), 4, 0, id="before both"),
        pytest.param((5, 10), 7, 1, id="between two"),
    ],
)
def test_parent__is_the_attempt_whose_row_stands_at_that_step(steps, at, expected):
    assert parent(attempts(*steps), at) == expected


def test_parent__of_the_first_is_none():
    assert parent([], -1) == -1


def test_effective__a_row_at_the_seam_stands_until_the_next_attempt_has_one():
    step, by = np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0])
    assert effective(step, by, attempts(2)).tolist() == [True, True, True, False]
    step, by = np.array([0, 1, 2, 3, 2]), np.array([0, 0, 0, 0, 1])
    assert effective(step, by, attempts(2)).tolist() == [True, True, False, False, True]
    assert effective(step, by, attempts()).tolist() == [True, True, True, True, False]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=6))
def test_effective__rows_are_in_order_and_those_of_the_newest_that_reached_the_step(later):
    """As a plain list would be cut back and go on, attempt by attempt."""
    rows, expected, began = [(step, 0) for step in range(6)], [(step, 0) for step in range(6)], []
    for number, (at, count) in enumerate(later, start=1):
        start = min(at, expected[-1][0])
        began.append(start)
        assert parent(attempts(*began[:-1]), start) == max(by for step, by in expected if step == start)
        new = [(step, number) for step in range(start, start + count + 1)]
        expected = [row for row in expected if row[0] < start] + new
        rows += new
    step, by = np.array(rows).T
    kept = effective(step, by, attempts(*began))
    assert [row for row, stands in zip(rows, kept.tolist(), strict=True) if stands] == expected
