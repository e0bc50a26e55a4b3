"""Does a file change in one piece?"""

import ctypes
import errno
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.store import files
from wdyn.store.background import BackgroundWriter

PIECES = [b"one", memoryview(b"two"), b"", b"three"]


def test_replace__writes_all_pieces_and_makes_the_folders(tmp_path):
    size = files.replace(f"{tmp_path}/a/b/file", *PIECES)
    assert size == 11
    assert (tmp_path / "a/b/file").read_bytes() == b"onetwothree"
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["file"]


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(1, 7), st.integers(1, 4), st.integers(1, 12))
def test_write__goes_on_after_a_short_write(tmp_path_factory, pieces, most, batch_pieces, batch_bytes):
    path = tmp_path_factory.mktemp("short") / "file"
    writev = os.writev

    def short(descriptor, batch):
        return writev(descriptor, [b"".join(batch)[:most]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", short)
        patch.setattr(files, "_BATCH_PIECES", batch_pieces)
        patch.setattr(files, "_BATCH_BYTES", batch_bytes)
        assert files.write(str(path), iter(pieces)) == sum(map(len, pieces))
    assert path.read_bytes() == b"".join(pieces)


@pytest.mark.parametrize("name", ["writev", "replace"])
def test_replace__keeps_the_old_file_and_leaves_nothing_when_it_fails(tmp_path, monkeypatch, name):
    files.replace(f"{tmp_path}/file", b"old")

    def fails(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(OSError, match="No space left"):
            files.replace(f"{tmp_path}/file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_write__refuses_a_file_that_is_not_new(tmp_path):
    files.write(f"{tmp_path}/file", [b"old"], new=True)
    with pytest.raises(FileExistsError, match="file"):
        files.write(f"{tmp_path}/file", [b"new"], new=True)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_write__reserves_what_a_large_file_will_take(tmp_path, monkeypatch):
    reserved = []
    monkeypatch.setattr(files, "_reserve", lambda descriptor, size: reserved.append(size))
    files.write(f"{tmp_path}/small", [b"12"], expected_bytes=2)
    files.write(f"{tmp_path}/large", [bytes(2**20)], expected_bytes=2**20)
    assert reserved == [2**20]


@pytest.mark.parametrize("broken", ["refused", "missing"])
def test_write__does_without_a_reserve_where_the_file_system_knows_none(tmp_path, monkeypatch, broken):
    asked = []

    class Libc:
        def __getattr__(self, name):
            asked.append(name)
            if broken == "missing":
                raise AttributeError(name)
            return lambda *arguments: (ctypes.set_errno(errno.EOPNOTSUPP), -1)[1]

    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: Libc())
    data = os.urandom(2**20)
    assert files.write(f"{tmp_path}/file", [data], expected_bytes=len(data)) == len(data)
    assert asked == ["fallocate"]
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("by_file_system", [True, False])
def test_make_durable__flushes_files_and_every_folder_up_to_the_root(tmp_path, monkeypatch, by_file_system):
    flushed = []
    monkeypatch.setattr(files, "sync", flushed.append)
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
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
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
    while background.trouble is None and step < 20_000:
        step += 1
        background.submit(oracle.batch(step), wait=True)
    background.close()
    assert step < 20_000
    steps = oracle.steps_of(path)["/states"]
    assert steps[0] == 0
    assert steps == sorted(set(steps))
    assert steps[-1] >= background.committed >= 0
    assert wdyn.open_run(path)["scalars"].sizes["step"] == len(steps)
    missing = step + 1 - len(steps)
    assert background.lost["rows"] == missing * len(oracle.batch(1).rows)
