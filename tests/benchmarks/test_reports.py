"""Is a run that is made for a benchmark as long as it is said to be, and can it be reported on?"""

from dataclasses import replace
from pathlib import Path

import pytest

import wdyn
from benchmarks.reports import LENGTHS, Length, held, make, report
from benchmarks.subjects import CHAR, parameters_of


@pytest.mark.long
def test_make__gives_a_run_of_the_length_that_was_asked_for(tmp_path: Path) -> None:
    make(Length(replace(CHAR, layers=1, width=8, length=20), rows=37, snapshots=5, seconds=1), tmp_path / "run.zarr")
    assert held(tmp_path / "run.zarr") == "16 parameters, 37 rows, 5 snapshots"
    run = wdyn.open_run(tmp_path / "run.zarr")
    assert run["scalars"]["step"].values.tolist() == run["relations"]["step"].values.tolist() == list(range(37))
    taken = report(tmp_path / "run.zarr")
    assert all(taken[key] > 0 for key in ("seconds", "processor", "page", "peak"))


def test_lengths__have_as_many_parameters_as_they_are_for() -> None:
    assert len(parameters_of(LENGTHS["gpt2-small"].shape)) == 148
    assert len(parameters_of(LENGTHS["long"].shape)) == 2008
