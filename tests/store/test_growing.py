"""Do the arrays of a group grow together, whatever is added when?"""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wdyn.errors import DamagedRun
from wdyn.store import files, metadata
from wdyn.store.disk import Disk
from wdyn.store.growing import RowGroup

CHUNK = 4


def published(disk, group):
    """Write what is in memory, and put it in its place."""
    group.flush()
    disk.publish(f"{group.folder}.json", b"{}")


def read(folder, members):
    """What plain zarr reads, with the lengths that the group tells."""
    for name, node in members.items():
        files.replace(f"{folder / name / metadata.FILE}", metadata.encode(node))
    return {name: zarr.open_array(str(folder / name), mode="r")[...] for name in members}


def expected(rows, names, columns):
    """The same, built naively: a table of what was appended, the rest NaN or -1."""
    whole = {
        "step": np.array([row["step"] for row in rows], np.int64),
        "attempt": np.array([row["attempt"] for row in rows], np.int64),
    }
    for name in names:
        if name.startswith("scalar"):
            whole[name] = np.array([row["values"].get(name, np.nan) for row in rows])
            continue
        count = name.startswith("count")
        filled = np.full((len(rows), columns), -1 if count else np.nan, np.int64 if count else np.float64)
        for at, row in enumerate(rows):
            value = row["values"].get(name, ())
            filled[at, : len(value)] = value
        whole[name] = filled
    return whole


@st.composite
def histories(draw):
    """Rows with arrays that come and go and get more columns, and places where the writer starts again or commits."""
    history, columns = [], draw(st.integers(1, 3))
    for step in range(draw(st.integers(1, 14))):
        columns += draw(st.sampled_from([0, 0, 0, 1, 4]))
        names = draw(st.sets(st.sampled_from(["scalar a", "scalar b", "mean", "count"])))
        values = {
            name: float(step)
            if name.startswith("scalar")
            else np.arange(columns, dtype=np.int64 if name == "count" else np.float64) + step
            for name in sorted(names)
        }
        then = draw(st.sampled_from(["", "", "flush", "restart"]))
        history.append({"step": step, "attempt": step // 3, "values": values, "then": then})
    return history


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(histories(), st.integers(1, 3))
def test_group__holds_what_was_appended(history, chunk_columns):
    with tempfile.TemporaryDirectory() as place:
        folder, disk = Path(place) / "group", Disk(Path(place))
        group = RowGroup(folder, disk=disk, column_dim="parameter", chunk_columns=chunk_columns, chunk_rows=CHUNK)
        for row in history:
            group.append(row["step"], row["attempt"], row["values"])
            if row["then"]:
                published(disk, group)
            if row["then"] == "restart":
                group = RowGroup.restored(
                    folder, group.members(), disk=disk, column_dim="parameter", chunk_columns=chunk_columns
                )
        published(disk, group)
        names = {name for row in history for name in row["values"]}
        columns = max((len(value) for row in history for value in row["values"].values() if np.ndim(value)), default=0)
        found = read(folder, group.members())
        wanted = expected(history, names, columns)
        assert found.keys() == wanted.keys()
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 32, 33, 255, 256, 257])
@pytest.mark.parametrize("columns", [1, 130, 5000])
def test_group__is_restored_at_every_border_of_chunks(tmp_path, rows, columns):
    disk = Disk(tmp_path)
    group = RowGroup(tmp_path / "g", disk=disk, column_dim="parameter", chunk_columns=columns)
    for step in range(rows):
        group.append(step, 0, {"mean": np.full(columns, float(step)), "loss": -float(step)})
    published(disk, group)
    again = RowGroup.restored(tmp_path / "g", group.members(), disk=disk, column_dim="parameter")
    assert again.members() == group.members()
    again.append(rows, 1, {"mean": np.full(columns, float(rows)), "loss": -float(rows)})
    published(disk, again)
    found = read(tmp_path / "g", again.members())
    np.testing.assert_array_equal(found["step"], np.arange(rows + 1))
    np.testing.assert_array_equal(found["attempt"], [0] * rows + [1])
    np.testing.assert_array_equal(found["loss"], -np.arange(rows + 1.0))
    np.testing.assert_array_equal(found["mean"], np.repeat(np.arange(rows + 1.0)[:, None], columns, axis=1))


def test_group__keeps_the_true_name_of_an_array(tmp_path):
    disk = Disk(tmp_path)
    group = RowGroup(tmp_path / "g", disk=disk)
    group.append(0, 0, {"loss_train": 1.0}, long_names={"loss_train": "loss/train"})
    published(disk, group)
    again = RowGroup.restored(tmp_path / "g", group.members(), disk=disk)
    assert again.members()["loss_train"]["attributes"] == {"long_name": "loss/train"}


def test_group__refuses_a_damaged_tail(tmp_path):
    disk = Disk(tmp_path)
    group = RowGroup(tmp_path / "g", disk=disk)
    group.append(0, 0, {"loss": 1.0})
    published(disk, group)
    file = tmp_path / "g/loss/c.0"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedRun, match=r"loss.c\.0 cannot be read back: checksum does not fit"):
        RowGroup.restored(tmp_path / "g", group.members(), disk=disk)


@pytest.mark.parametrize("name", ["loss", "mean"])
def test_group__refuses_a_tail_that_was_lost_and_says_what_to_do(tmp_path, name):
    disk = Disk(tmp_path)
    group = RowGroup(tmp_path / "g", disk=disk, column_dim="parameter", columns=2)
    group.append(0, 0, {"loss": 1.0, "mean": np.ones(2), "late": np.nan})
    published(disk, group)
    RowGroup.restored(tmp_path / "g", group.members(), disk=disk)  # that "late" has no file is as it should be
    (file,) = (tmp_path / "g" / name).glob("c.*")
    file.unlink()
    with pytest.raises(DamagedRun, match=rf"{file} cannot be read back: it is gone.*wdyn repair {tmp_path}$"):
        RowGroup.restored(tmp_path / "g", group.members(), disk=disk)


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_group__takes_several_rows_as_it_takes_them_one_by_one(tmp_path, before, count):
    values = {"lr": np.arange(2.0 * count).reshape(count, 2), "loss": np.arange(float(count)) - 1}
    values["loss"][0] = np.nan
    found = []
    for at_once in (True, False):
        folder, disk = tmp_path / str(at_once), Disk(tmp_path)
        group = RowGroup(folder, disk=disk, column_dim="group", chunk_columns=3, chunk_rows=4)
        for step in range(before):
            group.append(step, 0, {"loss": -1.0})
        steps = range(before, before + count)
        if at_once:
            group.extend(steps, 1, values, long_names={"loss": "a/b"})
        for step in () if at_once else steps:
            one = {name: value[step - before] for name, value in values.items()}
            group.append(step, 1, one, long_names={"loss": "a/b"})
        published(disk, group)
        found.append((group.members(), read(folder, group.members())))
    (members, several), (other, singly) = found
    assert members == other
    assert several.keys() == singly.keys() == {"step", "attempt", "lr", "loss"}
    for name, array in several.items():
        np.testing.assert_array_equal(array, singly[name], err_msg=name)
    np.testing.assert_array_equal(several["loss"][before:], values["loss"])


@pytest.mark.parametrize("restart", [False, True])
def test_array_of_which_nothing_was_recorded__has_no_chunk_until_something_is(tmp_path, monkeypatch, restart):
    """Rows of it are committed by then, so that its first chunk gets into its place by rename only."""
    folder, disk = tmp_path / "g", Disk(tmp_path)
    group = RowGroup(folder, disk=disk, column_dim="parameter", columns=2)
    group.append(0, 0, {"mean": np.array([np.nan, np.nan]), "zeros": np.array([-1, -1]), "lr": np.array(np.nan)})
    published(disk, group)
    assert sorted(path.name for path in folder.iterdir()) == ["attempt", "step"]
    if restart:
        group = RowGroup.restored(folder, group.members(), disk=disk, column_dim="parameter")
    found = read(folder, group.members())
    np.testing.assert_array_equal(found["mean"], [[np.nan, np.nan]])
    np.testing.assert_array_equal(found["zeros"], [[-1, -1]])
    written, write = [], files.write
    monkeypatch.setattr(files, "write", lambda path, *a, **k: (written.append(path), write(path, *a, **k))[1])
    group.append(1, 0, {"mean": np.array([1.0, np.nan]), "zeros": np.array([-1, 0]), "lr": np.array(0.5)})
    published(disk, group)
    assert f"{folder}/mean/c.0.0.partial" in written
    assert not [path for path in written if path.startswith(f"{folder}/") and not path.endswith(".partial")]
    found = read(folder, group.members())
    np.testing.assert_array_equal(found["mean"], [[np.nan, np.nan], [1.0, np.nan]])
    np.testing.assert_array_equal(found["zeros"], [[-1, -1], [-1, 0]])
    np.testing.assert_array_equal(found["lr"], [np.nan, 0.5])


def test_members__that_are_alike_are_one_object(tmp_path):
    group = RowGroup(tmp_path / "g", disk=Disk(tmp_path), column_dim="parameter", columns=2)
    values = {"mean": np.zeros(2), "std": np.ones(2), "zeros": np.zeros(2, dtype=np.int64), "a_b": np.array(1.0)}
    group.append(0, 0, values, long_names={"a_b": "a/b"})
    group.flush()
    members = group.members()
    assert members["mean"] is members["std"]
    assert members["mean"]["data_type"] == "float64"
    assert members["zeros"]["data_type"] == "int64"
    assert members["a_b"]["attributes"] == {"long_name": "a/b"}
    assert "long_name" not in members["step"]["attributes"]
