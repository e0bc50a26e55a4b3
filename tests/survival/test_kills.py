"""Is every row that was acknowledged there after a kill at any moment, and can the run go on?"""

import random
import signal
import time

import pytest

import wdyn
from wdyn.store.lock import holder

pytestmark = pytest.mark.kill

TRAIN = """
torch.nn.init.constant_(model.weight, LAST)
say("begun")
with watch(resume=True) as w:
    say("entered")
    for_ever(w)
"""


def kill_often(start, whole, place, *, kills, seed):
    """Kill one program after another, each continuing the run of the one before; look at the run after each."""
    chance = random.Random(seed)
    steps = [0]
    for _ in range(kills):
        program = start(TRAIN.replace("LAST", f"{steps[-1]}.0"))
        program.until_it_says("", count=chance.choice([1, 2, 4]))  # begun, entered, and committed a second time
        time.sleep(chance.uniform(0, 0.5))
        program.signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL, program.errors
        assert program.errors == ""
        assert holder(place) == ""
        told = [int(line) for line in program.lines if line.isdigit()]
        if (place / "zarr.json").exists():
            before, steps = steps, whole()
            assert steps[: len(before)] == before
        assert steps[-1] >= max(told, default=0)
    assert len(wdyn.open_run(place).attrs["wdyn"]["attempts"]) > kills // 2
    assert len(steps) > kills


def test_kill__keeps_every_acknowledged_row(start, whole, place):
    kill_often(start, whole, place, kills=20, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 5))
def test_kill__keeps_every_acknowledged_row_of_many(start, whole, place, seed):
    kill_often(start, whole, place, kills=50, seed=seed)


def test_killed_writer__leaves_a_run_that_another_takes_up_while_its_child_lives_on(start, whole, place):
    """Neither a stale lock, nor what names its owner, nor a child that was forked from it keeps the run."""
    program = start(
        """
        with watch() as w:
            step()
            w.flush()
            if os.fork() == 0:
                time.sleep(60)
            say("flushed")
            sleep_for_ever()
        """
    )
    program.until_it_says("flushed")
    assert holder(place).startswith(f"process {program.pid} on ")
    program.signal(signal.SIGKILL)
    program.wait()
    assert (place / ".wdyn/owner.json").exists()
    after = start(
        """
        step()
        with watch(resume=True):
            step()
        """
    )
    assert after.wait() == 0, after.errors
    assert after.errors == ""
    assert whole() == [0, 1, 2]
