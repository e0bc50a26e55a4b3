"""How does a file get onto the disk in one piece, and when is it safe from a power cut?"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# A path is a string here: hundreds of small files make a commit, and a Path costs as much as opening one.
# ruff: noqa: PTH102, PTH105, PTH108, PTH120

PARTIAL = ".partial"
"""Suffix of a file that is being written; what a killed writer leaves behind carries it."""

Piece = bytes | memoryview
"""Bytes that follow one another in a file."""

_ANEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0)
_NEW = _ANEW | os.O_EXCL

_BATCH_BYTES = 16 * 2**20
_BATCH_PIECES = 256  # Linux takes at most 1024 of them in one call
_RESERVED_BYTES = 2**20
"""From this size on, reserving the blocks of a file at once is cheaper than finding them one by one."""


def replace(path: str, *pieces: Piece) -> int:
    """Write `pieces` as the file `path` by one rename, and return their size in bytes.

    A reader sees the old file or the new one, never a part.
    """
    partial = path + PARTIAL
    size = write(partial, pieces)
    try:
        rename(partial, path)
    except BaseException:
        _remove(partial)
        raise
    return size


def write(path: str, pieces: Iterable[Piece], *, new: bool = False, expected_bytes: int = 0) -> int:
    """Write a file and the folders above it, and return its size in bytes; one that fails half-way is gone.

    Parameters
    ----------
    path
        The file.
    pieces
        What it will hold; they may be made while it is written.
    new
        Whether it must not be there yet.
    expected_bytes
        Its size, where that is known before.

    Raises
    ------
    FileExistsError
        It is there, and was to be `new`.
    """
    descriptor = _open(path, _NEW if new else _ANEW)
    try:
        try:
            if expected_bytes >= _RESERVED_BYTES:
                _reserve(descriptor, expected_bytes)
            size = sum(_write_all(descriptor, batch) for batch in _batches(pieces))
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(path)
        raise
    return size


def rename(path: str, place: str) -> None:
    """Put a file into the place of another, or where none was, in one piece."""
    os.replace(path, place)


def exchange(folder: Path, place: Path) -> None:
    """Let two folders change places: in one step where the system can, else `folder` is in `place` last but one.

    A kill before that leaves nothing at `place`, and both where they can be found: `folder`, and `aside` of it.
    """
    here, at_once = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        _call_libc("renameat2", here, os.fsencode(folder), here, os.fsencode(place), at_once)
    except OSError:
        old = aside(folder)
        place.rename(old)
        folder.rename(place)
        old.rename(folder)


def aside(folder: Path) -> Path:
    """Where `exchange` puts a folder for a moment."""
    return folder.with_name(folder.name + ".old")


def make_durable(root: Path, written: Iterable[str]) -> None:
    """Return once the files in `written`, all below `root`, would survive a power cut."""
    paths = list(written)
    if not paths or _sync_file_system(root):
        return
    for path in paths:
        sync(path)
    for folder in {folder for path in paths for folder in Path(path).parents if folder.is_relative_to(root)}:
        sync(folder)


def sync(path: str | Path) -> None:
    """Return once a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        return os.open(path, flags, 0o666)


def _make_folder(folder: str) -> None:
    """Make a folder that is not there, and those above it."""
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        _make_folder(os.path.dirname(folder))
        os.mkdir(folder)


def _batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Gather pieces for one call each: that many, or that large."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES or len(batch) == _BATCH_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_all(descriptor: int, batch: list[Piece]) -> int:
    total = sum(map(len, batch))
    written = os.writev(descriptor, batch)
    while written < total:  # a signal, or a disk that is nearly full
        written += os.writev(descriptor, _rest(batch, written))
    return total


def _rest(batch: list[Piece], written: int) -> list[Piece]:
    """What of the pieces comes after the first `written` bytes."""
    rest: list[Piece] = []
    for piece in batch:
        if written < len(piece):
            rest.append(memoryview(piece)[written:])
        written = max(0, written - len(piece))
    return rest


def _reserve(descriptor: int, size: int) -> None:
    """Reserve the blocks of a file, where the file system can; else they are found while it is written."""
    with contextlib.suppress(OSError):
        _call_libc("fallocate", descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size))


def _sync_file_system(root: Path) -> bool:
    """Flush the whole file system of `root` by one call, where the system has it: far cheaper than many fsyncs."""
    if not sys.platform.startswith("linux"):
        return False
    descriptor = os.open(root, os.O_RDONLY)
    try:
        _call_libc("syncfs", descriptor)
    finally:
        os.close(descriptor)
    return True


def _call_libc(name: str, *arguments: object) -> None:
    """Call what Linux has and Python lacks (its own `posix_fallocate` writes into each block where it must).

    Raises
    ------
    OSError
        The call failed, or is not there.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        raise OSError(f"{name} is not there")
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
