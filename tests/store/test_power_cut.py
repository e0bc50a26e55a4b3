"""Is every acknowledged row there after a power cut, whatever the disk did with what was not flushed?"""

import importlib.util
import random
from pathlib import Path

import pytest

from wdyn.rows import Batch
from wdyn.store import files
from wdyn.store.disk import Disk
from wdyn.store.documents import Documents
from wdyn.store.root import is_run
from wdyn.store.writer import Writer


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def disks():
    """The module that knows what a disk may keep."""
    return loaded("operations")


def small(oracle, step, *, late=False, declare=None):
    """A batch of few files."""
    count = 4 if late else 3
    given = oracle.batch(step, declare=declare, count=count, snapshot=step % 2 == 0)
    return Batch(step, tuple(row for row in given.rows if row.group != "relations")[::3], given.snapshot, declare)


def record(oracle, journal, place):
    """Write a run with all that may happen to one, and continue it; note what is acknowledged."""
    with oracle.writer(place) as writer:
        writer.append(small(oracle, 0, declare=oracle.declaration()))
        journal.tell(writer.commit())
        writer.append(small(oracle, 1))
        writer.append(small(oracle, 2))
        journal.tell(writer.commit())
        writer.append(small(oracle, 3, late=True, declare=oracle.declaration(4, known=3)))
        journal.tell(writer.commit())
        writer.append(small(oracle, 4, late=True))
        writer.roll_back()  # as after a disk that was full: the batch is taken once more
        writer.append(small(oracle, 4, late=True))
    journal.tell(4)
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 4}) as writer:
        writer.append(small(oracle, 5, late=True))
    journal.tell(5)


def check(oracle, cut, place, *, resume=False):
    """Lay a disk out, and see that it holds whole rows, at least those that were acknowledged."""
    cut.lay_out(place)
    try:
        if not is_run(place):
            assert cut.told == -1
            return
        rows = whole(oracle, place, cut.told)
        if resume and rows:
            with oracle.writer(place, resume=True, attempt={"resumed_from_step": rows[-1]}) as writer:
                writer.append(small(oracle, rows[-1] + 1, late=rows[-1] >= 2, declare=after(oracle, rows[-1])))
            whole(oracle, place, rows[-1] + 1)
    except Exception as error:
        raise AssertionError(f"a reader finds {error!r}") from error


def after(oracle, step):
    return oracle.declaration(4, known=3) if step == 2 else None


def whole(oracle, place, told):
    steps = oracle.steps_of(place)
    rows = steps["/statistics/weights"]
    assert rows == list(range(len(rows)))
    assert rows[-1] >= told
    assert all(found == rows for group, found in steps.items() if not group.startswith("/weights"))
    assert steps[f"/weights/{oracle.LAYERED}"] == [step for step in rows if step % 2 == 0]
    return rows


def cut_everywhere(oracle, disks, tmp_path, monkeypatch, *, at_once=True, seed=0, stride=1):
    """Cut the power after each operation of a recording; give the count of disks that were looked at."""
    with monkeypatch.context() as patch:
        journal = disks.Journal(tmp_path / "run.zarr", patch, at_once=at_once)
        record(oracle, journal, tmp_path / "run.zarr")
    chance, count = random.Random(seed), 0
    for cut in disks.cuts(journal.operations, chance=chance, stride=stride):
        check(oracle, cut, tmp_path / "left.zarr", resume=chance.random() < 0.1)
        count += 1
    return count


@pytest.mark.parametrize("at_once", [True, False], ids=["syncfs", "fsync"])
def test_power_cut__leaves_whole_rows_after_any_operation(oracle, disks, tmp_path, monkeypatch, at_once):
    assert cut_everywhere(oracle, disks, tmp_path, monkeypatch, at_once=at_once, stride=60) >= 16


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at_once", [True, False], ids=["syncfs", "fsync"])
def test_power_cut__leaves_whole_rows_after_every_operation(oracle, disks, tmp_path, monkeypatch, at_once, seed):
    assert cut_everywhere(oracle, disks, tmp_path, monkeypatch, at_once=at_once, seed=seed) >= 400


def hasty(self):
    documents = Documents(self._tree.nodes())
    files.replace(f"{self.path}/zarr.json", documents.root(self._root()))
    self.committed = self._last_step
    self._tree.flush()
    self._disk.publish(f"{self.path}/later.json", b"{}")
    self._tree.settle(documents)
    return self.committed


def eager(self, path, data):
    for partial, place in self._waiting.items():
        files.rename(partial, place)
    files.make_durable(self.root, [*self._written, *self._waiting.values()])
    files.replace(path, data)
    self.forget()


MUTANTS = {
    "publishes before it writes": (Writer, "commit", hasty),
    "renames before it flushes": (Disk, "publish", eager),
    "flushes nothing": (files, "make_durable", lambda root, written: None),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant__is_caught_by_a_power_cut(oracle, disks, tmp_path, monkeypatch, name):
    monkeypatch.setattr(*MUTANTS[name])
    with pytest.raises(AssertionError, match="a reader finds"):
        for seed in range(20):
            cut_everywhere(oracle, disks, tmp_path / str(seed), monkeypatch, seed=seed, stride=7)
