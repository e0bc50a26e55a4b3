"""Does a run stay whole under faults, kills and readers at any moment?"""

import contextlib
import errno
import functools
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import wdyn
from wdyn.errors import CannotRecord
from wdyn.rows import Batch, Row
from wdyn.store import files, trouble
from wdyn.store import writer as writer_module
from wdyn.store.background import BackgroundWriter
from wdyn.store.documents import Documents
from wdyn.store.writer import Writer

ORACLE = Path(__file__).with_name("oracle.py")


class FailAt:
    """Fails the N-th call; and all later ones, as a full disk does, or `once`."""

    def __init__(self, inner, number, *, once=False):
        self.inner, self.left, self.once, self.failed = inner, number, once, False

    def __get__(self, instance, owner):
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left == -1 or (self.left < -1 and not self.once):
            self.failed = True
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.inner(*arguments, **options)


def record(oracle, path, told):
    """Write a run with all that may happen to one; note each committed step."""
    with oracle.writer(path) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        told.append(writer.commit())
        writer.append(oracle.batch(1))
        writer.append(oracle.batch(2, snapshot=False))
        told.append(writer.commit())
        writer.append(oracle.batch(3, declare=oracle.declaration(4, known=3), count=4))
        writer.append(oracle.batch(4, count=4))
        told.append(writer.commit())
        writer.append(oracle.batch(5, count=4))
    told.append(writer.committed)


def is_whole(oracle, path, told):
    """Whether the run opens, shows every committed row with its values, and no part of a batch."""
    if not told:
        return True
    steps = oracle.steps_of(path)
    rows = steps["/statistics/weights"]
    assert rows == list(range(len(rows)))
    assert rows[-1] >= told[-1]
    assert all(steps[path] == rows for path in oracle.EACH_ROW)
    assert steps[f"/weights/{oracle.LAYERED}"] == [step for step in rows if step != 2]
    return True


def fail_everywhere(oracle, tmp_path, monkeypatch, target, name, *, stride=1, once=False):
    """Fail at the first, second, ... call of a function until none fails; give the count of calls."""
    inner, number = getattr(target, name), 0
    while True:
        path, told, fault = tmp_path / f"{number}.zarr", [], FailAt(inner, number, once=once)
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fault)
            with contextlib.suppress(OSError):
                record(oracle, path, told)
        assert is_whole(oracle, path, told)
        if not fault.failed:
            assert told == [0, 2, 4, 5]
            return number
        number += stride


FAULTS = {
    (os, "replace"): 80,
    (os, "writev"): 120,
    (os, "open"): 200,
    (os, "close"): 120,
    (os, "mkdir"): 40,
    (files, "make_durable"): 8,
    (files, "sync"): 4,
    (files, "_call_libc"): 12,
}
"""Operations on files, and how often a recording makes each at least; `_call_libc` flushes, and reserves blocks."""

OPERATIONS = pytest.mark.parametrize(("target", "name"), FAULTS, ids=[name for _, name in FAULTS])


@pytest.fixture
def called(monkeypatch, flushed):
    """The system is asked to flush, and to reserve blocks for the smallest of files; it takes no time for either."""
    monkeypatch.setattr(files, "_RESERVED_BYTES", 1)
    monkeypatch.setattr(files, "_call_libc", lambda name, *arguments: None)
    monkeypatch.setattr(files, "sync", lambda path: None)


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("once", [False, True])
@OPERATIONS
def test_commit__leaves_whole_rows_where_an_operation_fails(oracle, tmp_path, monkeypatch, target, name, once):
    least = FAULTS[target, name]
    assert fail_everywhere(oracle, tmp_path, monkeypatch, target, name, stride=-(-least // 2), once=once) >= least


@pytest.mark.long
@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("once", [False, True])
@OPERATIONS
def test_commit__leaves_whole_rows_wherever_an_operation_fails(oracle, tmp_path, monkeypatch, target, name, once):
    assert fail_everywhere(oracle, tmp_path, monkeypatch, target, name, stride=1, once=once) >= FAULTS[target, name]


def leave_rubbish(place):
    """Leave what a killed writer may: half-written files, and chunks of rows that were never committed."""
    for name, chunk in (("mean", "c.7.0"), ("lr", "c.7.0"), ("loss", "c.7")):
        for folder in place.rglob(name):
            (folder / chunk).write_bytes(b"never committed")
            (folder / "c.0.partial").write_bytes(b"half")


@pytest.mark.parametrize("once", [False, True])
def test_resume__leaves_whole_rows_wherever_the_sweep_fails(oracle, tmp_path, monkeypatch, once):
    killed, told, number, failed = tmp_path / "killed.zarr", [], 0, True
    record(oracle, killed, told)
    leave_rubbish(killed)
    while failed:
        path, fault = tmp_path / f"{number}.zarr", FailAt(os.unlink, number, once=once)
        shutil.copytree(killed, path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", fault)
            with contextlib.suppress(OSError), oracle.writer(path, resume=True, attempt={"resumed_from_step": 5}):
                pass
        with oracle.writer(path, resume=True, attempt={"resumed_from_step": 5}) as writer:
            writer.append(oracle.batch(6, count=4))
        assert is_whole(oracle, path, [*told, 6])
        assert not [*path.rglob("c.7*"), *path.rglob("*.partial")]
        failed, number = fault.failed, number + 4
    assert number > 6


def record_behind(oracle, path, told):
    """Write a run through the background writer; note each step that it acknowledges."""
    writer = oracle.writer(path)
    writer.append(oracle.batch(0, declare=oracle.declaration()))
    writer.commit()  # as the first row is, before the loop
    told.append(0)
    background = BackgroundWriter(writer, limit_bytes=1 << 20)
    for step in range(1, 5):
        late = step >= 3
        declare = oracle.declaration(4, known=3) if step == 3 else None
        background.submit(oracle.batch(step, declare=declare, snapshot=step != 2, count=4 if late else 3), wait=True)
        if step % 2 == 0:
            told.append(background.flush())
    background.close()
    told.append(background.committed)
    return background


def fail_behind(oracle, tmp_path, monkeypatch, target, name, *, stride, once):
    """Fail each call after the first commit: of what is acknowledged nothing is lost, and all else is counted."""
    monkeypatch.setattr(trouble, "_FIRST_PAUSE", 0.0)
    inner, number = getattr(target, name), 0
    while True:
        path, told, fault = tmp_path / f"{number}.zarr", [], FailAt(inner, 10**9, once=once)
        started = Writer.commit

        def armed(self, fault=fault, number=number, started=started):
            committed = started(self)
            if fault.left > 10**6:
                fault.left = number
            return committed

        with monkeypatch.context() as patch:
            patch.setattr(Writer, "commit", armed)
            patch.setattr(target, name, fault)
            background = record_behind(oracle, path, told)
        steps = oracle.steps_of(path)
        rows = steps["/states"]
        assert all(steps[group] == rows for group in oracle.EACH_ROW)
        assert rows == list(range(len(rows)))
        assert rows[-1] >= max(told)
        lost = wdyn.open_run(path).attrs["wdyn"].get("lost", {"rows": 0, "snapshots": 0})
        if once:  # a disk that failed for a moment costs no row
            assert background.failure is None
            assert rows == [0, 1, 2, 3, 4]
            assert lost["rows"] == 0
            assert len(steps[f"/weights/{oracle.LAYERED}"]) + lost["snapshots"] == 4
        if not fault.failed:
            return number
        number += stride


BEHIND = {one: least for one, least in FAULTS.items() if one[1] not in ("mkdir",)}


@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("target", "name"), BEHIND, ids=[name for _, name in BEHIND])
def test_background__loses_nothing_acknowledged_where_an_operation_fails(
    oracle, tmp_path, monkeypatch, target, name, once
):
    stride = {"replace": 83, "writev": 121, "open": 151, "close": 147}.get(name, 5)
    assert fail_behind(oracle, tmp_path, monkeypatch, target, name, stride=stride, once=once) >= 2


@pytest.mark.long
@pytest.mark.usefixtures("called")
@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("target", "name"), BEHIND, ids=[name for _, name in BEHIND])
def test_background__loses_nothing_acknowledged_wherever_an_operation_fails(
    oracle, tmp_path, monkeypatch, target, name, once
):
    assert fail_behind(oracle, tmp_path, monkeypatch, target, name, stride=1, once=once) >= 2


def test_commit__keeps_a_full_chunk_that_did_not_get_into_its_place(oracle, place, monkeypatch):
    """The chunk is full and forgotten; only its successor on the disk has all of its rows."""
    writer = oracle.writer(place)
    for step in range(300):
        writer.append(Batch(step, (Row("scalars", step, oracle.scalars(step)),)))
        if step == 250:
            writer.commit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", FailAt(os.replace, 1))
        with pytest.raises(OSError, match="No space left"):
            writer.commit()
    writer.close()
    assert oracle.steps_of(place)["/scalars"] == list(range(300))


def test_publishing_before_writing__is_caught_by_the_faults(oracle, tmp_path, monkeypatch):
    def hasty(self):
        documents = Documents(self._tree.nodes())
        files.replace(f"{self.path}/zarr.json", documents.root(self._root()))
        self.committed = self._last_step
        self._tree.flush()
        self._disk.publish(f"{self.path}/later.json", b"{}")
        self._tree.settle(documents)
        return self.committed

    monkeypatch.setattr(Writer, "commit", hasty)
    with pytest.raises(AssertionError):
        fail_everywhere(oracle, tmp_path, monkeypatch, os, "replace")


def test_half_a_batch__is_never_committed(oracle, place, monkeypatch):
    writer = oracle.writer(place)
    writer.append(oracle.batch(0, declare=oracle.declaration()))
    writer.commit()
    with monkeypatch.context() as patch:
        patch.setattr(writer_module.Tree, "_append_snapshot", FailAt(None, 0))
        with pytest.raises(OSError, match="No space left"):
            writer.append(oracle.batch(1))
    with pytest.raises(CannotRecord, match="failed before; what was committed until then is safe"):
        writer.commit()
    with pytest.raises(CannotRecord, match="failed before"):
        writer.append(oracle.batch(2))
    writer.abandon()
    assert oracle.steps_of(place)["/statistics/weights"] == [0]


def test_half_a_batch__is_left_out_when_the_block_ends_with_its_error(oracle, place, monkeypatch):
    monkeypatch.setattr(writer_module.Tree, "_append_snapshot", FailAt(writer_module.Tree._append_snapshot, 1))
    with pytest.raises(OSError, match="No space left"), oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        writer.append(oracle.batch(1))
    assert not (place / "zarr.json").exists()


class Order:
    """Notes what happens to the files of a run, in its order."""

    def __init__(self, monkeypatch):
        self.told = []
        write, durable, replace = files.write, files.make_durable, os.replace
        monkeypatch.setattr(files, "write", lambda path, *a, **k: (self.note("write", path), write(path, *a, **k))[1])
        monkeypatch.setattr(os, "replace", lambda one, path: (self.note("rename", path), replace(one, path))[1])
        monkeypatch.setattr(
            files,
            "make_durable",
            lambda root, paths: (self.note("durable", paths := list(paths)), durable(root, paths)),
        )
        monkeypatch.setattr(files, "sync", lambda path: self.note("sync", path))

    def note(self, what, path):
        self.told.append((what, [str(one) for one in path] if what == "durable" else str(path)))


def test_commit__makes_every_chunk_durable_before_it_publishes(oracle, place, monkeypatch):
    """A chunk that is replaced is durable before its rename, and that before the rename of the root."""
    order = Order(monkeypatch)
    writer = oracle.writer(place)
    for step in range(2):
        order.told.clear()
        writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
        writer.commit()
        root = order.told.index(("rename", f"{place}/zarr.json"))
        written = [path for what, path in order.told[:root] if what == "write"]
        renamed = [path for what, path in order.told[:root] if what == "rename"]
        (first, second) = (at for at, (what, _) in enumerate(order.told[:root]) if what == "durable")
        assert sorted([*order.told[first][1], f"{place}/zarr.json.partial"]) == sorted(written)
        assert all(what != "rename" for what, _ in order.told[:first])
        assert all(what == "rename" for what, _ in order.told[first + 1 : first + 1 + len(renamed)])
        assert sorted(order.told[second][1]) == sorted([*renamed, f"{place}/zarr.json.partial"])
        assert second == root - 1
        assert order.told[root + 1] == ("sync", str(place))
        assert all(path.endswith("zarr.json.partial") for what, path in order.told[root:] if what == "write")
        tail = [f"{place}/statistics/weights/{name}/c.0{at}" for name, at in (("mean", ".0"), ("step", ""))]
        if step:
            assert renamed.index(tail[0]) < renamed.index(tail[1])
    assert renamed
    writer.close()


class Killed:
    """A process that writes for ever, and what it has acknowledged."""

    def __init__(self, command):
        self.told = [-1]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.told.append(int(line))

    def kill_after(self, seconds):
        limit = time.monotonic() + 60
        while len(self.told) < 2 and self.process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        time.sleep(seconds)
        assert self.process.poll() is None, self.process.stderr.read()
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()
        self.process.stdout.close()
        return self.told[-1]


def kill_writers(oracle, path, *, kills, seed):
    """Kill one writer after another, each continuing the run of the one before; check the run after each."""
    chance = random.Random(seed)
    for attempt in range(kills):
        told = Killed([sys.executable, str(ORACLE), str(path)]).kill_after(chance.uniform(0, 0.3))
        steps = oracle.steps_of(path)
        assert steps["/states"][-1] >= told
        for group in (*oracle.EACH_ROW, f"/weights/{oracle.LAYERED}", f"/weights/{oracle.BITS}"):
            assert steps[group] == steps["/states"]
        run = wdyn.open_run(path)
        effective = run["states"]["step"].values
        np.testing.assert_array_equal(effective, np.arange(len(effective)))
        assert len(run.attrs["wdyn"]["attempts"]) == attempt + 1


@pytest.mark.kill
def test_kill__keeps_every_acknowledged_row(oracle, place):
    kill_writers(oracle, place, kills=4, seed=0)


@pytest.mark.kill
@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_kill__keeps_every_acknowledged_row_of_many(oracle, place, seed):
    kill_writers(oracle, place, kills=20, seed=seed + 1)


def test_reader__sees_a_growing_prefix_while_a_writer_appends(oracle, place):
    stop, failures = threading.Event(), []

    def write():
        try:
            with oracle.writer(place) as writer:
                writer.append(oracle.batch(0, declare=oracle.declaration()))
                writer.commit()
                ready.set()
                step = 0
                while not stop.is_set():
                    step += 1
                    writer.append(oracle.batch(step))
                    if step % 3 == 0:
                        writer.commit()
        except BaseException as error:
            failures.append(error)
            ready.set()

    ready = threading.Event()
    thread = threading.Thread(target=write)
    thread.start()
    ready.wait(30)
    seen, opened, until = 0, 0, time.monotonic() + 3
    try:
        while time.monotonic() < until:
            steps = oracle.steps_of(place)
            assert all(rows == list(range(len(rows))) for rows in steps.values())
            assert len(set(map(len, steps.values()))) == 1
            assert len(steps["/states"]) >= seen
            seen = len(steps["/states"])
            with xr.open_zarr(place, group=f"weights/{oracle.LAYERED}", chunks=None) as group:
                alone = oracle.check(group.load(), f"/weights/{oracle.LAYERED}")
            with xr.open_zarr(place / "statistics/weights", chunks=None) as group:
                own = oracle.check(group.load(), "/statistics/weights")
            assert alone == list(range(len(alone)))
            assert own == list(range(len(own)))
            opened += 1
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert opened >= 3
    assert seen > 3


def test_batch_without_rows__moves_the_committed_step(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(Batch(7, declaration=oracle.declaration()))
        assert writer.committed == -1
        assert writer.commit() == writer.committed == 7
