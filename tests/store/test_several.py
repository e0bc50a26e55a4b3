"""Do the shares of several processes become one run, whole at every commit, whoever is late, ends or is gone?"""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from wdyn.arrays import WeightArray
from wdyn.errors import CannotRecord
from wdyn.rows import Batch, Declaration, Row, Rows, Share, Snapshot
from wdyn.store import background as module
from wdyn.store import files, lateness, spooling
from wdyn.store.assembling import Assembler
from wdyn.store.background import BackgroundWriter
from wdyn.store.lateness import await_others
from wdyn.store.reader import open_run
from wdyn.store.root import read_root
from wdyn.store.spool import Spool, read_block, write_block
from wdyn.store.spooling import Spooler
from wdyn.store.trouble import LateProcess
from wdyn.store.verifying import verify
from wdyn.store.weights import arrays_in
from wdyn.store.writer import Writer

ROWS, COLUMNS, LAYERS = 7, 3, 2
GRID = WeightArray(
    "grid",
    "h.w",
    "linear",
    "root",
    ("h.0.w", "h.1.w"),
    (0, 1),
    (ROWS, COLUMNS),
    ("fan_out", "fan_in"),
    "float32",
    (3, 3),
)
SCATTERED = WeightArray("odd", "e", "linear", "root", ("e",), (), (ROWS,), ("fan_out",), "bfloat16")
BOUNDS = ((0, 3), (3, 6), (6, 7))
"""The rows that each of three processes holds of the array in a grid."""
ODD_BOUNDS = ((0, 2), (2, 5), (5, 7))


def weights_at(step):
    return {
        "grid": np.arange(LAYERS * ROWS * COLUMNS, dtype=np.float32).reshape(LAYERS, ROWS, COLUMNS) + step,
        "odd": (np.arange(ROWS) + 16000 + step).astype(np.uint16),
    }


def share_of(rank, step, *, ordinal=0):
    """What a process measured: its rank, to be summed up."""

    def rows(others):
        total = rank + sum(int(one) for one in others)
        return (Row("statistics/weights", step, {"mean": np.full(3, total + step / 8)}),)

    return Share(step, ordinal, True, lambda: str(rank).encode(), rows, 64)


def batch_of(rank, step, *, snapshot=True, declare=False):
    held = weights_at(step)
    first, behind = BOUNDS[rank]
    odd, odd_end = ODD_BOUNDS[rank]
    kept = Snapshot(
        step,
        {"grid": held["grid"][:, first:behind], "odd": held["odd"][odd:odd_end]},
        starts={"grid": (first, 0), "odd": (odd,)},
        slugs=("grid", "odd"),
        scattered=frozenset({"odd"}),
    )
    table = {"parameter": np.array(["h.0.w", "h.1.w", "e"])}
    return Batch(
        step,
        snapshot=kept if snapshot else None,
        declaration=Declaration(table, (GRID, SCATTERED)) if declare else None,
        share=share_of(rank, step),
    )


@pytest.fixture
def lead(place):
    """The first process: what it writes to."""
    writer = Writer(place, about={}, attempt={"resumed_from_step": -1})
    spool = Spool(place, attempt=0)
    spool.begin()
    assembler = Assembler(writer, spool, processes=3)
    yield assembler
    assembler.abandon()


@pytest.fixture
def others(lead, place):
    """The second and the third process."""
    return [Spooler(Spool(place, attempt=0), rank=rank, before=(), compressed=False) for rank in (1, 2)]


def give(others, step, **options):
    for rank, other in enumerate(others, start=1):
        other.append(batch_of(rank, step, **options))


def left_by(place, rank):
    return sorted(file.name for file in (place / ".wdyn/ranks/0" / str(rank)).iterdir())


def check(place, steps, *, snapshots=None):
    run = open_run(place)
    rows = run["statistics/weights"]
    assert rows["step"].values.tolist() == list(steps)
    np.testing.assert_array_equal(rows["mean"].values[:, 0], [3 + step / 8 for step in steps])
    for slug, stored in (("grid", "float32"), ("odd", "uint16")):
        kept = xr.open_zarr(place, group=f"weights/{slug}", chunks=None)
        assert kept["step"].values.tolist() == list(steps if snapshots is None else snapshots)
        for at, step in enumerate(kept["step"].values.tolist()):
            values = kept["value"].isel(step=at).values
            assert values.dtype == stored
            np.testing.assert_array_equal(values, weights_at(step)[slug])


def test_assembler__makes_one_run_of_what_all_give(lead, others, place):
    for step in (0, 4, 9):
        give(others, step, declare=step == 0)
        batch = batch_of(0, step, declare=step == 0)
        assert lead.late(batch) == ""
        lead.append(batch)
        lead.commit()
    check(place, (0, 4, 9))
    for other in others:
        other.close()
    lead.close()
    check(place, (0, 4, 9))
    assert verify(place).damages == ()
    assert not (place / ".wdyn" / "ranks" / "0").exists()


def test_assembler__names_who_is_late(lead, others):
    others[1].append(batch_of(2, 0, declare=True))
    assert lead.late(batch_of(0, 0, declare=True)) == "process 1 has given nothing of step 0"
    assert lead.late(batch_of(0, 3)) == "processes 1, 2 have given nothing of step 3"
    assert lead.late(Batch(5)) == ""


def test_assembler__leaves_out_a_step_of_which_one_gave_nothing(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    give(others, 2)
    others[0].append(batch_of(1, 1))  # out of order: it spoke of step 2 before
    lead.append(batch_of(0, 1))
    lead.append(batch_of(0, 2))
    lead.commit()
    check(place, (0, 2))
    assert lead.lost == {"rows": 1, "snapshots": 1}
    assert "Step 1 is left out: processes 1, 2 have given nothing of it" in lead.news()[0]
    assert lead.news() == []
    assert left_by(place, 1) == left_by(place, 2) == []  # nothing of it waits for ever


def test_assembler__takes_one_that_ended_for_one_that_gives_nothing(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    others[0].close()
    others[1].append(batch_of(2, 1))
    assert lead.late(batch_of(0, 1)) == ""
    lead.append(batch_of(0, 1))
    lead.commit()
    check(place, (0,))


def test_assembler__drops_a_snapshot_that_one_did_not_keep(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    others[0].append(batch_of(1, 1, snapshot=False))
    others[1].append(batch_of(2, 1))
    lead.append(batch_of(0, 1))
    lead.commit()
    check(place, (0, 1), snapshots=(0,))
    assert lead.lost == {"rows": 0, "snapshots": 1}
    assert left_by(place, 1) == left_by(place, 2) == []


def test_assembler__appends_again_what_was_rolled_back(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    lead.commit()
    give(others, 1)
    lead.append(batch_of(0, 1))
    assert lead.roll_back() is False
    lead.append(batch_of(0, 1, snapshot=False))  # as the queue gives it again
    give(others, 2)
    lead.append(batch_of(0, 2))
    lead.commit()
    check(place, (0, 1, 2), snapshots=(0, 2))


def test_assembler__survives_blocks_that_are_gone(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    give(others, 1)
    next((place / ".wdyn/ranks/0/1").glob("*1-*.grid")).unlink()
    lead.append(batch_of(0, 1))
    lead.commit()
    check(place, (0, 1), snapshots=(0,))


def test_assembler__leaves_out_a_step_of_which_one_gave_something_else(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    weights_alone = batch_of(1, 1)
    others[0].append(replace(weights_alone, share=replace(weights_alone.share, is_measured=False)))
    others[1].append(batch_of(2, 1))
    lead.append(batch_of(0, 1))
    give(others, 2)
    lead.append(batch_of(0, 2))
    lead.commit()
    check(place, (0, 2))
    assert "process 1 has given nothing of it, or something else" in lead.news()[0]


def test_assembler__keeps_what_it_has_whole_of_a_step_that_is_left_out(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    for other in others:
        other.close()
    logged = Rows("scalars", (0, 1), {"loss": np.array([2.0, 1.0])})
    lead.append(replace(batch_of(0, 2), logged=(logged,)))
    lead.commit()
    check(place, (0,))
    assert open_run(place)["scalars/loss"].values.tolist() == [2.0, 1.0]


def test_spooler__makes_blocks_durable_before_it_tells_of_them(others, monkeypatch):
    done = []
    monkeypatch.setattr(files, "sync", lambda path: done.append(str(path)))
    rename = files.rename
    monkeypatch.setattr(files, "rename", lambda path, to: (done.append(str(to)), rename(path, to)))
    others[0].append(batch_of(1, 0, declare=True))
    assert [name.rpartition(".")[2] for name in done] == ["grid", "odd", "json"]


def test_await_others__has_patience_while_who_is_late_is_at_work(lead, others, place):
    give(others[:1], 0, declare=True)
    folder = place / ".wdyn/ranks/0/2"
    folder.mkdir(parents=True)
    looks = 0

    def write_more():
        nonlocal looks
        looks += 1
        if looks < 40:
            (folder / "000000000000000-000000.grid").write_bytes(bytes(looks))

    with pytest.raises(LateProcess, match="process 2 has given nothing of step 0"):
        await_others(lead, batch_of(0, 0), patience=lambda: 0.3, meanwhile=write_more, at_last=lambda: None)
    assert looks > 40


def test_background__gives_up_soon_when_the_loop_ended_by_an_error(lead, others, place):
    queue = BackgroundWriter(lead, limit_bytes=2**20)
    give(others, 0, declare=True)
    queue.submit(batch_of(0, 0, declare=True))
    queue.submit(batch_of(0, 1))
    queue.be_brief()
    began = time.monotonic()
    queue.close()
    assert time.monotonic() - began < 2 * module._BRIEF_SECONDS + 10  # far from 2 x 30 s
    check(place, (0,))


def test_background__waits_for_others_and_commits_what_is_there(lead, others, place):
    queue = BackgroundWriter(lead, limit_bytes=2**20)
    give(others, 0, declare=True)
    queue.submit(batch_of(0, 0, declare=True))
    queue.submit(batch_of(0, 1))
    while queue.committed < 0:  # step 0 becomes visible while step 1 is waited for
        time.sleep(0.01)
    give(others, 1)
    assert queue.flush() == 1
    for other in others:
        other.close()
    queue.close()
    check(place, (0, 1))
    assert queue.news() == []


def test_background__tells_of_a_dead_process_and_keeps_what_was_whole(lead, others, place):
    queue = BackgroundWriter(lead, limit_bytes=2**20, patience=0.2)
    give(others, 0, declare=True)
    queue.submit(batch_of(0, 0, declare=True))
    others[0].append(batch_of(1, 1))
    queue.submit(batch_of(0, 1))
    queue.flush()
    assert "publishes nothing at the moment: process 2 has given nothing of step 1 for 0 s" in queue.news()[0]
    queue.close()
    assert "process 2 has given nothing of step 1" in " ".join(queue.news())
    check(place, (0,))
    assert queue.lost == {"rows": 1, "snapshots": 1}


def test_background__goes_on_when_a_late_process_is_back(lead, others, place, monkeypatch):
    monkeypatch.setattr("wdyn.store.trouble._FIRST_PAUSE", 0.05)
    queue = BackgroundWriter(lead, limit_bytes=2**20, patience=0.1)
    give(others, 0, declare=True)
    queue.submit(batch_of(0, 0, declare=True))
    queue.submit(batch_of(0, 1))
    queue.flush()
    assert queue.trouble
    give(others, 1)
    until = time.monotonic() + 10
    while queue.trouble and time.monotonic() < until:
        time.sleep(0.01)
    assert queue.flush() == 1
    queue.close()
    check(place, (0, 1))


def test_late_seconds__are_what_the_queue_waits_by_default():
    assert lateness.LATE_SECONDS == 30


def test_spooler__tells_what_the_first_has_committed(lead, others):
    assert others[0].committed == -1
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    lead.commit()
    assert others[0].committed == 0


def test_spooler__sends_nothing_twice(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    lead.commit()
    give(others, 0)
    assert list((place / ".wdyn/ranks/0/1").glob("*.json")) == []


def test_spooler__stops_when_the_run_ended(lead, others):
    lead.close()
    with pytest.raises(CannotRecord, match="process 0 takes nothing more"):
        others[0].append(batch_of(1, 0, declare=True))
    others[0].close()
    assert others[0].is_in_place
    assert list(lead.path.glob(".wdyn/ranks/*")) == []


def test_spooler__is_in_trouble_when_nobody_takes_what_it_gives(others, monkeypatch):
    others[0].append(batch_of(1, 0, declare=True))
    monkeypatch.setattr(spooling, "_TAKEN_SECONDS", 0.0)
    with pytest.raises(LateProcess, match="process 0 has taken nothing for 0 s"):
        others[0].append(batch_of(1, 1))


def test_spool__begins_without_what_earlier_attempts_left(others, place):
    give(others, 0, declare=True)
    Spool(place, attempt=1).begin()
    assert [folder.name for folder in (place / ".wdyn/ranks").iterdir()] == ["1"]


def test_grid__is_read_back_by_a_writer_that_continues_with_one_process(lead, others, place):
    give(others, 0, declare=True)
    lead.append(batch_of(0, 0, declare=True))
    lead.close()
    assert {array.slug: array for array, _ in arrays_in(read_root(place))} == {"grid": GRID, "odd": SCATTERED}
    with Writer(place, about={}, attempt={"resumed_from_step": 0}, resume=True) as writer:
        row = Row("statistics/weights", 5, {"mean": np.full(3, 3 + 5 / 8)})
        writer.append(Batch(5, (row,), Snapshot(5, weights_at(5))))
    check(place, (0, 5))


def test_block__is_read_back_as_it_was_written(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)[:, ::2]
    write_block(str(tmp_path / "block"), values)
    found = read_block(str(tmp_path / "block"))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    assert json.loads((tmp_path / "block").read_bytes().partition(b"\n")[0]) == ["<u2", [2, 2, 4]]
