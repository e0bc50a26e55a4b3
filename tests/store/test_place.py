"""Is recording refused where it cannot begin, and continued after the right step?"""

import os

import numpy as np
import pytest

from wdyn.errors import CannotRecord, InvalidArgument, NotARun, RunExists, RunLocked
from wdyn.reading.tables import statistics
from wdyn.rows import Batch
from wdyn.store import place as module
from wdyn.store import writer as writer_module
from wdyn.store.held import held_before
from wdyn.store.place import check_place, last_step, open_writer, resume_step
from wdyn.store.reader import open_run
from wdyn.testing import make_run


def held(writer, **asked):
    return held_before(writer.path, writer.arrays, attempt=writer.attempt, **asked)


@pytest.fixture
def run(oracle, place):
    with oracle.writer(place) as writer:
        for step in range(3):
            writer.append(oracle.batch(step, declare=oracle.declaration() if step == 0 else None))
    return place


def begin(place, resume=False, loaded=None):
    writer, _ = open_writer(place, about={"model": "M"}, attempt={"host": "here"}, resume=resume, loaded=loaded)
    return writer


def test_place__that_is_free_is_taken_as_it_is(place):
    assert check_place(str(place), resume=False) == place
    assert check_place(place, resume=True) == place
    assert not place.exists()


def test_place__with_a_run_is_refused_with_the_three_ways_on(run):
    with pytest.raises(RunExists, match=r"continue it with watch\(\.\.\., resume=True\), record elsewhere .*delete it"):
        check_place(run, resume=False)
    for resume in (True, 0, 7):
        assert check_place(run, resume=resume) == run


@pytest.mark.parametrize("resume", [True, False, 3])
def test_place__with_something_else_is_refused(tmp_path, resume):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(InvalidArgument, match="exists and is no run; choose a path that does not exist yet"):
            check_place(path, resume=resume)


def test_place__without_a_run_has_no_step_to_continue_from(place):
    with pytest.raises(NotARun, match="resume=3, but no run is at"):
        check_place(place, resume=3)


def test_place__refuses_a_negative_step(run):
    with pytest.raises(InvalidArgument, match="resume=-1: needed is True, False, or a step"):
        check_place(run, resume=-1)


def test_place__of_a_writer_killed_before_its_first_row_is_free(oracle, place):
    killed = oracle.writer(place)
    killed.append(oracle.batch(0, declare=oracle.declaration()))
    killed.abandon()
    assert check_place(place, resume=False) == place
    begin(place).close()


def test_resume__continues_after_the_right_step(run, place):
    assert resume_step(run, resume=True, loaded=None) == last_step(run) == 2
    assert resume_step(run, resume=True, loaded=1) == 1
    assert resume_step(run, resume=0, loaded=1) == 0
    assert resume_step(run, resume=False, loaded=None) == -1
    assert resume_step(run.with_name("free"), resume=True, loaded=5) == -1


def test_last_step__of_a_run_without_rows_is_0(oracle, place):
    writer = oracle.writer(place)
    writer.append(Batch(0, declaration=oracle.declaration()))
    writer.commit()
    writer.abandon()
    assert last_step(place) == 0
    begin(place, resume=0).close()


@pytest.mark.parametrize(("resume", "loaded", "after"), [(True, None, 2), (True, 1, 1), (0, 1, 0), (False, None, -1)])
def test_writer__says_after_which_step_it_continues(run, resume, loaded, after):
    place = run if after >= 0 else run.with_name("free.zarr")
    writer, step = open_writer(place, about={}, attempt={"host": "here"}, resume=resume, loaded=loaded)
    writer.close()
    attempt = open_run(place).attrs["wdyn"]["attempts"][-1]
    assert step == attempt["resumed_from_step"] == after
    assert attempt["parent"] == (0 if after >= 0 else -1)


def test_writer__continues_after_what_another_wrote_until_it_ended(oracle, run, monkeypatch):
    """The step is read when nobody else can write: else rows of the other that come last would be superseded."""
    lock = writer_module.Lock

    def waits_for_another(path):
        with monkeypatch.context() as patch:
            patch.setattr(writer_module, "Lock", lock)
            with oracle.writer(path, resume=True, attempt={"resumed_from_step": 2}) as other:
                for step in (2, 3, 4):
                    other.append(oracle.batch(step))
        return lock(path)

    monkeypatch.setattr(writer_module, "Lock", waits_for_another)
    writer, step = open_writer(run, about={}, attempt={}, resume=True)
    writer.abandon()
    assert step == 4


def test_writer__is_refused_while_another_writes(run):
    first = begin(run, resume=2)
    with pytest.raises(RunLocked, match="another watch of this very process"):
        begin(run, resume=2)
    first.close()
    begin(run, resume=2).close()


def test_writer__refuses_to_overwrite_a_run(run):
    before = (run / "zarr.json").read_bytes()
    with pytest.raises(RunExists, match="already holds a run"):
        begin(run)
    assert (run / "zarr.json").read_bytes() == before
    begin(run, resume=1).close()  # the refusal held no lock


def test_writer__refuses_to_continue_nothing_and_leaves_no_trace(place):
    with pytest.raises(NotARun, match="it does not exist"):
        begin(place, resume=1)
    assert not place.exists()


def test_writer__tells_of_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotRecord, match=r"Cannot record into .*Needed is a folder that can be written"):
        begin(tmp_path / "file" / "run.zarr")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_writer__tells_of_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CannotRecord, match="Permission denied"):
        begin(tmp_path / "run.zarr")


def test_held_before__gives_what_the_run_holds_that_is_continued(oracle, run):
    writer = begin(run, resume=2)
    before = held(writer, step=2)
    for name, values in oracle.table().items():
        np.testing.assert_array_equal(before.table[name], values)
    assert before.arrays == tuple(oracle.ARRAYS[:2])
    assert before.last_step == 2
    writer.close()


def test_held_before__gives_the_statistics_of_the_step_if_it_has_a_row(tmp_path):
    make_run(tmp_path / "run.zarr", steps=(0, 10))
    with begin(tmp_path / "run.zarr", resume=10) as writer:
        assert held(writer, step=7).statistics == {}
        std = held(writer, step=10).statistics["std"]
        writer.abandon()
    recorded = statistics(open_run(tmp_path / "run.zarr"))["std"].sel(step=10)
    np.testing.assert_array_equal(std, recorded)


def test_held_before__gives_none_for_a_run_that_starts(place):
    writer = begin(place)
    assert held(writer, step=0) is None
    writer.close()
    assert module.FRESH == -1
