"""Trainings that go on by as many steps as they are told to: here, and in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import wdyn

WRITER = """
import sys
from conftest import Training

with Training(sys.argv[1]) as training:
    print("entered", flush=True)
    for line in sys.stdin:
        training.step(int(line))
        print("written", flush=True)
"""


class Training:
    """A loop in this process."""

    def __init__(self, place):
        torch.manual_seed(0)
        self._model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.1)
        self._place = place
        self.begin(resume=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def begin(self, *, resume):
        """Enter the block, or enter one that continues it."""
        about = {"to": self._place, "every": 1, "snapshots": 1, "resume": resume}
        self._watch = wdyn.watch(self._model, self._optimizer, **about)
        self._watch.__enter__()

    def step(self, count):
        """Train so many steps, until they are committed."""
        for _ in range(count):
            self._optimizer.zero_grad()
            loss = self._model(torch.ones(2, 4)).square().mean()
            loss.backward()
            self._watch.log(loss=loss)
            self._optimizer.step()
        self._watch.flush()

    def end(self):
        """Leave the block in order."""
        self._watch.close()


class Elsewhere:
    """The same in another process."""

    def __init__(self, place):
        command = [sys.executable, "-c", WRITER, str(place)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        found = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, **pipes, env={**os.environ, **found})
        assert self._process.stdout.readline() == "entered\n"

    def step(self, count):
        """Train so many steps, until they are committed."""
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "written\n"

    def end(self):
        """Kill it, as a machine does that loses power."""
        self._process.kill()
        self._process.wait(timeout=60)
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def train():
    """Start trainings that end with the test."""
    begun = []

    def start(place):
        begun.append(Training(place))
        return begun[-1]

    yield start
    for one in begun:
        one.end()


@pytest.fixture
def elsewhere(place):
    """A training in another process, which is killed with the test."""
    training = Elsewhere(place)
    yield training
    training.end()
