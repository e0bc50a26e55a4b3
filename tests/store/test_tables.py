"""Do columns of the table come back, and grow at their end?"""

import numpy as np
import pytest
import zarr

from wdyn.store.tables import read_names, write_column, write_table


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 2049])
def test_columns__come_back_at_every_border_of_chunks(tmp_path, count):
    columns = {
        "parameter": np.array([f"p.{number}é" for number in range(count)], dtype=np.str_),
        "layer": np.arange(count, dtype=np.int64) - 1,
        "trainable": np.arange(count) % 3 == 0,
    }
    members, written = write_table(tmp_path, columns)
    assert all(path.exists() for path in written)
    for name, values in columns.items():
        found = zarr.open_array(str(tmp_path / name), mode="r")
        assert found.shape == tuple(members[name]["shape"]) == (count,)
        assert np.asarray(found[...]).tolist() == values.tolist()


def test_column__that_grows_keeps_its_front_for_readers_of_the_old_length(tmp_path):
    old = np.array([f"name {number}" for number in range(1020)])
    new = np.array([f"name {number}" for number in range(1030)])
    write_column(tmp_path / "c", old)
    reader = zarr.open_array(str(tmp_path / "c"), mode="r")
    write_column(tmp_path / "c", new)
    assert np.asarray(reader[...]).tolist() == old.tolist()
    assert read_names(tmp_path / "c", length=1020).tolist() == old.tolist()
    assert read_names(tmp_path / "c", length=1030).tolist() == new.tolist()
