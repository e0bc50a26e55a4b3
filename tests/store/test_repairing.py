"""Does a damaged run become whole, with nothing lost that was whole, and nothing gone for good?"""

import json
import random
import shutil

import numpy as np
import pytest

import wdyn
from wdyn.errors import DamagedRun, NotARun, RunLocked
from wdyn.store.lock import Lock
from wdyn.store.repairing import repair
from wdyn.store.verifying import verify

STEPS = 3


@pytest.fixture(scope="module")
def original(oracle, tmp_path_factory):
    place = tmp_path_factory.mktemp("original") / "run.zarr"
    with oracle.writer(place) as writer:
        for step in range(STEPS):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    return place


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run.zarr")


def content(run):
    """What each file holds, but for what was taken out and who held the lock."""
    files = (file for file in run.rglob("*") if file.is_file())
    held = {file.relative_to(run).as_posix(): file.read_bytes() for file in files}
    return {name: data for name, data in held.items() if not name.startswith((".wdyn/", "removed/"))}


def is_whole_and_resumes(oracle, run):
    """Whether the run verifies, opens, can be continued, and verifies then."""
    assert verify(run).is_whole
    opened = wdyn.open_run(run).load()
    steps = opened["states"]["step"].values
    last = int(steps.max(initial=0))
    with oracle.writer(run, resume=True, attempt={"resumed_from_step": last}) as writer:
        writer.append(oracle.batch(last + 1))
    assert verify(run).is_whole
    assert wdyn.open_run(run)["states"]["step"].values.max() == last + 1


def test_repair__of_a_whole_run_changes_nothing(run):
    before = content(run)
    done = repair(run)
    assert (done.damages, done.removed) == ((), None)
    assert content(run) == before


def test_repair__cuts_back_to_the_last_whole_row_and_leaves_other_groups(oracle, run):
    value = f"weights/{oracle.LAYERED}/value"
    lost = (run / value / "c.2.0.0.0").read_bytes()
    (run / value / "c.2.0.0.0").write_bytes(lost[:-1])
    done = repair(run)
    assert dict(done.rows) == {f"weights/{oracle.LAYERED}": (3, 2)}
    assert (done.removed / value / "c.2.0.0.0").read_bytes() == lost[:-1]
    assert not (run / value / "c.2.0.0.0").exists()
    opened = wdyn.open_run(run)
    assert opened[f"weights/{oracle.LAYERED}/step"].values.tolist() == [0, 1]
    assert opened[f"weights/{oracle.BITS}/step"].values.tolist() == [0, 1, 2]
    for step in range(2):
        np.testing.assert_array_equal(opened[value].sel(step=step).values, oracle.weights(step)[oracle.LAYERED])
    note = json.loads((done.removed / "note.json").read_text())
    assert note["rows"] == {f"weights/{oracle.LAYERED}": {"before": 3, "after": 2}}
    assert "c.2.0.0.0" in note["why"][0]
    is_whole_and_resumes(oracle, run)


def test_repair__shows_what_is_damaged_before_the_last_whole_row_as_missing(oracle, run):
    value = f"weights/{oracle.LAYERED}/value"
    (run / value / "c.1.0.0.0").unlink()
    done = repair(run)
    assert (dict(done.rows), done.blanked) == ({}, (f"{value}/c.1.0.0.0",))
    shown = wdyn.open_run(run)[value]
    assert np.isnan(shown.sel(step=1).values).all()
    np.testing.assert_array_equal(shown.sel(step=2).values, oracle.weights(2)[oracle.LAYERED])
    is_whole_and_resumes(oracle, run)


def test_repair__keeps_the_layers_of_a_shard_that_are_whole(oracle, tmp_path, monkeypatch):
    monkeypatch.setattr("wdyn.store.weights._INNER_BYTES", 40)
    run = tmp_path / "run.zarr"
    with oracle.writer(run) as writer:
        for step in range(2):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    file = run / f"weights/{oracle.LAYERED}/value/c.0.0.0.0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    repair(run)
    shown = wdyn.open_run(run)[f"weights/{oracle.LAYERED}/value"].sel(step=0).values
    expected = oracle.weights(0)[oracle.LAYERED]
    damaged = np.isnan(shown)
    assert 0 < damaged.sum() < damaged.size
    np.testing.assert_array_equal(shown[~damaged], expected[~damaged])
    assert verify(run).is_whole


@pytest.mark.parametrize("name", ["step", "attempt", "shares_with"])
def test_repair__leaves_no_row_of_which_the_step_is_not_known(oracle, run, name):
    file = next((run / "states" / name).glob("c.*"))
    file.write_bytes(b"")
    assert dict(repair(run).rows) == {"states": (3, 0)}
    assert wdyn.open_run(run)["statistics/weights"].sizes["step"] == 3
    is_whole_and_resumes(oracle, run)


@pytest.mark.parametrize("table", ["parameters/parameter", "states/parameter", "parts/part"])
def test_repair__writes_labels_anew_from_their_copies(oracle, run, table):
    before = wdyn.open_run(run)
    names = before["parameters/parameter"].values.tolist(), before["parts/part"].values.tolist()
    (run / table / "c.0").write_bytes(b"x")
    assert repair(run).rebuilt == (table,)
    after = wdyn.open_run(run)
    assert (after["parameters/parameter"].values.tolist(), after["parts/part"].values.tolist()) == names
    is_whole_and_resumes(oracle, run)


@pytest.mark.parametrize("column", ["path", "role", "stack", "layer", "shape", "dims", "dtype", "numel", "weights"])
def test_repair__tells_columns_of_a_table_from_what_weights_say_of_themselves(run, column):
    before = wdyn.parameters(wdyn.open_run(run)) if column != "weights" else None
    (run / f"parameters/{column}/c.0").unlink()
    assert repair(run).rebuilt == (f"parameters/{column}",)
    assert verify(run).is_whole
    if before is not None:
        assert wdyn.parameters(wdyn.open_run(run))[column].values.tolist() == before[column].values.tolist()


@pytest.mark.parametrize("how", ["gone", "torn", "flipped"])
def test_repair__puts_the_root_together_from_what_the_groups_say(oracle, run, how):
    file = run / "zarr.json"
    before, whole = wdyn.open_run(run).load(), file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2] if how == "torn" else whole.replace(b"Oracle", b"Oracla"))
    done = repair(run)
    assert [one.file for one in done.damages] == ["zarr.json"]
    assert how == "gone" or (done.removed / "zarr.json").exists()
    after = wdyn.open_run(run).load()
    for path in before.groups[1:]:
        assert after[path].to_dataset().identical(before[path].to_dataset())
    is_whole_and_resumes(oracle, run)


def test_repair__gives_up_where_no_metadata_is_left(run):
    for file in run.rglob("zarr.json"):
        file.write_bytes(b"")
    before = content(run)
    with pytest.raises(
        DamagedRun, match=r"zarr\.json is damaged, and its groups do not say either.*nothing was changed"
    ):
        repair(run)
    assert content(run) == before


def test_repair__of_metadata_of_a_group(oracle, run):
    (run / "states/zarr.json").write_bytes(b"{")
    done = repair(run)
    assert [one.file for one in done.damages] == ["states/zarr.json"]
    is_whole_and_resumes(oracle, run)


def test_repair__says_what_it_would_do_and_does_not(oracle, run):
    (run / f"weights/{oracle.BITS}/value/c.2.0").write_bytes(b"")
    before = content(run)
    told = repair(run, dry_run=True)
    assert dict(told.rows) == {f"weights/{oracle.BITS}": (3, 2)}
    assert content(run) == before
    assert not (run / "removed").exists()
    assert dict(repair(run).rows) == dict(told.rows)


@pytest.mark.parametrize("dry_run", [False, True])
def test_repair__refuses_a_run_that_is_being_written(run, dry_run):
    (run / "states/step/c.0").write_bytes(b"")
    lock = Lock(run)
    try:
        with pytest.raises(RunLocked, match="is being written by process"):
            repair(run, dry_run=dry_run)
    finally:
        lock.release()


def test_repair__refuses_what_is_no_run(tmp_path):
    with pytest.raises(NotARun, match="it does not exist"):
        repair(tmp_path / "gone")


def spoiled(run, seed):
    """Spoil up to five files of a run."""
    rng = random.Random(seed)
    files = sorted(file for file in run.rglob("*") if file.is_file() and file.parent.name != ".wdyn")
    for file in rng.sample(files, rng.randint(1, 5)):
        data = bytearray(file.read_bytes())
        how = rng.choice(["flip", "cut", "empty", "zero", "gone"])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes({"flip": data, "cut": data[: len(data) // 2], "zero": bytes(len(data))}.get(how, b""))
        if how == "gone":
            file.unlink()


@pytest.mark.parametrize("seed", range(6))
def test_repair__makes_any_run_whole(oracle, run, seed):
    spoiled(run, seed)
    assert not verify(run).is_whole
    repair(run)
    is_whole_and_resumes(oracle, run)


@pytest.mark.long
def test_repair__makes_200_runs_whole(oracle, original, tmp_path):
    for seed in range(6, 206):
        run = shutil.copytree(original, tmp_path / f"{seed}.zarr")
        spoiled(run, seed)
        repair(run)
        is_whole_and_resumes(oracle, run)
        shutil.rmtree(run)
