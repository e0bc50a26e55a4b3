"""Does every reader see a whole run at every moment, while another process writes it?"""

import time

import pytest

TRAIN = """
with watch() as w:
    say("entered")
    for_ever(w)
"""


def open_for(start, whole, *, seconds):
    """Open the run again and again while it grows, and a few times however slow this machine is."""
    start(TRAIN).until_it_says("entered")
    until, seen, opened = time.monotonic() + seconds, [], 0
    while time.monotonic() < until or opened < 3 or len(seen) < 2:
        assert time.monotonic() < until + 120, f"{len(seen)} rows at the end"
        before, seen = seen, whole()
        assert seen[: len(before)] == before
        opened += 1


def test_reader__sees_whole_rows_at_every_moment(start, whole):
    open_for(start, whole, seconds=2)


@pytest.mark.long
def test_reader__sees_whole_rows_at_every_moment_of_a_longer_time(start, whole):
    open_for(start, whole, seconds=12)
