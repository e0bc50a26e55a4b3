"""What holds for every test: the same hypothesis settings, one thread, no window."""

import os

# Read by torch and matplotlib when they are imported, which is after this file.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

from pathlib import Path

import pytest
from hypothesis import settings

# A loaded machine is no reason to fail, so no deadline for one example.
settings.register_profile("wdyn", deadline=None, print_blob=True)
settings.load_profile("wdyn")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a run may go."""
    return tmp_path / "run.zarr"
