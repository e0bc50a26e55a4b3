"""Is each schedule asked once for each step, in order?"""

import wdyn
from wdyn.capture.due import Due


class Asked:
    """A schedule that notes for which steps it is asked, and what captures cost."""

    def __init__(self, *due: int) -> None:
        self.due, self.asked, self.costs = due, [], []
        self.never = False

    def __call__(self, step: int) -> bool:
        self.asked.append(step)
        return step in self.due

    def spent(self, seconds: float) -> None:
        self.costs.append(seconds)


def test_due__asks_each_schedule_once_a_step_and_keeps_the_answer() -> None:
    rows, snapshots = Asked(6), Asked(7)
    due = Due(rows, snapshots, first_step=5)
    found = []
    for step in (6, 6, 7, 8):
        due.look_ahead(step)
        found.append((due.row, due.snapshot))
    assert found == [(True, False), (True, False), (False, True), (False, False)]
    assert rows.asked == [5, 6, 7, 8]
    assert snapshots.asked == [6, 7, 8]
    due.spent(0.25)
    assert (rows.costs, snapshots.costs) == ([0.25], [])


def test_due__knows_whether_any_snapshot_is_kept() -> None:
    assert Due(wdyn.every(1), wdyn.at(3), first_step=0).keeps_snapshots
    never = Asked()
    never.never = True
    assert not Due(wdyn.every(1), never, first_step=0).keeps_snapshots
