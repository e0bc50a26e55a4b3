"""Is memory bounded while batches wait, and is every row written, kept or counted?"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wdyn.rows import Batch, Declaration, Row, Snapshot
from wdyn.store.waiting import Waiting, without_rows

LIMIT = 100 * 8


def batch(step, *, numbers=1, weights=0, released=None, declaration=None):
    row = Row("scalars", step, {"loss": np.zeros(numbers)})
    kept = Snapshot(step, {"w": np.zeros(weights)}, lambda: released is not None and released.append(step))
    return Batch(step, (row,), kept if weights else None, declaration)


def steps_of(waiting):
    """Take all that waits; give the steps that still have rows."""
    steps = []
    while waiting:
        if waiting.first.rows:
            steps.append(waiting.first.step)
        waiting.note_written()
    return steps


def test_rows__that_were_written_are_written_again_before_all_others():
    waiting, released = Waiting(LIMIT), []
    for step in range(4):
        waiting.add(batch(step, weights=1, released=released))
    waiting.note_written()
    waiting.note_written()
    assert released == [0, 1]
    waiting.write_again(landed=False)
    assert waiting.lost == {"rows": 0, "snapshots": 2}  # their memory was given back
    assert steps_of(waiting) == [0, 1, 2, 3]


def test_rows__that_landed_are_not_written_again_but_their_steps_are_told():
    waiting = Waiting(LIMIT)
    waiting.add(batch(3, weights=1))
    waiting.note_written()
    waiting.write_again(landed=True)
    assert waiting.first == Batch(3)
    assert waiting.lost == {"rows": 0, "snapshots": 0}
    assert waiting.nbytes == 0


def test_rows__that_are_only_kept_make_way_for_others_and_are_counted_if_the_disk_fails():
    waiting, declaration = Waiting(LIMIT), Declaration({})
    waiting.add(batch(0, numbers=60, declaration=declaration))
    waiting.note_written()
    assert waiting.fits(batch(1, numbers=60))
    waiting.add(batch(1, numbers=60))
    assert waiting.nbytes <= LIMIT
    waiting.write_again(landed=False)
    assert waiting.lost == {"rows": 1, "snapshots": 0}
    assert waiting.first == Batch(-1, declaration=declaration)  # what later rows count on
    assert steps_of(waiting) == [1]


def test_without_rows__tells_a_step_only_where_nothing_was_lost():
    assert without_rows(batch(4)).step == -1
    assert without_rows(Batch(4)).step == 4


def held_by(waiting):
    """Count of rows that are written and not committed."""
    return sum(len(one.again.rows) + one.rows for one in waiting._written)


@given(st.lists(st.sampled_from(["add", "large", "write", "commit", "fail", "landed"]), max_size=60))
def test_waiting__holds_no_more_than_its_limit_and_accounts_for_every_row(actions):
    waiting, handed, safe = Waiting(LIMIT), 0, 0
    for action in actions:
        if action in ("add", "large"):
            one = batch(handed, numbers=9, weights=70 if action == "large" else 0)
            handed += 1
            if not waiting.fits(one):
                one = waiting.without_snapshot(one)
            if waiting.fits(one):
                waiting.add(one)
            else:
                waiting.lose(one)
        elif action == "write" and waiting:
            waiting.note_written()
        elif action == "commit":
            safe += held_by(waiting)
            waiting.note_committed()
        elif action in ("fail", "landed"):
            safe += held_by(waiting) if action == "landed" else 0
            waiting.write_again(landed=action == "landed")
        assert waiting.nbytes <= LIMIT
    queued = sum(len(one.rows) for one in waiting._queue)
    assert handed == safe + held_by(waiting) + queued + waiting.lost["rows"]
    waiting.lose_all()
    assert handed == safe + waiting.lost["rows"]
    assert waiting.nbytes == 0
