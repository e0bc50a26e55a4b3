"""Does a file change in one piece?"""

import os
import subprocess
import sys

import pytest

import wdyn
from wdyn.store import files
from wdyn.store.background import BackgroundWriter


def test_replace__writes_all_pieces(tmp_path):
    size = files.replace(tmp_path / "file", b"one", memoryview(b"two"), b"", durable=True)
    assert size == 6
    assert (tmp_path / "file").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_replace__goes_on_after_a_short_write(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    files.replace(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


@pytest.mark.parametrize("name", ["write", "replace"])
def test_replace__keeps_the_old_file_and_leaves_nothing_when_it_fails(tmp_path, monkeypatch, name):
    files.replace(tmp_path / "file", b"old")

    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(OSError, match="No space left"):
            files.replace(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("by_file_system", [True, False])
def test_make_durable__flushes_files_and_every_folder_up_to_the_root(tmp_path, monkeypatch, by_file_system):
    flushed = []
    monkeypatch.setattr(files, "_sync", flushed.append)
    if not by_file_system:
        monkeypatch.setattr(sys, "platform", "other")
    elif sys.platform != "linux":
        pytest.skip("syncfs is Linux's")
    (tmp_path / "a/b").mkdir(parents=True)
    written = [tmp_path / "a/b/c.0", tmp_path / "a/c.1"]
    files.make_durable(tmp_path, written)
    expected = set() if by_file_system else {*written, tmp_path / "a/b", tmp_path / "a", tmp_path}
    assert set(flushed) == expected
    if not by_file_system:
        assert set(flushed[:2]) == set(written)  # a folder's entry must not outlive the file's content


@pytest.mark.usefixtures("flushed")
def test_make_durable__tells_of_a_root_that_is_gone(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        files.make_durable(tmp_path / "gone", [tmp_path / "gone/file"])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.usefixtures("flushed")
def test_full_disk__costs_no_committed_row(oracle, small_disk):
    path = small_disk / "run.zarr"
    background = BackgroundWriter(oracle.writer(path), limit_bytes=1 << 20)
    background.submit(oracle.batch(0, declare=oracle.declaration()))
    background.flush()
    step = 0
    while background.failure is None and step < 20_000:
        step += 1
        background.submit(oracle.batch(step), wait=True)
    background.close()
    assert isinstance(background.failure, OSError)
    steps = oracle.steps_of(path)["/states"]
    assert steps == list(range(len(steps)))
    assert steps[-1] >= background.committed >= 0
    assert wdyn.open_run(path)["scalars"].sizes["step"] == len(steps)
