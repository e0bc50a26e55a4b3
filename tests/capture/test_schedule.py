"""Are rows due when a schedule says so?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.capture.budgets import Announced, Budget
from wdyn.capture.schedule import Schedule, as_schedule, listeners, powers
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


class Simulated:
    """A training on a clock of its own, asked and told the way that a recording does it."""

    def __init__(self, *, share: float) -> None:
        self.clock = Clock()
        self.budget = Budget(share, clock=self.clock)
        self.schedule = Schedule(self.budget.due, "budget", (self.budget,))
        self.rows: list[int] = []
        self.spent = self.certain = self.dearest = 0.0

    def run(self, schedule: Schedule, steps: list[tuple[float, float]]) -> None:
        """Make steps of (seconds of the loop, seconds of a row if it is due)."""
        assert schedule(0)
        for step, (pause, cost) in enumerate(steps, start=1):
            self.clock.now += pause
            if schedule(step):
                self.clock.now += cost
                self.spent += cost
                self.rows.append(step)
                self.certain += cost if step <= 64 else 0
                self.dearest = max(self.dearest, cost)
                schedule.spent(cost)


@pytest.mark.parametrize("share", [0.01, 0.1])
@pytest.mark.parametrize("cost", [0.001, 0.5])
@pytest.mark.parametrize("pause", [1e-5, 0.1])
def test_budget__keeps_recording_under_its_share_and_uses_it(share: float, cost: float, pause: float) -> None:
    training = Simulated(share=share)
    training.run(training.schedule, [(pause, cost)] * 20_000)
    assert training.rows[:7] == [1, 2, 4, 8, 16, 32, 64]
    allowed = share * training.clock.now
    assert training.spent <= max(allowed, training.certain)
    assert training.spent > 0.9 * allowed or len(training.rows) > 19_000


SECONDS = st.floats(0, 100)


@given(st.floats(0.001, 0.9), st.lists(st.tuples(SECONDS, SECONDS), max_size=400), st.sampled_from([1, 20, 1000]))
def test_budget__is_never_exceeded_by_more_than_the_start_and_one_row(
    share: float, steps: list[tuple[float, float]], repeats: int
) -> None:
    training = Simulated(share=share)
    training.run(training.schedule, (steps * repeats)[:2000])
    assert training.spent <= share * training.clock.now + training.certain + training.dearest + 1e-6


def test_budget__a_dear_first_row_is_paid_back() -> None:
    training = Simulated(share=0.01)
    training.run(training.schedule, [(0.01, 5.0)] + [(0.01, 0.001)] * 100_000)
    assert training.rows[:7] == [1, 2, 4, 8, 16, 32, 64]
    later = [step for step in training.rows if step > 64]
    assert later[0] >= 5.0 / 0.01 / 0.01 * 0.98
    assert training.spent <= 0.0101 * training.clock.now


def test_budget__beside_another_schedule_is_told_of_its_rows_too() -> None:
    training = Simulated(share=0.1)
    alone = Simulated(share=0.1)
    alone.run(alone.schedule, [(1.0, 0.5)] * 2000)
    training.run(wdyn.every(100) | training.schedule, [(1.0, 0.5)] * 2000)
    assert set(range(100, 2001, 100)) <= set(training.rows)
    assert abs(len(training.rows) - len(alone.rows)) <= 1
    dear = Simulated(share=0.001)
    dear.run(wdyn.every(2) | dear.schedule, [(1.0, 0.5)] * 2000)
    assert [step for step in dear.rows if step > 64 and step % 2] == []


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def spent(self, seconds: float) -> None:
        self.told.append(seconds)

    def heard(self, name: str, value: float) -> None:
        self.told.append((name, value))


def test_or__asks_both_and_tells_each_listener_once() -> None:
    one, asked = Heard(), []
    listening = Schedule(lambda step: bool(asked.append(step)), "listening", (one,))
    both = wdyn.every(1) | listening | (listening | wdyn.at(3))
    assert due(both, 2) == [0, 1, 2]
    assert asked == [0, 0, 1, 1, 2, 2]
    both.spent(2.0)
    assert one.told == [2.0]
    assert listeners(both, None, listening) == (one,)


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


class Group:
    """Two processes, of which the first announces steps to the second."""

    def __init__(self):
        self.said = {}

    def of(self, rank, *, name=""):
        group = self

        class Process:
            def __init__(self):
                self.rank = rank

            def named(self, part):
                return group.of(rank, name=f"{name}/{part}")

            def announce(self, number, step):
                assert rank == 0
                assert (name, number) not in group.said
                group.said[name, number] = step

            def announced(self, number):
                return group.said[name, number]

        return Process()


def test_announced__processes_with_other_clocks_record_the_same_steps():
    group, clocks = Group(), (Clock(), Clock())
    several = [Announced(Budget(0.01, clock=clock), group.of(rank)) for rank, clock in enumerate(clocks)]
    due = ([], [])
    for step in range(3000):
        for rank, one in enumerate(several):
            clocks[rank].now += 0.1 * (1 + rank)
            if one.due(step):
                due[rank].append(step)
                clocks[rank].now += 0.05 * (1 + 3 * rank)
                one.spent(0.05 * (1 + 3 * rank))
    assert due[0] == due[1]
    assert due[0][:8] == [0, 1, 2, 4, 8, 16, 32, 64]
    gaps = np.diff(due[0][20:])
    assert 40 <= gaps.min() <= gaps.max() <= 60  # a row of 0.05 s in steps of 0.1 s: 1 % is one in 50


def test_agreed__joins_what_is_agreed_with_what_needs_no_word():
    group = Group()
    several = [(wdyn.budget(0.5) | wdyn.every(100)).agreed(group.of(rank)) for rank in (0, 1)]
    due = [[], []]
    for step in range(301):
        for rank, one in enumerate(several):
            if one(step):
                due[rank].append(step)
                one.spent(0.0)
    assert due[0] == due[1]
    assert {100, 200, 300} <= set(due[0])
    assert wdyn.every(3).agreed(group.of(1))(3)


def test_agreed__each_of_several_budgets_is_announced_by_itself():
    """Three budgets on clocks of their own in each process: one alone, and two joined."""
    group, due = Group(), [[], []]
    clocks = [Clock(), Clock()]
    several = []
    for rank, clock in enumerate(clocks):
        one, two, three = (budget_on(clock, share) for share in (0.01, 0.02, 0.05))
        process = group.of(rank)
        several.append([one.agreed(process.named("rows")), (two | three).agreed(process.named("snapshots"))])
    for step in range(2000):
        for rank, schedules in enumerate(several):
            clocks[rank].now += 0.1 * (1 + rank)
            asked = [one(step) for one in schedules]
            if any(asked):
                due[rank].append((step, *asked))
                for one in listeners(*schedules):
                    one.spent(0.05 * (1 + 3 * rank))
    assert due[0] == due[1]
    assert {tuple(asked) for step, *asked in due[0] if step > 64} >= {(True, False), (False, True)}
    assert {name for name, _ in group.said} == {"/rows", "/snapshots/left", "/snapshots/right"}


def budget_on(clock, share):
    one = Budget(share, clock=clock)

    def agree(others):
        announced = Announced(one, others)
        return Schedule(announced.due, "budget", (announced,))

    return Schedule(one.due, "budget", (one,), agree)


def test_agreed__refuses_what_only_one_process_sees():
    with pytest.raises(InvalidArgument, match=r"spike\('loss', factor=2\) decides by what one process sees"):
        wdyn.spike("loss").agreed(Group().of(0))
    with pytest.raises(InvalidArgument, match="use steps that all know"):
        (wdyn.every(10) | wdyn.spike("loss")).agreed(Group().of(0))


def test_budget__says_when_one_more_row_will_fit():
    clock = Clock()
    one = Budget(0.1, clock=clock)
    one.due(100)
    assert one.soonest(101) == 101  # nothing was spent
    clock.now += 10  # ten steps of a second
    one.spent(2.0)
    # 2 s were spent, and one more row would make 4: 40 s are needed, 30 more.
    assert one.soonest(110) == 140
