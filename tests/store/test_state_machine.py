"""Does a run hold exactly what a list would, whatever is done to it, and wherever it is cut off?

A machine appends, commits, fails, crashes and resumes in any order, and keeps beside the run a model of it: the steps
that are committed, and those that are not yet. A crash is the folder as it lies there at one rename.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from wdyn.rows import Batch
from wdyn.store import files
from wdyn.store.documents import Documents
from wdyn.store.root import is_run

FAST = settings(max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
RENAMES = st.integers(0, 30)


class Cut:
    """Does something before the N-th rename, if there are so many."""

    def __init__(self, number, act):
        self.left, self.act, self.rename = number, act, os.replace

    def __enter__(self):
        os.replace = self
        return self

    def __exit__(self, *error):
        os.replace = self.rename

    def __call__(self, path, place):
        self.left -= 1
        if self.left == -1:
            self.act()
        self.rename(path, place)


class Run(RuleBasedStateMachine):
    """A run and its model; `oracle` and `folder` are set by the test."""

    oracle = None
    explored = 0

    def commit_of(self, writer):
        return writer.commit()

    def roll_back_of(self, writer):
        return writer.roll_back()

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wdyn-"))
        self.place = self.folder / "0.zarr"
        self.committed, self.pending = [], []  # (step, whether it has a snapshot)
        self.step, self.crashes, self.declared = -1, 0, False
        self.writer = None

    def teardown(self):
        if self.writer is not None:
            self.writer.abandon()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self):
        resume = is_run(self.place)
        attempt = {"resumed_from_step": self.committed[-1][0] if self.committed else -1}
        self.writer = self.oracle.writer(self.place, resume=resume, attempt=attempt)
        self.declared = bool(self.committed)

    @rule(snapshot=st.booleans())
    def append(self, snapshot):
        self.step += 1
        given = self.oracle.batch(self.step, snapshot=snapshot)
        rows = [row for row in given.rows if row.group in ("statistics/weights", "scalars")]
        declaration = None if self.declared else self.oracle.declaration()
        self.writer.append(Batch(self.step, tuple(rows), given.snapshot, declaration))
        self.declared = True
        self.pending.append((self.step, snapshot))

    @rule()
    def commit(self):
        told = self.commit_of(self.writer)
        self.committed, self.pending = self.committed + self.pending, []
        if self.committed:
            assert told in (-1, self.committed[-1][0])

    @precondition(lambda self: self.pending)
    @rule(number=RENAMES, closing=st.booleans())
    def crash(self, number, closing):
        """Take the folder as it is at a rename of a commit for all that is left of the run."""
        self.crashes += 1
        left = self.folder / f"{self.crashes}.zarr"
        with Cut(number, lambda: shutil.copytree(self.place, left)) as cut:
            if closing:
                self.writer.close()
            else:
                self.commit_of(self.writer)
        if cut.left >= 0:  # it came through
            shutil.copytree(self.place, left)
            self.committed, self.pending = self.committed + self.pending, []
        self.writer.abandon()
        shutil.rmtree(self.place)
        self.place = left
        self.take_what_is_there()
        self.begin()

    @precondition(lambda self: self.pending)
    @rule(number=RENAMES)
    def fail(self, number):
        """Let a rename of a commit fail, and go on from what is committed."""

        def full():
            raise OSError(28, "No space left on device")

        with Cut(number, full):
            try:
                self.commit_of(self.writer)
            except OSError:
                landed = self.roll_back_of(self.writer)
            else:
                landed = True
        if landed:
            self.committed = self.committed + self.pending
        self.pending = []
        self.declared = bool(self.committed)
        self.read()

    @rule()
    def resume(self):
        self.writer.close()
        self.committed, self.pending = self.committed + self.pending, []
        self.begin()

    @rule()
    def read(self):
        type(self).explored += 1
        if not self.committed and not is_run(self.place):
            return
        steps = self.oracle.steps_of(self.place)
        rows = [step for step, _ in self.committed]
        for group in ("/statistics/weights", "/scalars"):
            assert steps.get(group, []) == rows
        kept = [step for step, snapshot in self.committed if snapshot]
        for slug in (self.oracle.LAYERED, self.oracle.BITS):
            assert steps.get(f"/weights/{slug}", []) == kept

    def take_what_is_there(self):
        """Of what is not acknowledged all is there or nothing; see which."""
        if is_run(self.place) and self.pending:
            steps = self.oracle.steps_of(self.place).get("/scalars", [])
            if steps and steps[-1] == self.pending[-1][0]:
                self.committed = self.committed + self.pending
        self.pending = []
        self.read()


class HastyRun(Run):
    """Publishes before it writes."""

    def commit_of(self, writer):
        documents = Documents(writer._tree.nodes())
        files.replace(f"{writer.path}/zarr.json", documents.root(writer._root()))
        writer.committed = writer._last_step
        writer._tree.flush()
        writer._disk.publish(f"{writer.path}/later.json", b"{}")
        writer._tree.settle(documents)
        return writer.committed


class ForgetfulRun(Run):
    """Goes back without reading what is committed."""

    def roll_back_of(self, writer):
        writer._disk.forget()
        writer._half_taken = False
        return False


def test_run__is_what_the_model_says(oracle, monkeypatch):
    monkeypatch.setattr(Run, "oracle", oracle)
    monkeypatch.setattr(Run, "explored", 0)
    run_state_machine_as_test(Run, settings=FAST)
    assert Run.explored > 10


@pytest.mark.long
def test_run__is_what_the_model_says_at_length(oracle, monkeypatch):
    monkeypatch.setattr(Run, "oracle", oracle)
    run_state_machine_as_test(Run, settings=settings(FAST, max_examples=300, stateful_step_count=50))


@pytest.mark.parametrize("mutant", [HastyRun, ForgetfulRun])
def test_mutant__is_caught(oracle, monkeypatch, mutant):
    monkeypatch.setattr(Run, "oracle", oracle)
    searching = settings(
        FAST,
        max_examples=200,
        stateful_step_count=8,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(mutant, settings=searching)
