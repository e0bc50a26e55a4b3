"""What starts a program that is watched, and what looks at the run that it left."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import wdyn

PATIENCE = 120


class Nursery:
    """The process that others are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **order) -> int:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


@dataclass
class Program:
    """A program that runs, and what it says."""

    nursery: Nursery
    pid: int
    out: Path
    err: Path
    code: int | None = None

    @property
    def lines(self) -> list[str]:
        """What it said so far, in whole lines."""
        return self.out.read_text().split("\n")[:-1] if self.out.exists() else []

    @property
    def errors(self) -> str:
        return self.err.read_text() if self.err.exists() else ""

    def until_it_says(self, word: str, *, count: int = 1) -> None:
        """Wait until it has said so many lines with a word in them."""
        limit = time.monotonic() + PATIENCE
        while sum(word in line for line in self.lines) < count:
            assert time.monotonic() < limit, f"it never said {word}, but {self.lines} and {self.errors}"
            assert Path(f"/proc/{self.pid}/stat").read_text().split()[2] != "Z", self.errors
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; give what it returned, or less than 0 if a signal ended it."""
        if self.code is None:
            self.code = self.nursery.ask(wait=self.pid)
        return self.code


@pytest.fixture(scope="session")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.end()


@pytest.fixture
def start(nursery: Nursery, place: Path, tmp_path: Path):
    """Start a program with what `nursery.py` defines; what still runs at the test's end is killed."""
    started: list[Program] = []

    def start(code: str, *, to: Path = place) -> Program:
        out, err = (tmp_path / f"{len(started)}.{kind}" for kind in ("out", "err"))
        order = {"code": textwrap.dedent(code), "place": str(to), "out": str(out), "err": str(err)}
        started.append(Program(nursery, nursery.ask(**order), out, err))
        return started[-1]

    yield start
    for program in started:
        if program.code is None:
            program.signal(signal.SIGKILL)
            program.wait()


@pytest.fixture
def whole(place: Path):
    """Give the steps of a run, once all its rows are seen to hold what those of their steps do."""

    def whole(path: Path = place) -> list[int]:
        run = wdyn.open_run(path)
        means = wdyn.statistics(run)["mean"].sel(parameter="weight")
        steps = means["step"].values
        np.testing.assert_array_equal(steps, np.arange(len(steps)))
        np.testing.assert_array_equal(means.values, steps)
        np.testing.assert_array_equal(run["states"]["step"].values, steps)
        kept = wdyn.select(run, path="weight")
        np.testing.assert_array_equal(kept.mean(("fan_out", "fan_in")).values, kept["step"].values)
        scalars = run.children.get("scalars", {})  # those of a step are written with the next row
        if "loss" in scalars:
            logged = scalars["loss"].dropna("step")
            np.testing.assert_array_equal(logged.values, logged["step"].values)
        return steps.tolist()

    return whole
