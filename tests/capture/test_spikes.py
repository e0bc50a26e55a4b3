"""Is a row due right after a logged number jumped, once, and only then?"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.capture.schedule import Schedule
from wdyn.errors import InvalidArgument


def due_after(values: Sequence[float], schedule: Schedule, *, name: str = "loss") -> list[int]:
    """Places of the values after which the next step was due."""
    found = []
    for at, value in enumerate(values):
        for one in schedule.listeners:
            one.heard(name, value)
        if schedule(at + 1):
            found.append(at)
    return found


def test_spike__is_due_after_a_jump_and_not_before() -> None:
    assert due_after([1.0] * 30 + [2.5] + [1.0] * 30, wdyn.spike("loss")) == [30]
    assert due_after([1.0] * 30 + [1.9] + [1.0] * 30, wdyn.spike("loss")) == []
    assert due_after([1.0] * 30 + [1.9] + [1.0] * 30, wdyn.spike("loss", factor=1.5)) == [30]


def test_spike__hears_its_own_name_only() -> None:
    assert due_after([1.0] * 30 + [9.0], wdyn.spike("loss"), name="grad_norm") == []
    assert due_after([1.0] * 30 + [9.0], wdyn.spike("grad_norm"), name="grad_norm") == [30]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_spike__what_is_not_finite_is_due_from_the_first_value_on(bad: float) -> None:
    assert due_after([bad, 1.0, bad], wdyn.spike("loss")) == [0, 2]


def test_spike__what_stays_high_or_nan_is_due_once() -> None:
    assert due_after([1.0] * 20 + [5.0] * 40, wdyn.spike("loss")) == [20]
    assert due_after([1.0] * 20 + [math.nan] * 40, wdyn.spike("loss")) == [20]
    assert due_after([1.0] * 20 + [5.0, 1.0, 5.0], wdyn.spike("loss")) == [20, 22]


def test_spike__rows_follow_each_other() -> None:
    assert due_after([1.0] * 20 + [5.0] + [1.0] * 20, wdyn.spike("loss", rows=3)) == [20, 21, 22]


def test_spike__of_numbers_below_zero_is_a_rise() -> None:
    assert due_after([-3.0] * 20 + [-2.5, -6.0, 0.5], wdyn.spike("loss")) == [22]


def test_spike__the_first_values_are_not_judged() -> None:
    assert due_after([1.0] * 8 + [5.0], wdyn.spike("loss")) == []
    assert due_after([1.0] * 9 + [5.0], wdyn.spike("loss")) == [9]
    assert due_after([1.0] * 3 + [5.0], wdyn.spike("loss", window=3)) == [3]


@given(
    st.lists(st.one_of(st.floats(0.125, 64), st.just(math.nan)), min_size=1, max_size=60),
    st.integers(1, 12),
    st.floats(1.125, 4),
)
def test_spike__agrees_with_the_median_of_the_values_before(values: list[float], window: int, factor: float) -> None:
    expected, was_high = [], False
    for at, value in enumerate(values):
        before = [one for one in values[:at] if math.isfinite(one)]
        judged = len(before) >= min(window, 9)
        high = math.isnan(value) or (judged and value > np.median(before[-window:]) * factor * (1 + 1e-12))
        unsure = judged and math.isclose(value, np.median(before[-window:]) * factor, rel_tol=1e-9)
        if unsure:
            return
        expected += [at] if high and not was_high else []
        was_high = high
    assert due_after(values, wdyn.spike("loss", factor=factor, window=window)) == expected


def test_spike__joins_others_and_serves_two_schedules_at_once() -> None:
    one = wdyn.spike("loss")
    rows, snapshots = wdyn.every(7) | one, wdyn.at(0) | one | one
    assert len(snapshots.listeners) == 1
    for at in range(1, 21):
        rows.listeners[0].heard("loss", 1.0 if at < 20 else 9.0)
        assert (rows(at), snapshots(at)) == ((at % 7 == 0) or at == 20, at == 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": 1.0}, r"factor=1\.0.*more than 1"),
        ({"factor": math.nan}, "factor=nan.*more than 1"),
        ({"window": 0}, "window=0.*1 or more"),
        ({"rows": 0}, "rows=0.*1 or more"),
        ({"rows": True}, "rows=True.*1 or more"),
    ],
)
def test_spike__refuses_what_cannot_be_meant(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        wdyn.spike("loss", **arguments)
