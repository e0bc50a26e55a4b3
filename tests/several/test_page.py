"""Do the programs of the page on several processes run, and record what it says?"""

from pathlib import Path

import pytest

import wdyn
from diffs import diffs_of, side

DIFFS = diffs_of(Path(__file__).parents[2] / "docs" / "processes.md")


def test_page__has_the_programs_that_are_tried():
    assert list(DIFFS) == ["Several processes", "Do the copies agree?"]


@pytest.mark.parametrize("heading", DIFFS)
def test_page__programs_record_one_run(heading, launch, tmp_path):
    ends = launch("documented", ranks=2, folder=tmp_path, program=side(DIFFS[heading], "+"))
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert run["statistics/weights"]["step"].values.tolist() == [0, 4]
    assert [end.told for end in ends] == [[], []]
    if heading == "Several processes":
        assert all(end.value > 10 for end in ends)  # so many parameters are DTensors
        assert "replicas_differ" not in run["states"]
    else:
        assert int(run["states"]["replicas_differ"].isel(step=0).max()) == 0


def test_page__first_program_trains_without_what_it_adds(launch, tmp_path):
    launch("documented", ranks=2, folder=tmp_path, program=side(DIFFS["Several processes"], "-"))
    assert not (tmp_path / "run.zarr").exists()
