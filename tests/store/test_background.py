"""Do rows reach the disk behind the loop's back, in bounded memory, and is every loss counted?"""

import errno
import functools
import os
import threading
import time

import numpy as np
import pytest

import wdyn
from wdyn.errors import NotARun
from wdyn.rows import Batch, Row, Snapshot
from wdyn.store import background as module
from wdyn.store import files, trouble
from wdyn.store.background import BackgroundWriter

PATIENCE = 10


def in_time(call):
    """Run a call that must not hang; give its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    return result[0]


class Gate:
    """Holds the writing thread at every append until it is opened."""

    def __init__(self, writer, monkeypatch):
        self.open, self.entered = threading.Event(), threading.Event()
        append = writer.append

        def held(batch):
            self.entered.set()
            assert self.open.wait(PATIENCE)
            append(batch)

        monkeypatch.setattr(writer, "append", held)


@pytest.fixture
def writer(oracle, place):
    writer = oracle.writer(place)
    yield writer
    writer.abandon()


@pytest.fixture
def stalled(monkeypatch):
    """A disk that takes nothing is found out at once."""
    monkeypatch.setattr(module, "_STALL_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)


@pytest.fixture
def soon(monkeypatch):
    """A disk that failed is tried again at once."""
    monkeypatch.setattr(trouble, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(trouble, "_LONGEST_PAUSE", 0.002)


class FullDisk:
    """Fails every write after the first `left`, until there is `room` again."""

    def __init__(self, monkeypatch):
        self.left, self.code, self.failed = 1e9, errno.ENOSPC, 0
        self.write = files.write
        monkeypatch.setattr(files, "write", self)

    def fill(self, at=0):
        self.left = at

    def room(self):
        self.left = 1e9

    def __call__(self, path, pieces, **options):
        self.left -= 1
        if self.left < 0:
            self.failed += 1
            raise OSError(self.code, os.strerror(self.code))
        return self.write(path, pieces, **options)


@pytest.fixture
def disk(monkeypatch):
    return FullDisk(monkeypatch)


def test_rows__are_committed_by_flush(oracle, place, writer, monkeypatch):
    monkeypatch.setattr(module, "_PUBLISH_SECONDS", 1e9)
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    assert background.committed == -1
    assert background.submit(oracle.batch(0, declare=oracle.declaration()))
    assert not background.submit(oracle.batch(1, snapshot=False))
    assert in_time(background.flush) == background.committed == 1
    assert oracle.steps_of(place)["/states"] == [0, 1]
    in_time(background.close)
    assert background.failure is None


def test_rows__are_committed_by_close_in_the_order_given(oracle, place, writer):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    for step in range(40):
        background.submit(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    in_time(background.close)
    assert oracle.steps_of(place)["/states"] == list(range(40))
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == {"rows": 0, "snapshots": 0}


@pytest.mark.parametrize(("rows", "seconds"), [(3, 1e9), (10**9, 0.05)])
def test_rows__are_committed_with_no_flush(oracle, writer, monkeypatch, rows, seconds):
    monkeypatch.setattr(module, "_PUBLISH_ROWS", rows)
    monkeypatch.setattr(module, "_PUBLISH_SECONDS", seconds)
    monkeypatch.setattr(module, "_PUBLISH_PAUSE", 0.0)
    published = threading.Event()
    commit = writer.commit
    monkeypatch.setattr(writer, "commit", lambda: (commit(), writer.committed >= 2 and published.set()))
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    for step in range(3):
        background.submit(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    assert published.wait(PATIENCE)
    in_time(background.close)


def test_snapshot__that_finds_no_room_is_dropped_and_counted_and_its_rows_are_kept(oracle, place, writer, monkeypatch):
    gate = Gate(writer, monkeypatch)
    released = []
    limit = oracle.batch(0).nbytes + oracle.batch(1, snapshot=False).nbytes
    background = BackgroundWriter(writer, limit_bytes=limit)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    assert gate.entered.wait(PATIENCE)
    dropped = oracle.batch(1)
    dropped = Batch(1, dropped.rows, Snapshot(1, dropped.snapshot.values, lambda: released.append(1)))
    assert not background.submit(dropped)
    assert released == [1]
    gate.open.set()
    in_time(background.close)
    assert background.lost == {"rows": 0, "snapshots": 1}
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == background.lost
    steps = oracle.steps_of(place)
    assert steps["/states"] == [0, 1]
    assert steps[f"/weights/{oracle.LAYERED}"] == [0]


@pytest.mark.usefixtures("stalled")
def test_rows__that_a_stalled_disk_has_no_room_for_are_lost_and_counted_but_not_their_declaration(
    oracle, place, writer, monkeypatch
):
    gate = Gate(writer, monkeypatch)
    background = BackgroundWriter(writer, limit_bytes=1)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    assert gate.entered.wait(PATIENCE)
    assert not background.submit(oracle.batch(1))
    assert not background.submit(oracle.batch(2, declare=oracle.declaration(4, known=3), count=4))
    assert background.lost == {"rows": 2 * oracle.ROWS, "snapshots": 2}
    gate.open.set()
    in_time(background.flush)
    assert background.submit(oracle.batch(3, count=4), wait=True)
    in_time(background.close)
    assert background.failure is None
    steps = oracle.steps_of(place)
    assert steps["/states"] == [0, 3]
    assert steps[f"/weights/{oracle.LATE}"] == [3]


@pytest.mark.usefixtures("stalled")
def test_queue__never_holds_more_bytes_than_its_limit(oracle, writer, monkeypatch):
    gate = Gate(writer, monkeypatch)
    row = Row("scalars", 0, {"loss": np.zeros(())})
    background = BackgroundWriter(writer, limit_bytes=10 * row.nbytes)
    for step in range(100):
        background.submit(Batch(step, (row,)))
        assert background._waiting.nbytes <= 10 * row.nbytes
    assert background.lost["rows"] == 90
    gate.open.set()
    in_time(background.close)


def test_batch__larger_than_the_limit_passes_alone(oracle, place, writer):
    background = BackgroundWriter(writer, limit_bytes=1)
    assert background.submit(oracle.batch(0, declare=oracle.declaration()), wait=True)
    assert background.submit(oracle.batch(1), wait=True)
    in_time(background.close)
    assert oracle.steps_of(place)[f"/weights/{oracle.LAYERED}"] == [0, 1]


@pytest.mark.usefixtures("stalled")
def test_rows__behind_a_snapshot_larger_than_the_limit_find_room(oracle, writer, monkeypatch):
    large = oracle.batch(0, declare=oracle.declaration())
    row = Row("scalars", 1, {"loss": np.zeros(())})
    gate = Gate(writer, monkeypatch)
    background = BackgroundWriter(writer, limit_bytes=8 * row.nbytes)
    assert large.nbytes > 8 * row.nbytes
    background.submit(large)
    assert gate.entered.wait(PATIENCE)
    for step in (1, 2):  # the quarter that is kept for rows
        background.submit(Batch(step, (row,)))
    assert not any(background.lost.values())
    assert not background.submit(oracle.batch(3))
    gate.open.set()
    in_time(background.close)
    assert background.failure is None
    assert background.lost["snapshots"] == 1


def test_submit__waits_for_room_when_told_to(oracle, writer, monkeypatch):
    gate = Gate(writer, monkeypatch)
    background = BackgroundWriter(writer, limit_bytes=1)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(background.submit(oracle.batch(1), wait=True)))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    gate.open.set()
    waiting.join(PATIENCE)
    assert taken == [True]
    in_time(background.close)
    assert background.lost == {"rows": 0, "snapshots": 0}


def test_rows__wait_for_a_slow_disk_and_none_is_lost(oracle, place, writer, monkeypatch):
    """Memory stays within its bound, whatever the disk takes its time for; snapshots make way, and are counted."""
    write, largest = files.write, [0.0]

    def slow(path, pieces, **options):
        time.sleep(0.002 if path.endswith("c.0") or "/value/" in path else 0)
        return write(path, pieces, **options)

    monkeypatch.setattr(files, "write", slow)
    limit = 2 * oracle.batch(1).nbytes
    background = BackgroundWriter(writer, limit_bytes=limit)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    taken = [0]
    for step in range(1, 60):
        if background.submit(oracle.batch(step)):
            taken.append(step)
        largest.append(background._waiting.nbytes)
    in_time(background.close)
    assert max(largest) <= limit
    assert background.lost == {"rows": 0, "snapshots": 60 - len(taken)}
    assert background.lost["snapshots"] > 0
    steps = oracle.steps_of(place)
    assert steps["/states"] == list(range(60))
    assert steps[f"/weights/{oracle.LAYERED}"] == taken
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == background.lost


def test_memory__is_released_once_it_is_written(oracle, writer):
    released = []
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    one = oracle.batch(0, declare=oracle.declaration())
    held = Snapshot(0, one.snapshot.values, lambda: released.append(0))
    background.submit(Batch(0, one.rows, held, one.declaration))
    in_time(background.close)
    assert released == [0]


def until(what):
    """Wait until something holds."""
    limit = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.001)


@pytest.mark.parametrize("at", [0, 1, 7, 40])
def test_full_disk__to_the_end_is_told_and_leaves_what_was_committed(oracle, place, writer, disk, at):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    assert in_time(background.flush) == 0
    disk.fill(at)
    released = []
    for step in range(1, 4):
        one = oracle.batch(step)
        background.submit(Batch(step, one.rows, Snapshot(step, one.snapshot.values, lambda: released.append(1))))
    in_time(background.flush)
    (told,) = background.news()
    assert "cannot write at the moment: No space left on device. Training goes on" in told
    in_time(background.flush)
    in_time(background.close)
    in_time(background.close)
    committed = background.committed
    assert isinstance(background.failure, OSError)
    assert len(released) == 3
    if committed == 0:  # the disk may also fill after the commit, in the groups' own metadata
        assert background.lost == {"rows": 3 * oracle.ROWS, "snapshots": 3}
    (message,) = background.news()
    assert "stopped recording" in message
    assert "No space left on device" in message
    assert f"up to step {committed} are safe" in message
    assert oracle.steps_of(place)["/states"][-1] >= committed
    assert writer._lock.released


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("at", "code"),
    [(0, errno.ENOSPC), (30, errno.ENOSPC), (3, errno.EDQUOT), (3, errno.EIO), (3, errno.EROFS), (3, errno.EACCES)],
)
def test_disk_that_recovers__has_every_row_and_every_snapshot_that_waited(oracle, place, writer, disk, at, code):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    disk.code = code
    disk.fill(at)
    for step in range(1, 4):
        background.submit(
            oracle.batch(
                step, declare=oracle.declaration(4, known=3) if step == 3 else None, count=4 if step == 3 else 3
            )
        )
    in_time(background.flush)
    until(lambda: disk.failed > 3)
    assert background.committed == 0
    for step in (4, 5):
        assert background.submit(oracle.batch(step, count=4), wait=True)
    disk.room()
    until(lambda: background.trouble is None)
    assert in_time(background.flush) == 5
    assert background.failure is None
    pause, resumed = background.news()
    assert f"cannot write at the moment: {os.strerror(code)}" in pause
    in_time(background.close)
    steps = oracle.steps_of(place)
    assert all(steps[group] == [0, 1, 2, 3, 4, 5] for group in oracle.EACH_ROW)
    kept = steps[f"/weights/{oracle.LAYERED}"]
    assert len(kept) == 6 - background.lost["snapshots"]
    assert kept[-3:] == [3, 4, 5] or at == 30
    assert background.lost["rows"] == 0
    lost = background.lost["snapshots"]
    assert resumed.endswith("nothing was lost" if not lost else f"0 rows and {lost} snapshots were lost meanwhile")
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == background.lost


@pytest.mark.usefixtures("soon")
def test_full_disk__loses_and_counts_what_finds_no_room_and_goes_on_with_the_rest(oracle, place, writer, disk):
    limit = 3 * oracle.batch(1, snapshot=False).nbytes
    background = BackgroundWriter(writer, limit_bytes=limit)
    background.submit(oracle.batch(0, declare=oracle.declaration()), wait=True)
    in_time(background.flush)
    disk.fill()
    background.submit(oracle.batch(1, snapshot=False))
    until(lambda: background.trouble is not None)
    for step in range(2, 10):
        in_time(functools.partial(background.submit, oracle.batch(step, snapshot=False), wait=True))
        assert background._waiting.nbytes <= limit
    disk.room()
    until(lambda: background.trouble is None)
    in_time(background.flush)
    background.submit(oracle.batch(10, snapshot=False), wait=True)
    in_time(background.close)
    assert background.failure is None
    steps = oracle.steps_of(place)["/states"]
    assert steps[:2] == [0, 1]
    assert steps[-1] == 10
    assert background.lost == {"rows": (11 - len(steps)) * oracle.ROWS, "snapshots": 0}
    assert len(steps) < 11
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == background.lost


def test_error_that_stays__ends_the_writing(oracle, place, writer, monkeypatch):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    monkeypatch.setattr(writer, "append", lambda batch: 1 / 0)
    background.submit(oracle.batch(1))
    in_time(background.flush)
    assert isinstance(background.failure, ZeroDivisionError)
    assert background.trouble is None
    assert not in_time(lambda: background.submit(oracle.batch(2), wait=True))
    assert background.lost == {"rows": 2 * oracle.ROWS, "snapshots": 2}
    in_time(background.close)
    assert oracle.steps_of(place)["/states"] == [0]


def test_run_that_was_deleted__ends_the_writing_and_is_not_begun_anew(oracle, place, writer, disk):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    disk.fill()
    (place / "zarr.json").unlink()
    kept = sorted(place.rglob("c.*"))
    background.submit(oracle.batch(1))
    in_time(background.flush)
    in_time(background.close)
    assert isinstance(background.failure, NotARun)
    assert not any("are safe" in told for told in background.news())
    assert sorted(place.rglob("c.*")) == kept


@pytest.mark.parametrize("at", [0, 60])
def test_full_disk__that_comes_at_close_and_goes_leaves_nothing_out(oracle, place, writer, disk, at, monkeypatch):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    back = writer.roll_back
    monkeypatch.setattr(writer, "roll_back", lambda: (disk.room(), back())[1])
    disk.fill(at)
    background.submit(oracle.batch(1, snapshot=False))
    in_time(background.close)
    assert background.failure is None
    assert not any("stopped" in told for told in background.news())
    assert oracle.steps_of(place)["/states"] == [0, 1]
    about = wdyn.open_run(place).attrs["wdyn"]
    assert about["lost"] == {"rows": 0, "snapshots": 0}
    assert about["closed"]
    assert writer._lock.released


def test_full_disk__may_come_as_late_as_close(oracle, place, writer, disk):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    background.submit(oracle.batch(1))
    disk.fill(2)
    in_time(background.close)
    assert isinstance(background.failure, OSError)
    assert background.lost == {"rows": oracle.ROWS, "snapshots": 1}
    assert oracle.steps_of(place)["/states"] == [0]


def test_anything_after_close__is_lost_and_hangs_nothing(oracle, writer):
    background = BackgroundWriter(writer, limit_bytes=1)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.close)
    assert not in_time(lambda: background.submit(oracle.batch(1), wait=True))
    assert in_time(background.flush) == 0
    in_time(background.close)
    assert background.failure is None
    assert background.lost == {"rows": oracle.ROWS, "snapshots": 1}


def test_losses__are_summed_over_attempts(oracle, place):
    for resumed_from in (-1, 1):
        writer = oracle.writer(place, resume=resumed_from > 0, attempt={"resumed_from_step": resumed_from})
        background = BackgroundWriter(writer, limit_bytes=1 << 20)
        background._waiting._lost_snapshots = 2
        declare = oracle.declaration() if resumed_from < 0 else None
        background.submit(oracle.batch(max(0, resumed_from), declare=declare))
        in_time(background.close)
    assert wdyn.open_run(place).attrs["wdyn"]["lost"] == {"rows": 0, "snapshots": 4}


@pytest.fixture
def nice(monkeypatch):
    """Tell which threads stepped back, by name of their number."""
    back = []
    monkeypatch.setattr(module, "step_back", lambda: back.append(threading.get_ident()))
    return back


def test_thread__leaves_the_processors_to_others_until_the_queue_is_half_full(oracle, place, writer, monkeypatch, nice):
    gate = Gate(writer, monkeypatch)
    written_by = []
    append = writer.append
    monkeypatch.setattr(writer, "append", lambda batch: (written_by.append(threading.get_ident()), append(batch)))
    one = oracle.batch(0).nbytes
    background = BackgroundWriter(writer, limit_bytes=5 * one)
    patient = background._thread
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    assert gate.entered.wait(PATIENCE)
    background.submit(oracle.batch(1))
    assert background._thread is patient
    background.submit(oracle.batch(2))
    assert background._thread is not patient
    gate.open.set()
    in_time(background.close)
    assert nice[0] == patient.ident
    assert written_by == [patient.ident] + [background._thread.ident] * 2
    assert oracle.steps_of(place)["/states"] == [0, 1, 2]


def test_thread__steps_back_again_once_the_queue_is_empty(oracle, writer, nice):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    for step in range(3):
        background.submit(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
        in_time(background.flush)  # somebody waits: a thread that does not step back takes over
        limit = time.monotonic() + PATIENCE
        while len(nice) < 2 + step and time.monotonic() < limit:
            time.sleep(0.001)
        assert background._patient
        assert nice[-1] == background._thread.ident
    assert len(nice) == 4
    in_time(background.close)


def test_thread__goes_on_where_no_other_can_be_started(oracle, place, writer, monkeypatch):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    patient = background._thread

    def fails(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(module.threading.Thread, "start", fails)
        background.submit(oracle.batch(0, declare=oracle.declaration()))
        assert background.flush() == 0
    assert background._thread is patient
    in_time(background.close)
    assert oracle.steps_of(place)["/states"] == [0]


def test_bytes_written__are_those_of_the_files(oracle, place, writer):
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    in_time(background.flush)
    names = [path for path in place.rglob("*") if path.is_file() and ".wdyn" not in path.parts]
    assert background.bytes_written == sum(path.stat().st_size for path in names)
    background.submit(oracle.batch(1))
    in_time(background.close)
    # Each chunk that is not full, and what describes it, was written more than once.
    assert background.bytes_written > sum(path.stat().st_size for path in names)
