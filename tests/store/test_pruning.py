"""Does pruning take away what was superseded, and nothing else, wherever it is killed?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import wdyn
from wdyn.errors import CannotRecord, DamagedRun, NotARun, RunLocked
from wdyn.store import files
from wdyn.store.metadata import chunk_indices


def record(oracle, place, steps, *, resumed_from=-1, **options):
    with oracle.writer(place, resume=resumed_from >= 0, attempt={"resumed_from_step": resumed_from}) as writer:
        for step in steps:
            declare = oracle.declaration() if resumed_from < 0 and step == 0 else None
            writer.append(oracle.batch(step, declare=declare, **options))


@pytest.fixture
def run(oracle, place):
    """Attempts over 0 to 11, 8 to 10 and 5 to 8: the second is wholly superseded."""
    record(oracle, place, range(12))
    record(oracle, place, range(8, 11), resumed_from=8)
    record(oracle, place, range(5, 9), resumed_from=5)
    return place


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch):
    """Let few rows fill more than one chunk."""
    monkeypatch.setattr("wdyn.store.growing._MAX_ROWS", 4)


def shown(place):
    return {node.path: node.to_dataset(inherit=False).load() for node in wdyn.open_run(place).subtree}


def assert_same(place, before):
    for path, group in shown(place).items():
        xr.testing.assert_identical(group.drop_attrs(deep=False), before[path].drop_attrs(deep=False))
        for name, values in group.variables.items():
            if values.dtype.kind in "fiu":
                assert values.values.tobytes() == before[path][name].values.tobytes()


def weigh(place):
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


def test_prune__leaves_what_is_shown_bit_for_bit_and_nothing_else(oracle, run):
    before, weight = shown(run), weigh(run)
    told = wdyn.prune(run)
    assert_same(run, before)
    assert told.rows["states"] == 10
    assert told.attempts == {0: 7 * len(told.rows), 1: 3 * len(told.rows)}
    assert told.nbytes == weight - weigh(run) > 0
    # Any reader of Zarr sees the rows that stand, once each, and no other.
    assert set(map(tuple, oracle.steps_of(run).values())) == {tuple(range(9))}
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_prune__deletes_the_files_of_superseded_snapshots(oracle, run):
    folder = run / "weights" / oracle.LAYERED / "value"
    assert len(list(folder.glob("c.*"))) == 19
    wdyn.prune(run)
    assert sorted(chunk_indices(file.name)[0] for file in folder.glob("c.*")) == list(range(9))


def test_prune__notes_in_the_attempts_what_is_gone(run):
    told = wdyn.prune(run)
    attempts = wdyn.open_run(run).attrs["wdyn"]["attempts"]
    assert [one.get("pruned", 0) for one in attempts] == [told.attempts[0], told.attempts[1], 0]
    assert [one["parent"] for one in attempts] == [-1, 0, 0]
    assert wdyn.open_run(run, attempt=0)["states"]["step"].values.tolist() == list(range(5))


def test_prune__that_is_only_asked_changes_nothing(run):
    files_before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    asked = wdyn.prune(run, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files_before
    done = wdyn.prune(run)
    assert (asked.rows, asked.attempts) == (done.rows, done.attempts)
    assert 0.5 < asked.nbytes / done.nbytes < 2


def test_prune__a_run_goes_on_after_it(oracle, run):
    wdyn.prune(run)
    record(oracle, run, range(8, 14), resumed_from=8)
    assert oracle.steps_of(run)["/states"] == [*range(9), *range(8, 14)]
    assert wdyn.open_run(run)["states"]["step"].values.tolist() == list(range(14))
    wdyn.prune(run)
    assert oracle.steps_of(run)["/states"] == list(range(14))


def test_prune__twice_finds_nothing_more(run):
    wdyn.prune(run)
    before = shown(run)
    assert wdyn.prune(run).rows == {}
    assert_same(run, before)


def test_prune__of_a_run_in_which_all_was_superseded(oracle, place):
    record(oracle, place, range(6))
    record(oracle, place, range(1), resumed_from=0)
    before = shown(place)
    assert wdyn.prune(place).rows["states"] == 6
    assert_same(place, before)


def test_prune__keeps_a_column_that_came_late(oracle, place):
    record(oracle, place, range(2))
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 2}) as writer:
        for step in range(3, 9):
            writer.append(oracle.batch(step, count=4, declare=oracle.declaration(4, known=3) if step == 3 else None))
    record(oracle, place, (6, 7), resumed_from=6, count=4)
    before = shown(place)
    wdyn.prune(place)
    assert_same(place, before)
    oracle.steps_of(place)


def test_prune__refuses_a_run_that_is_written(oracle, run):
    before = weigh(run)
    with oracle.writer(run, resume=True, attempt={"resumed_from_step": 8}) as writer:
        with pytest.raises(RunLocked, match="this very process"):
            wdyn.prune(run)
        writer.abandon()
    assert weigh(run) == before


def test_prune__holds_the_run_while_it_lasts_and_lets_go(oracle, run, monkeypatch):
    exchange = files.exchange

    def look(beside, place):
        for _ in range(2):  # before the two have changed places, and after
            code = "import sys; from pathlib import Path; from wdyn.store.lock import Lock; Lock(Path(sys.argv[1]))"
            done = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=False)
            assert "is being written by process" in done.stderr
            exchange(beside, place)
        exchange(beside, place)

    monkeypatch.setattr(files, "exchange", look)
    wdyn.prune(run)
    record(oracle, run, (8, 9), resumed_from=8)


@pytest.mark.parametrize("at_once", [True, False])
def test_prune__killed_at_any_moment_loses_nothing(oracle, place, monkeypatch, at_once, tmp_path):
    """At each rename, and at every 80th of the other operations that change a file, the process ends once."""
    run = place
    record(oracle, run, range(3))
    record(oracle, run, range(1, 3), resumed_from=1)
    before, original = shown(run), Path(shutil.copytree(run, tmp_path / "original"))
    if not at_once:
        monkeypatch.setattr(files, "_call_libc", lambda *_: (_ for _ in ()).throw(OSError("not there")))
        monkeypatch.setattr(files, "make_durable", lambda *_: None)
    counter = Kill()
    for module, name in ((os, "rename"), (files, "exchange")):
        counter.arm(monkeypatch, module, name, every=1)
    for module, name in ((os, "link"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"), (files, "write")):
        counter.arm(monkeypatch, module, name, every=80)
    finished = False
    while not finished:
        shutil.rmtree(run)
        shutil.copytree(original, run)
        for name in (".pruning", ".pruning.old"):
            shutil.rmtree(run.with_name(run.name + name), ignore_errors=True)
        finished = counter.ends(lambda: wdyn.prune(run))
        if not run.exists():  # between the two renames of a system that cannot exchange folders
            assert not at_once
            assert wdyn.prune(run).rows == {}
        assert_same(run, before)
        wdyn.prune(run)
        assert_same(run, before)
        assert not run.with_name(run.name + ".pruning").exists()
    assert counter.kills >= 4


class Killed(BaseException):
    """What ends the process."""


class Kill:
    """Ends a call at each of the places that are armed, one after the other."""

    def __init__(self):
        self.kills, self._at, self._seen, self._armed = 0, 0, 0, False
        self._calls = {}

    def arm(self, monkeypatch, module, name, *, every):
        real, calls = getattr(module, name), self._calls.setdefault(name, [0])

        def call(*args, **kwargs):
            if self._armed:
                calls[0] += 1
                if calls[0] % every == 0:
                    self._seen += 1
                    if self._seen == self._at + 1:
                        self._armed = False
                        raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    def ends(self, call):
        """Call it, and tell whether it came to its end."""
        self._seen, self._armed = 0, True
        for calls in self._calls.values():
            calls[0] = 0
        try:
            call()
        except Killed:
            self._at += 1
            self.kills += 1
            return False
        finally:
            self._armed = False
        return True


def test_prune__tells_of_a_file_that_is_damaged_and_leaves_the_run(run):
    (file,) = (run / "scalars" / "loss").glob("c.0")
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    before = weigh(run)
    with pytest.raises(DamagedRun, match=r"scalars/loss/c\.0 cannot be read back: .*Repair"):
        wdyn.prune(run)
    assert weigh(run) == before


def test_prune__of_no_run_is_refused(tmp_path):
    with pytest.raises(NotARun, match="No run at"):
        wdyn.prune(tmp_path / "nothing")


def test_prune__an_error_of_the_disk_is_told_and_leaves_the_run(run, monkeypatch):
    before = shown(run)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(CannotRecord, match=r"could not be pruned: .*No space left on device.* still there"):
        wdyn.prune(run)
    monkeypatch.undo()
    assert_same(run, before)


def test_prune__copies_where_the_file_system_knows_no_links(oracle, run, monkeypatch):
    def cannot(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", cannot)
    before = shown(run)
    wdyn.prune(run)
    assert_same(run, before)
    record(oracle, run, (8, 9), resumed_from=8)


def test_superseded__weighs_a_shared_file_by_its_rows(run):
    from wdyn.store.root import read_root
    from wdyn.store.superseded import Superseded

    sizes = [file.stat().st_size for file in (run / "weights").rglob("value/c.*")]
    gone = Superseded(run, read_root(run))
    assert gone.nbytes() > np.mean(sizes) * 10 * 2 * 0.9
