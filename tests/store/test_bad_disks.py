"""Does training go on, and recording with it, on disks that are really full, closed to us, or cut off?"""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from wdyn.store import trouble
from wdyn.store.background import BackgroundWriter

PATIENCE = 30
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(trouble, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(trouble, "_FIRST_PAUSE", 0.01)


def call(*command):
    """Run a command of the system; give what it prints, or skip the test where it is refused."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not there")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{' '.join(command[:2])} is refused here: {error.stderr.strip()}")


@contextlib.contextmanager
def mounted(folder, *arguments):
    folder.mkdir(exist_ok=True)
    call("mount", *arguments, str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def until(what):
    limit = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.002)


def begin(oracle, place):
    background = BackgroundWriter(oracle.writer(place), limit_bytes=MEGABYTE)
    background.submit(oracle.batch(0, declare=oracle.declaration()), wait=True)
    assert background.flush() == 0
    return background


def go_on(oracle, background, steps):
    for step in steps:
        background.submit(oracle.batch(step, snapshot=False), wait=True)


def test_full_disk__stops_nothing_for_longer_than_it_is_full(oracle, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as disk:
        background = begin(oracle, disk / "run.zarr")
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        go_on(oracle, background, range(1, 30))
        background.flush()
        until(lambda: background.trouble is not None)
        assert background.committed == 0
        ballast.unlink()
        until(lambda: background.trouble is None)
        go_on(oracle, background, range(30, 33))
        background.close()
        pause, resumed = background.news()
        assert f"cannot write at the moment: {os.strerror(errno.ENOSPC)}" in pause
        assert resumed == "wdyn records again; nothing was lost"
        assert oracle.steps_of(disk / "run.zarr")["/states"] == list(range(33))


@pytest.fixture
def nobody():
    """Be somebody who may not write everywhere; give a folder of theirs."""
    folder = Path(tempfile.mkdtemp(prefix="wdyn-"))
    was = os.geteuid()
    if was == 0:
        folder.chmod(0o777)
        os.seteuid(65534)
    yield folder
    os.seteuid(was)
    shutil.rmtree(folder)


def test_permission__that_is_lost_and_given_back_costs_no_row(oracle, nobody):
    background = begin(oracle, nobody / "run.zarr")
    folders = [path for path in (nobody / "run.zarr").rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    go_on(oracle, background, range(1, 4))
    background.flush()
    until(lambda: background.trouble is not None)
    for folder in folders:
        folder.chmod(0o755)
    until(lambda: background.trouble is None)
    background.close()
    assert background.failure is None
    assert os.strerror(errno.EACCES) in background.news()[0]
    assert oracle.steps_of(nobody / "run.zarr")["/states"] == [0, 1, 2, 3]


ORACLE = Path(__file__).with_name("oracle.py")


def start(place, told):
    """Record for ever, with a disk that is flushed; each acknowledged step goes to a file on another disk."""
    program = (
        f"import importlib.util as u; s = u.spec_from_file_location('oracle', {str(ORACLE)!r}); "
        f"m = u.module_from_spec(s); s.loader.exec_module(m); m.write_for_ever({str(place)!r})"
    )
    return subprocess.Popen([sys.executable, "-c", program], stdout=told, stderr=subprocess.PIPE)


def acknowledged(told):
    lines = told.read_text().split("\n")[:-1]
    return int(lines[-1]) if lines else -1


def still(image):
    """Take an image at one moment: nothing may be written to it while it is read."""
    one, other = image.read_bytes(), b""
    while one != other:
        one, other = image.read_bytes(), one
    return one


@pytest.mark.kill
@pytest.mark.long
def test_power_cut__of_a_real_file_system_loses_no_acknowledged_row(oracle, tmp_path):
    """The image is copied while a run is written, as a disk whose power goes; mounting the copy replays its journal."""
    image, copy, told = tmp_path / "disk", tmp_path / "copy", tmp_path / "told"
    with image.open("wb") as file:
        file.truncate(64 * MEGABYTE)
    call("mkfs.ext4", "-q", "-F", "-i", "2048", str(image))
    chance, seen = random.Random(0), -1
    with mounted(tmp_path / "live", "-o", "loop", str(image)) as live, told.open("w") as out:
        process = start(live / "run.zarr", out)
        try:
            until(lambda: acknowledged(told) >= 0)
            for _ in range(30):
                process.send_signal(signal.SIGCONT)
                time.sleep(chance.uniform(0.01, 0.3))
                assert process.poll() is None, process.stderr.read()
                seen = acknowledged(told)
                process.send_signal(signal.SIGSTOP)
                copy.write_bytes(still(image))
                with mounted(tmp_path / "after", "-o", "loop", str(copy)) as after:
                    steps = oracle.steps_of(after / "run.zarr")
                    assert steps["/states"] == list(range(len(steps["/states"])))
                    assert steps["/states"][-1] >= seen
                    assert all(steps[group] == steps["/states"] for group in oracle.EACH_ROW)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
    assert seen > 30
