"""Do runs grow as they may: later attempts, more parameters, new quantities?"""

import numpy as np
import pytest
import xarray as xr

import wdyn
from wdyn.rows import Batch, Row
from wdyn.store.place import last_step


def attempt(oracle, place, steps, *, resumed_from=-1, declare=None, **options):
    """Record one attempt over these steps."""
    with oracle.writer(place, resume=resumed_from >= 0, attempt={"resumed_from_step": resumed_from}) as writer:
        for number, step in enumerate(steps):
            writer.append(oracle.batch(step, declare=declare if number == 0 else None, **options))


def test_attempts__follow_the_effective_lineage(oracle, place):
    attempt(oracle, place, range(6), declare=oracle.declaration())
    attempt(oracle, place, range(3, 5), resumed_from=3)
    attempt(oracle, place, range(4, 8), resumed_from=4)
    run = wdyn.open_run(place)
    for group in ("states", "scalars", "statistics/weights", f"weights/{oracle.LAYERED}"):
        assert run[group]["step"].values.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert run[group]["attempt"].values.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
        assert "attempt" in run[group].coords
    assert wdyn.open_run(place, attempt=0)["states"]["step"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert wdyn.open_run(place, attempt=1)["states"]["attempt"].values.tolist() == [0, 0, 0, 1, 1]
    assert wdyn.open_run(place, attempt=2)["states"].identical(run["states"])
    assert oracle.steps_of(place)["/states"] == [0, 1, 2, 3, 4, 5, 3, 4, 4, 5, 6, 7]
    assert last_step(place) == 7
    with pytest.raises(wdyn.WdynError, match="has attempts 0 to 2, not 3"):
        wdyn.open_run(place, attempt=3)
    with pytest.raises(wdyn.WdynError, match="has attempts 0 to 2, not -1"):
        wdyn.open_run(place, attempt=-1)


def test_attempt__may_hide_all_that_was_before(oracle, place):
    attempt(oracle, place, range(3), declare=oracle.declaration())
    attempt(oracle, place, range(1), resumed_from=0)
    assert wdyn.open_run(place)["states"]["attempt"].values.tolist() == [1]


@pytest.mark.parametrize("rows", [15, 16, 255, 256, 257])
def test_attempt__continues_at_borders_of_chunks(oracle, place, rows):
    attempt(oracle, place, range(rows), declare=oracle.declaration(), snapshot=False)
    attempt(oracle, place, range(rows, rows + 2), resumed_from=rows, snapshot=False)
    assert oracle.steps_of(place)["/statistics/weights"] == list(range(rows + 2))


def test_attempt__may_bring_a_new_quantity(oracle, place):
    attempt(oracle, place, range(2), declare=oracle.declaration())
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 2}) as writer:
        writer.append(Batch(2, (Row("statistics/updates", 2, {"mean": np.arange(3.0)}),)))
    updates = wdyn.statistics(wdyn.open_run(place), "updates")
    assert updates["parameter"].values.tolist() == ["h.0.w", "h.1.w", "b"]
    np.testing.assert_array_equal(updates["mean"], [[0.0, 1.0, 2.0]])


def test_series__that_begins_late_is_missing_before(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration(), snapshot=False))
        for step in range(1, 520):
            writer.append(Batch(step, (Row("scalars", step, oracle.scalars(step)),)))
        writer.append(Batch(520, (Row("scalars", 520, oracle.scalars(520) | {"late": np.array(1.5)}),)))
        writer.commit()
        late = xr.open_zarr(place, group="scalars")["late"].values
    assert np.isnan(late[:520]).all()
    assert late[520] == 1.5


def test_parameters__that_come_later_have_nothing_before(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        writer.commit()
        writer.append(oracle.batch(3, declare=oracle.declaration(4, known=3), count=4))
        writer.commit()
        steps = oracle.steps_of(place)
    assert steps["/statistics/weights"] == [0, 3]
    assert steps[f"/weights/{oracle.LATE}"] == [3]
    run = wdyn.open_run(place)
    assert wdyn.parameters(run)["parameter"].values.tolist() == ["h.0.w", "h.1.w", "b", "late"]
    assert np.isnan(wdyn.statistics(run)["zeros"].sel(step=0, parameter="late"))


@pytest.mark.parametrize("resume", [False, True])
def test_parameters__may_be_declared_before_their_first_row(oracle, place, resume):
    """A table that is longer than the rows are wide would leave the run unopenable."""
    writer = oracle.writer(place)
    writer.append(oracle.batch(0, declare=oracle.declaration()))
    writer.commit()
    if resume:
        writer.close()
        writer = oracle.writer(place, resume=True, attempt={"resumed_from_step": 1})
    writer.append(Batch(1, declaration=oracle.declaration(4, known=3)))
    writer.commit()
    assert wdyn.statistics(wdyn.open_run(place)).sizes["parameter"] == 4
    writer.close()
    assert wdyn.statistics(wdyn.open_run(place)).sizes["parameter"] == 4


def test_many_parameters__are_resumed(oracle, place):
    names = np.array([f"p.{number}" for number in range(1500)])
    table = {"parameter": names, "layer": np.arange(1500)}

    def row(step):
        return Row("statistics/weights", step, {"mean": np.arange(1500.0) + step})

    with oracle.writer(place) as writer:
        writer.append(Batch(0, (row(0),), declaration=oracle.Declaration(table)))
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 1}) as writer:
        writer.append(Batch(1, (row(1), Row("states", 1, {"group": np.arange(1500)}))))
    run = wdyn.open_run(place)
    np.testing.assert_array_equal(run["statistics/weights"]["mean"], [np.arange(1500.0), np.arange(1500.0) + 1])
    assert run["states"]["parameter"].values.tolist() == names.tolist()
    assert run["parameters"]["layer"].values.tolist() == list(range(1500))


def test_run_without_a_snapshot__closes_and_opens(oracle, place):
    attempt(oracle, place, range(2), declare=oracle.declaration(), snapshot=False)
    assert oracle.steps_of(place)["/states"] == [0, 1]
    assert xr.open_zarr(place, group=f"weights/{oracle.LAYERED}").sizes["step"] == 0
    assert xr.open_zarr(place, group="parameters").sizes["parameter"] == 3


def test_group__is_readable_alone_while_the_run_is_written(oracle, place):
    with oracle.writer(place) as writer:
        writer.append(oracle.batch(0, declare=oracle.declaration()))
        writer.commit()
        for group in ("parameters", "statistics/weights", "scalars", "states", f"weights/{oracle.BITS}"):
            assert xr.open_zarr(place / group).sizes == xr.open_zarr(place, group=group).sizes


def test_closed_run__is_right_without_consolidated_metadata(oracle, place):
    attempt(oracle, place, range(3), declare=oracle.declaration())
    with xr.open_zarr(place, group="scalars", consolidated=False) as scalars:
        assert oracle.check(scalars.load(), "/scalars") == [0, 1, 2]


NAMES = ["../../evil", "a/b", "K", "k", "zarr.json", "<script>alert(1)</script>", "x" * 300, " ", ".", "..", "é ü",
         "a-b", "a_b", "A B", "c.0", "step", "nul", "\\", "C:\\x", "`$(reboot)`", "%2e%2e"]  # fmt: skip


def test_names__come_back_as_they_were_and_never_become_paths(oracle, tmp_path):
    place = tmp_path / "in" / "run.zarr"
    addresses = [oracle.address(name, name, -1, (2,)) for name in NAMES]
    arrays = oracle.plan_arrays(addresses)
    held = {name: array.slug for array in arrays for name in array.names}
    table = {
        "parameter": np.array(NAMES),
        "path": np.array(NAMES),
        "weights": np.array([held[name] for name in NAMES]),
        "tied_to": np.array([""] * len(NAMES)),
    }
    snapshot = {array.slug: np.full(2, number, np.float32) for number, array in enumerate(arrays)}
    states = Row("states", 0, {"shares_with": np.arange(len(NAMES))})
    with oracle.writer(place) as writer:
        declared = oracle.Declaration(table, tuple(arrays))
        writer.append(Batch(0, (states,), oracle.Snapshot(0, snapshot), declared))
    run = wdyn.open_run(place)
    assert wdyn.parameters(run)["parameter"].values.tolist() == NAMES
    state = wdyn.state_dict(run, step=0)
    assert list(state) == NAMES
    assert [tensor.tolist() for tensor in state.values()] == [[float(number)] * 2 for number in range(len(NAMES))]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in place.parent.iterdir()] == ["run.zarr"]
    folders = [path.name for path in (place / "weights").iterdir() if path.is_dir()]
    assert len({folder.lower() for folder in folders}) == len(NAMES)
    assert all(len(folder) < 64 and folder.isascii() for folder in folders)
