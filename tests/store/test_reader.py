"""Is a run opened lazily, as labelled arrays, and its damage told?"""

import re

import numpy as np
import pytest

import wdyn
from wdyn.errors import DamagedRun


@pytest.fixture
def run(oracle, place):
    with oracle.writer(place) as writer:
        for step in range(3):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    return place


def flip(file, at=0):
    """Flip one bit of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def test_open_run__shows_bits_as_values(oracle, run):
    value = wdyn.open_run(run)[f"weights/{oracle.BITS}/value"]
    assert value.dtype == np.float32
    assert value.attrs["bits_of"] == "bfloat16"
    expected = (oracle.weights(2)[oracle.BITS].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(value.sel(step=2).values, expected)
    np.testing.assert_array_equal(value[[2, 0], 1:3].values[0], expected[1:3])


@pytest.mark.parametrize("chunks", [{}, "auto", {"step": 1}])
def test_open_run__gives_dask_arrays_when_asked(oracle, run, chunks):
    value = wdyn.open_run(run, chunks=chunks)[f"weights/{oracle.BITS}/value"]
    assert value.chunks is not None
    if chunks == {"step": 1}:
        assert value.chunks[0] == (1, 1, 1)
    np.testing.assert_array_equal(value.values, wdyn.open_run(run)[f"weights/{oracle.BITS}/value"].values)


def test_open_run__reads_no_weights_and_no_statistics(oracle, run):
    for file in [*run.glob("weights/*/value/c.*"), *run.glob("statistics/*/mean/c.*")]:
        flip(file)
    opened = wdyn.open_run(str(run))
    assert opened.attrs["path"] == str(run)
    assert opened["statistics/weights"].sizes == {"step": 3, "parameter": 3}
    with pytest.raises(DamagedRun, match=r"statistics/weights/mean cannot be read back at steps 0 to 2: .*checksum"):
        opened["statistics/weights/mean"].load()


def test_every_file__is_guarded_by_a_checksum(oracle, run):
    """A flipped bit in any chunk of any array is told by zarr itself, when that array is read."""
    import xarray as xr

    chunks = [file for file in run.rglob("c.*") if file.is_file()]
    assert len(chunks) > 20
    for file in chunks:
        whole = file.read_bytes()
        flip(file, at=len(whole) // 2)
        with pytest.raises(ValueError, match="checksum"):
            xr.open_zarr(run, group=str(file.parent.parent.relative_to(run)), chunks=None).load()
        file.write_bytes(whole)


@pytest.mark.parametrize("file", ["states/step/c.0", "parameters/parameter/c.0", "parts/part/c.0"])
def test_open_run__tells_of_a_damaged_label(run, file):
    flip(run / file)
    with pytest.raises(DamagedRun, match=rf"run\.zarr cannot be opened: .*checksum does not fit.*{file}"):
        wdyn.open_run(run)


def test_every_chunk__is_told_by_name_when_it_is_damaged(run):
    chunks = [file for file in run.rglob("c.*") if file.is_file()]
    assert len(chunks) > 20
    for file in chunks:
        whole = file.read_bytes()
        flip(file, at=len(whole) // 2)
        with pytest.raises(DamagedRun, match=re.escape(str(file))):
            wdyn.open_run(run).load()
        file.write_bytes(whole)


def test_lost_rows__show_as_nan(oracle, run):
    (run / "statistics/weights/mean/c.0.0").unlink()
    (run / "statistics/weights/zeros/c.0.0").unlink()
    statistics = wdyn.open_run(run)["statistics/weights"]
    assert np.isnan(statistics["mean"].values).all()
    assert np.isnan(statistics["zeros"].values).all()
