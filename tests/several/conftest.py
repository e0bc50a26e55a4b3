"""What starts the ranks of a training, and what looks at the run that they left."""

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import wdyn
from several.starting import PATIENCE, Nursery, end_of, torchrun


@pytest.fixture(scope="session")
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.end()


@pytest.fixture(scope="session")
def launch(request, tmp_path_factory):
    """Let all ranks of a group play a scenario; what still runs when patience ends is killed."""

    def launch(scenario, *, ranks, folder=None, by_torchrun=False, killed=(), kill=None, patches=None, **options):
        """Give how each rank ended.

        Parameters
        ----------
        folder
            Where the scenario leaves what it makes.
        by_torchrun
            Whether torchrun starts the ranks, which takes longer.
        killed
            Ranks that may end otherwise than well: without being told here, that is a failure.
        kill
            Which rank is killed from outside, and when.
        patches
            Constants by module and name, and what they are instead.
        """
        folder = folder or tmp_path_factory.mktemp(scenario)
        for old in folder.glob("rank-*"):
            old.unlink()
        order = {"scenario": scenario, "folder": str(folder), "options": options, "patches": patches or {}}
        if by_torchrun:
            codes = torchrun(order, ranks=ranks)
        else:
            nursery = request.getfixturevalue("nursery")
            codes = nursery.wait(nursery.start(order, ranks=ranks), kill=kill)
        ends = [end_of(folder, rank, code) for rank, code in codes.items()]
        told = "".join(f"\n--- rank {rank}: {end}" for rank, end in enumerate(ends))
        assert None not in codes.values(), f"ranks did not end within {PATIENCE} s{told}"
        assert all(end.ended_well for rank, end in enumerate(ends) if rank not in killed), told
        return ends

    return launch


@pytest.fixture(scope="session")
def once(launch, tmp_path_factory):
    """Play a scenario once for all tests, also where several workers run them; give its folder, and how it ended."""
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common

    def once(name, scenario, *, ranks, **options):
        folder = common / "several" / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if not (folder / "played").exists():
                assert not (folder / "begun").exists(), f"{name} failed before, in another test"
                (folder / "begun").touch()
                launch(scenario, ranks=ranks, folder=folder, **options)
                (folder / "played").touch()
        return folder, [end_of(folder, rank, 0) for rank in range(ranks)]

    return once


@pytest.fixture(scope="session")
def whole():
    """Give the steps of a run, once its statistics are seen to be those of its snapshots and its files to be sound.

    All weights of the run must have been snapped and measured at the same steps.
    """

    def whole(path: Path) -> list[int]:
        verified = wdyn.verify(path)
        assert verified.is_whole, verified.lines()
        run = wdyn.open_run(path)
        rows = run["statistics/weights"].to_dataset().load()
        for slug, array in run["weights"].children.items():
            values = array["value"]
            assert values["step"].values.tolist() == rows["step"].values.tolist()
            for name, one in zip(array.attrs["wdyn"]["names"], split(values), strict=True):
                found = rows.sel(parameter=name)
                flat = one.values.astype(np.float64).reshape(one.sizes["step"], -1)
                assert np.isfinite(flat).all(), f"{slug}: a piece of {name} is not there"
                np.testing.assert_allclose(found["mean"], flat.mean(1), rtol=1e-12, atol=1e-15, err_msg=name)
                np.testing.assert_allclose(found["l2"], np.sqrt((flat**2).sum(1)), rtol=1e-12, err_msg=name)
                np.testing.assert_array_equal(found["min"], flat.min(1), err_msg=name)
                np.testing.assert_array_equal(found["count"], flat.shape[1], err_msg=name)
        return rows["step"].values.tolist()

    return whole


def split(values: xr.DataArray) -> list[xr.DataArray]:
    """Give each layer of stacked weights, or the only one."""
    return [values.isel(layer=at) for at in range(values.sizes["layer"])] if "layer" in values.dims else [values]
