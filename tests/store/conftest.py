"""Fixtures of the store's tests."""

import importlib.util
from pathlib import Path

import pytest

from wdyn.store import files


@pytest.fixture(scope="session")
def oracle():
    """The module that knows what each row must hold."""
    spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path):
    return tmp_path / "run.zarr"


@pytest.fixture
def flushed():
    """Ask for a disk that is really flushed."""


@pytest.fixture(autouse=True)
def _unflushed(request, monkeypatch):
    """Spare the disk: nothing here needs to survive a power cut, and flushing is most of the time."""
    if "flushed" not in request.fixturenames:
        monkeypatch.setattr(files, "_sync_file_system", lambda root: True)
        monkeypatch.setattr(files, "sync", lambda path: None)
