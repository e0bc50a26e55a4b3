"""Is a run of every format that was ever written still read, to the last bit?"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import wdyn
from wdyn import bins, schema
from wdyn.store.verifying import verify

GOLDEN = Path(__file__).parent.parent / "golden"
FORMATS = sorted(file.stem for file in GOLDEN.glob("run-format-*.zip"))


@pytest.fixture(params=FORMATS)
def golden(request, tmp_path):
    """An old run, and what must be read from it."""
    with zipfile.ZipFile(GOLDEN / f"{request.param}.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "run.zarr", json.loads((GOLDEN / f"{request.param}.json").read_text())


def numbers(values):
    """Numbers of JSON, where null is what was not recorded."""
    return np.array(values, dtype=np.float64)


def test_formats__are_all_here():
    assert [f"run-format-{number}" for number in range(1, schema.FORMAT + 1)] == FORMATS


def test_golden_run__is_read_as_it_was_written(golden):
    place, expected = golden
    run = wdyn.open_run(place)
    for group in ("states", "scalars", "statistics/weights", "histograms/weights"):
        assert run[group]["step"].values.tolist() == expected["steps"]
        assert run[group]["attempt"].values.tolist() == expected["attempt"]
    assert wdyn.parameters(run)["parameter"].values.tolist() == expected["names"]
    for slug, values in expected["weights"].items():
        np.testing.assert_array_equal(run[f"weights/{slug}/value"].values.astype(np.float64), numbers(values))
    np.testing.assert_array_equal(run["statistics/weights/mean"].values, numbers(expected["mean"]))
    counted = run["histograms/weights/count"].values[:, :3, bins.ZERO]
    np.testing.assert_array_equal(counted, numbers(expected["counted_zero"]))
    np.testing.assert_array_equal(run["scalars/loss"].values, numbers(expected["loss"]))
    np.testing.assert_array_equal(run["scalars/lr"].values[:, 0], numbers(expected["lr"]))


def test_golden_run__shows_what_was_superseded_when_asked(golden):
    place, _ = golden
    assert wdyn.open_run(place, attempt=0)["states/step"].values.tolist() == [0, 1, 2, 3]


def test_golden_run__is_whole_and_can_be_continued(golden, oracle):
    place, _ = golden
    assert verify(place).is_whole
    with oracle.writer(place, resume=True, attempt={"resumed_from_step": 4}) as writer:
        writer.append(oracle.batch(5, count=4))
    assert verify(place).is_whole
    assert wdyn.open_run(place)["states/step"].values.tolist() == [0, 1, 2, 3, 4, 5]
