"""Are rows due when a schedule says so?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.capture.schedule import Budget, Schedule, as_schedule, powers
from wdyn.errors import InvalidArgument


def due(schedule: Schedule, last: int) -> list[int]:
    return [step for step in range(last + 1) if schedule(step)]


def test_every__is_due_at_multiples() -> None:
    assert due(wdyn.every(3), 10) == [0, 3, 6, 9]


def test_at__is_due_at_the_steps_named() -> None:
    assert due(wdyn.at(5, 0, 7), 10) == [0, 5, 7]


def test_log_spaced__has_both_ends_and_even_ratios() -> None:
    assert due(wdyn.log_spaced(1, 1000, 4), 2000) == [1, 10, 100, 1000]


@given(st.integers(1, 50), st.integers(0, 5000), st.integers(2, 60))
def test_log_spaced__has_first_and_last_and_at_most_count(first: int, more: int, count: int) -> None:
    steps = due(wdyn.log_spaced(first, first + more, count), first + more + 10)
    assert (steps[0], steps[-1]) == (first, first + more)
    assert len(steps) <= count


def test_powers__are_due_for_ever() -> None:
    assert due(powers(2), 40) == [0, 1, 2, 4, 8, 16, 32]
    assert due(powers(10), 1000) == [0, 1, 10, 100, 1000]


@given(st.sets(st.integers(0, 50)), st.integers(1, 20))
def test_or__is_due_when_either_is(steps: set[int], n: int) -> None:
    both = wdyn.at(*steps) | wdyn.every(n)
    assert due(both, 60) == sorted(steps | set(range(0, 61, n)))


def test_or__takes_any_function() -> None:
    assert due(wdyn.at(1) | (lambda step: step == 4), 6) == [1, 4]


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "3"])
def test_every__refuses_what_is_no_count(bad: object) -> None:
    with pytest.raises(InvalidArgument, match=r"every=.*needed is a whole number"):
        wdyn.every(bad)


@pytest.mark.parametrize("bad", [-1, 1.5, True])
def test_at__refuses_what_is_no_step(bad: object) -> None:
    with pytest.raises(InvalidArgument, match="whole step numbers"):
        wdyn.at(bad)


@pytest.mark.parametrize("bad", [(0, 10, 3), (10, 1, 3), (1, 10, 0)])
def test_log_spaced__refuses_an_empty_range(bad: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidArgument, match="1 <= first <= last"):
        wdyn.log_spaced(*bad)


@pytest.mark.parametrize("bad", [0, 1, -0.1])
def test_budget__refuses_what_is_no_share(bad: float) -> None:
    with pytest.raises(InvalidArgument, match="between 0 and 1"):
        wdyn.budget(bad)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("share", [0.01, 0.1])
@pytest.mark.parametrize("cost", [0.001, 0.5])
def test_budget__keeps_recording_under_its_share(share: float, cost: float) -> None:
    clock = Clock()
    budget = Budget(share, clock=clock)
    rows, spent = [], 0.0
    for step in range(20_000):
        clock.now += 0.1
        if budget.due(step):
            rows.append(step)
            clock.now += cost
            spent += cost
            budget.spent(cost)
    assert rows[:8] == [0, 1, 2, 4, 8, 16, 32, 64]
    certain = 8 * cost
    assert spent <= max(share * clock.now, certain)
    assert spent > 0.9 * share * clock.now or len(rows) > 19_000


def test_budget__inside_a_combination_is_told_what_rows_cost() -> None:
    schedule = wdyn.at(3) | wdyn.budget(0.5)
    schedule.spent(2.0)
    assert schedule.budgets[0]._total == 2.0


def test_as_schedule__reads_numbers_functions_and_none() -> None:
    assert due(as_schedule(5, "every"), 10) == [0, 5, 10]
    assert due(as_schedule(np.int64(5), "every"), 10) == [0, 5, 10]
    assert due(as_schedule(lambda step: step in (2, 3), "every"), 10) == [2, 3]
    assert as_schedule(None, "every").never
    assert not wdyn.every(2).never


@pytest.mark.parametrize("bad", ["often", 1.5, True])
def test_as_schedule__refuses_the_rest(bad: object) -> None:
    with pytest.raises(InvalidArgument, match="every="):
        as_schedule(bad, "every")


def test_schedule__tells_what_it_is() -> None:
    assert repr(wdyn.every(10) | wdyn.at(1, 2)) == "every(10) | at(1, 2)"
