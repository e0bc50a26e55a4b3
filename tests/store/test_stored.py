"""Is a stored array read when it is indexed, by any process, and does an error say what is damaged, and when?"""

import json
import os
import pickle

import numpy as np
import pytest
import xarray as xr
import zarr
from xarray.core import indexing

from wdyn.errors import DamagedRun
from wdyn.store.root import read_root
from wdyn.store.stored import StoredArray


@pytest.fixture
def run(oracle, place):
    with oracle.writer(place) as writer:
        for step in (0, 10, 20):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    return place


def stored(run, name):
    return StoredArray(run, name, read_root(run).nodes[name])


def test_stored_array__goes_to_another_process_without_its_values(oracle, run):
    array = stored(run, f"weights/{oracle.LAYERED}/value")
    sent = pickle.dumps(array)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent).read(), array.read())


def test_files__hold_what_lies_on_disk(run):
    assert stored(run, "scalars/step").files() == ((run / "scalars/step/c.0").read_bytes(),)


@pytest.mark.parametrize("spoil", ["missing", "pipe", "large"])
def test_files__are_left_to_read_where_they_are_not_as_they_should_be(run, spoil):
    file = run / "scalars/step/c.0"
    file.unlink()
    if spoil == "pipe":
        os.mkfifo(file)
        assert stored(run, "scalars/step").files() == (b"",)  # without waiting for a writer
        return
    if spoil == "large":
        with file.open("wb") as sparse:
            sparse.truncate(2**40)
    assert stored(run, "scalars/step").files() is None


@pytest.mark.parametrize("wrong", [{"shape": [2**60]}, {"chunk_grid": {"configuration": {"chunk_shape": [0]}}}])
def test_files__are_not_looked_for_where_metadata_claims_too_much(run, wrong):
    node = read_root(run).nodes["scalars/step"]
    assert StoredArray(run, "scalars/step", {**node, **wrong}).files() is None


def test_stored_array__shows_what_was_not_recorded_as_nan(run):
    assert stored(run, "statistics/weights/zeros").dtype == np.float64
    (run / "statistics/weights/zeros/c.0.0").unlink()
    assert np.isnan(stored(run, "statistics/weights/zeros").read()).all()


@pytest.mark.parametrize(
    ("name", "file", "when"),
    [
        ("weights/{LAYERED}/value", "c.1.0.0.0", " at step 10: "),
        ("statistics/weights/mean", "c.0.0", " at steps 0 to 20: "),
        ("scalars/loss", "c.0", " at steps 0 to 20: "),
        ("scalars/step", "c.0", ": "),
        ("parameters/path", "c.0", ": "),
    ],
)
def test_stored_array__tells_what_is_damaged(oracle, run, name, file, when):
    name = name.format(LAYERED=oracle.LAYERED)
    (run / name / file).write_bytes(b"damaged")
    with pytest.raises(DamagedRun, match=rf"^{name} cannot be read back{when}.*The file is .*{name}/{file}$"):
        stored(run, name).read()


def test_stored_array__tells_what_is_damaged_even_if_the_steps_are(oracle, run):
    name = f"weights/{oracle.LAYERED}"
    for file in ("value/c.1.0.0.0", "step/c.0"):
        (run / name / file).write_bytes(b"damaged")
    with pytest.raises(DamagedRun, match=rf"^{name}/value cannot be read back: .*c\.1\.0\.0\.0$"):
        stored(run, f"{name}/value").read()


@pytest.fixture
def foreign(run):
    """An array in a run, with a codec that is zarr's alone, as (run, name, values)."""
    values = np.arange(30.0).reshape(6, 5)
    folder = run / "scalars/odd"
    zarr.create_array(str(folder), data=values, chunks=(2, 5), dimension_names=("step", "x"))
    root = json.loads((run / "zarr.json").read_bytes())
    root["consolidated_metadata"]["metadata"]["scalars/odd"] = json.loads((folder / "zarr.json").read_bytes())
    (run / "zarr.json").write_text(json.dumps(root))
    return run, "scalars/odd", values


def test_stored_array__of_other_codecs_is_refused(foreign):
    run, name, _ = foreign
    with pytest.raises(DamagedRun, match=r"^scalars/odd cannot be read back: it is encoded in a way that no run is"):
        stored(run, name).read()


def test_stored_array__tells_of_damaged_metadata_when_it_is_read(run):
    node = read_root(run).nodes["scalars/loss"]
    array = StoredArray(run, "scalars/loss", {**node, "codecs": []})
    with pytest.raises(DamagedRun, match=r"^scalars/loss cannot be read back: its metadata is damaged: IndexError"):
        array.read()


def test_stored_array__has_no_more_rows_than_it_has(run):
    lazy = xr.Variable(("step", "p"), indexing.LazilyIndexedArray(stored(run, "statistics/weights/mean")))
    with pytest.raises(IndexError, match="out of range: there are 3"):
        lazy[5].load()
