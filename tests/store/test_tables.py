"""Do columns of the table come back, and grow at their end?"""

import numpy as np
import pytest
import zarr

from wdyn.errors import DamagedRun
from wdyn.store import files, metadata
from wdyn.store.disk import Disk
from wdyn.store.tables import read_names, write_table


def written(folder, columns):
    """Write a table and its metadata; give the latter."""
    disk = Disk(folder)
    members = write_table(folder, columns, disk=disk, dim="parameter")
    disk.publish(f"{folder}/table.json", b"{}")
    for name, node in members.items():
        files.replace(f"{folder}/{name}/{metadata.FILE}", metadata.encode(node))
    return members


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 2049])
def test_columns__come_back_at_every_border_of_chunks(tmp_path, count):
    columns = {
        "parameter": np.array([f"p.{number}é" for number in range(count)], dtype=np.str_),
        "layer": np.arange(count, dtype=np.int64) - 1,
        "trainable": np.arange(count) % 3 == 0,
        "lower": np.append(np.arange(count - 1.0), np.nan)[:count],
    }
    members = written(tmp_path, columns)
    for name, values in columns.items():
        found = zarr.open_array(str(tmp_path / name), mode="r")
        assert found.shape == tuple(members[name]["shape"]) == (count,)
        np.testing.assert_array_equal(np.asarray(found[...], dtype=values.dtype), values)
    assert members["parameter"]["attributes"] == {"longest": max(map(len, columns["parameter"].tolist()), default=0)}
    assert members["layer"]["attributes"] == {}


def test_column__that_grows_keeps_its_front_for_readers_of_the_old_length(tmp_path):
    old = np.array([f"name {number}" for number in range(1020)])
    new = np.array([f"name {number}" for number in range(1030)])
    written(tmp_path, {"c": old})
    reader = zarr.open_array(str(tmp_path / "c"), mode="r")
    written(tmp_path, {"c": new})
    assert np.asarray(reader[...]).tolist() == old.tolist()
    assert read_names(tmp_path / "c", length=1020).tolist() == old.tolist()
    assert read_names(tmp_path / "c", length=1030).tolist() == new.tolist()


def test_read_names__tells_of_damage(tmp_path):
    written(tmp_path, {"c": np.array(["one", "two"])})
    file = tmp_path / "c/c.0"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedRun, match=r"c\.0 cannot be read back: checksum does not fit"):
        read_names(tmp_path / "c", length=2)
