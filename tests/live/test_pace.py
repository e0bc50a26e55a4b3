"""Does work keep to its share of the time, also when it fails?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.live.pace import Pace


class Clock:
    """Stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def test_pace__begins_at_once():
    assert Pace(clock=Clock()).is_due


@given(took=st.floats(0.001, 1e3), share=st.floats(0.01, 0.9))
def test_pace__rests_until_the_work_was_its_share_of_the_time(took, share):
    clock = Clock()
    pace = Pace(share, clock=clock, computed=clock)
    with pace.work():
        clock.now = took
    clock.now = 0.999 * took / share
    assert not pace.is_due
    clock.now = 1.001 * took / share
    assert pace.is_due


def test_pace__counts_no_waiting():
    clock, computed = Clock(), Clock()
    pace = Pace(0.1, clock=clock, computed=computed)
    with pace.work():
        clock.now, computed.now = 100.0, 1.0
    clock.now = 108.0
    assert not pace.is_due
    clock.now = 110.0
    assert pace.is_due


def test_pace__counts_work_that_failed():
    clock = Clock()
    pace = Pace(0.5, clock=clock, computed=clock)
    with pytest.raises(ZeroDivisionError, match="division"), pace.work():
        clock.now = 10.0
        1 / 0  # noqa: B018
    assert not pace.is_due
