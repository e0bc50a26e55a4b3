"""Is there one writer at a time, and none left after a kill?"""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from wdyn.errors import RunLocked
from wdyn.store.lock import FOLDER, Lock
from wdyn.store.lock import holder as holder_of

HOLD = """
import sys, time
from pathlib import Path
from wdyn.store.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""

TRY = """
import sys
from pathlib import Path
from wdyn.errors import RunLocked
from wdyn.store.lock import Lock
try:
    Lock(Path(sys.argv[1]))
    print("got it")
except RunLocked as error:
    print(error)
"""


@pytest.fixture
def run(tmp_path):
    return tmp_path


@pytest.fixture
def holder(run):
    """Another process that holds the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def from_elsewhere(run):
    """What another process is told that tries to write."""
    done = subprocess.run([sys.executable, "-c", TRY, str(run)], capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def test_lock__names_the_process_that_holds_it(run, holder):
    with pytest.raises(RunLocked, match=rf"is being written by process {holder.pid} on .*; wait for it"):
        Lock(run)


def test_lock__is_free_after_a_release(run, holder):
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    Lock(run).release()


def test_lock__is_free_after_a_kill(run, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (run / FOLDER / "owner.json").exists()
    lock = Lock(run)
    assert str(os.getpid()) in (run / FOLDER / "owner.json").read_text()
    lock.release()


def test_lock__refuses_a_second_writer_of_this_process_and_stays_held(run):
    lock = Lock(run)
    for _ in range(2):
        with pytest.raises(RunLocked, match="by another watch of this very process"):
            Lock(run / ".." / run.name)
    assert f"process {os.getpid()} on" in from_elsewhere(run)
    lock.release()
    assert from_elsewhere(run) == "got it"


def test_lock__is_given_to_one_of_many_threads(run):
    start, got, refused = threading.Barrier(8), [], []

    def claim():
        start.wait()
        try:
            got.append(Lock(run))
        except RunLocked as error:
            refused.append(error)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].release()


def test_release__may_come_twice(run):
    lock = Lock(run)
    assert not lock.released
    lock.release()
    lock.release()
    assert lock.released
    Lock(run).release()


def test_forked_child__neither_holds_nor_releases(run):
    lock = Lock(run)
    code = f"""
import os
import shutil
from pathlib import Path
from wdyn.errors import RunLocked
from wdyn.store.lock import Lock
run = Path({str(run)!r})
lock = Lock(run)
child = os.fork()
if child == 0:
    lock.release()
    try:
        Lock(run)
    except RunLocked as error:
        os._exit(0 if lock.released and str(os.getppid()) in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (run / ".wdyn/owner.json").exists()
"""
    lock.release()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_lock__holds_where_its_owner_cannot_be_written(run, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Lock, "_name_owner", full)
    lock = Lock(run)
    assert "is being written by another process" in from_elsewhere(run)
    lock.release()
    assert from_elsewhere(run) == "got it"


def test_holder__names_another_process_until_it_ends(run, holder):
    assert holder_of(run).startswith(f"process {holder.pid} on ")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert holder_of(run) == ""


def test_holder__takes_nothing_from_the_process_that_holds_it(run):
    lock = Lock(run)
    assert holder_of(run).startswith(f"process {os.getpid()} on ")
    assert f"process {os.getpid()} on" in from_elsewhere(run)
    lock.release()
    assert holder_of(run) == ""
    assert from_elsewhere(run) == "got it"


def test_holder__writes_nothing_where_nobody_ever_wrote(run):
    assert holder_of(run) == ""
    assert list(run.iterdir()) == []


def test_lock__knows_that_another_run_took_the_place_of_its_own_and_leaves_that_alone(run):
    lock = Lock(run)
    assert not lock.guards_another
    shutil.rmtree(run / FOLDER)
    assert lock.guards_another
    assert from_elsewhere(run) == "got it"
    (run / FOLDER / "owner.json").write_text("{}")
    assert lock.guards_another
    lock.release()
    assert (run / FOLDER / "owner.json").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "\\xff", '{"pid": 1}'])
def test_owner__that_a_kill_left_torn_does_no_harm(run, text):
    (run / FOLDER).mkdir()
    (run / FOLDER / "owner.json").write_bytes(text.encode("latin-1"))
    assert holder_of(run) == ""
    lock = Lock(run)
    assert f"process {os.getpid()} on" in from_elsewhere(run)
    (run / FOLDER / "owner.json").write_bytes(text.encode("latin-1"))
    assert "is being written by another process" in from_elsewhere(run)
    lock.release()


def test_forked_child__can_claim_a_run_though_a_thread_of_its_parent_was_about_to(run):
    """The mutex that the other thread held is never released in the child."""
    code = f"""
import os, signal, threading
from pathlib import Path
from wdyn.store import lock
with lock._one_at_a_time():
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        lock.Lock(Path({str(run)!r})).release()
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
