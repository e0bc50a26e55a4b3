"""Is what a killed writer left behind kept out of the rows that follow?"""

import numpy as np
import xarray as xr

from wdyn.rows import Batch, Row


def abandoned(writer):
    """Free the lock without a commit, as a kill does."""
    writer.abandon()


def test_array_that_begins_late__shows_nothing_of_a_killed_writer(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
    killed = oracle.writer(place, resume=True, attempt={"resumed_from_step": 1})
    for step in range(1, 600):  # a whole chunk of `ghost` reaches the disk, and is never committed
        killed.append(Batch(step, (Row("scalars", step, oracle.scalars(step) | {"ghost": np.array(13.0)}),)))
    abandoned(killed)
    assert (place / "scalars/ghost/c.0").exists()
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as writer:
        for step in range(1, 515):
            writer.append(Batch(step, (Row("scalars", step, oracle.scalars(step)),)))
        writer.append(Batch(515, (Row("scalars", 515, oracle.scalars(515) | {"ghost": np.array(1.0)}),)))
    ghost = xr.open_zarr(place, group="scalars")["ghost"].values
    assert np.isnan(ghost[:-1]).all()
    assert ghost[-1] == 1.0


def test_column_that_comes_later__shows_nothing_of_a_killed_writer(oracle, place):
    def scalars(step, lr):
        return Batch(step, (Row("scalars", step, {"lr": np.asarray(lr, dtype=np.float64)}),))

    with oracle.writer(place) as writer:
        writer.append(scalars(0, [1.0]))
    killed = oracle.writer(place, resume=True, attempt={"resumed_from_step": 1})
    for step in range(1, 600):
        killed.append(scalars(step, np.full(17, 13.0)))  # needs a second column of chunks
    abandoned(killed)
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as writer:
        for step in range(1, 515):
            writer.append(scalars(step, [1.0]))
        writer.append(scalars(515, np.full(17, 2.0)))
    lr = xr.open_zarr(place, group="scalars")["lr"].values
    assert (lr[:515, 0] == 1.0).all()
    assert np.isnan(lr[:515, 1:]).all()
    assert (lr[515] == 2.0).all()


def test_sweep__deletes_only_what_no_committed_row_needs(oracle, place):
    with oracle.writer(place) as writer:
        for step in range(3):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    garbage = [
        place / f"weights/{oracle.LAYERED}/value/c.3.0.0.0",
        place / f"weights/{oracle.LAYERED}/value/c.1.0.0.0.partial",
        place / "statistics/weights/mean/c.1.0",
        place / "statistics/weights/mean/c.0.1",
        place / "weights/never-committed-0009/value/c.0.0",
        place / "scalars/zarr.json.partial",
    ]
    mine = [place / "notes.txt", place / "c.0", place / "weights/c.notes", place / "parameters/README"]
    for path in (*garbage, *mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"garbage")
    oracle.writer(place, resume=True).abandon()
    assert not any(path.exists() for path in garbage)
    assert all(path.read_bytes() == b"garbage" for path in mine)
    assert {path: path.read_bytes() for path in before} == before


def test_new_run__begins_where_a_writer_was_killed_before_its_first_row(oracle, place):
    killed = oracle.writer(place)
    for step in range(600):
        killed.append(Batch(step, (Row("scalars", step, {"ghost": np.array(13.0)}),)))
    abandoned(killed)
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
    assert oracle.steps_of(place)["/scalars"] == [0]
    assert not (place / "scalars/ghost/c.0").exists()


def test_row_behind_the_last_committed_one__shows_nothing_of_a_killed_writer(oracle, place):
    """The unfinished chunk was replaced, and the writer killed before it published what is new in it."""
    with oracle.writer(place) as writer:
        writer.append(Batch(0, (Row("scalars", 0, {"loss": np.array(1.0), "ghost": np.array(1.0)}),)))
    root = (place / "zarr.json").read_bytes()
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as killed:
        killed.append(Batch(1, (Row("scalars", 1, {"loss": np.array(13.0), "ghost": np.array(13.0)}),)))
    (place / "zarr.json").write_bytes(root)
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as writer:
        writer.append(Batch(1, (Row("scalars", 1, {"loss": np.array(2.0)}),)))
    scalars = xr.open_zarr(place, group="scalars")
    np.testing.assert_array_equal(scalars["loss"], [1.0, 2.0])
    np.testing.assert_array_equal(scalars["ghost"], [1.0, np.nan])
