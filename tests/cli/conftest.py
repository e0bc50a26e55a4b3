"""A run on disk, and analyzers that say known things of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from click.testing import CliRunner

from wdyn.analysis.machinery import Analyzer
from wdyn.cli import main
from wdyn.findings import Finding, Severity
from wdyn.testing import make_run


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A small run on disk, made once."""
    path = tmp_path_factory.mktemp("original") / "run.zarr"
    make_run(to=path)
    return path


@pytest.fixture
def saved(original, tmp_path):
    """The path of a small run, for one test alone."""
    return Path(shutil.copytree(original, tmp_path / "run.zarr"))


@pytest.fixture
def wdyn(tmp_path, monkeypatch):
    """Call the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def shell(tmp_path):
    """Call it as a shell does: a process of its own, its output piped."""

    def call(*arguments, **environment):
        command = [sys.executable, "-m", "wdyn", *map(str, arguments)]
        settings = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
        encoding = settings["PYTHONIOENCODING"]
        return subprocess.run(command, capture_output=True, encoding=encoding, cwd=tmp_path, env=settings, timeout=120)

    return call


@pytest.fixture
def found(monkeypatch):
    """Let every run have one finding of the severity that is given."""

    def plant(severity):
        def check(result):
            yield Finding("ONE001", severity, "wte.weight is wide.", advice="Make it narrow.")

        one = Analyzer("one", "ONE", "Is one well?", lambda run: xr.Dataset({"x": 1.0}), check, {"ONE001": "Wide."})
        monkeypatch.setattr("wdyn.analysis.catalogue.analyzers", lambda: (one,))

    plant(Severity.WARNING)
    return plant
