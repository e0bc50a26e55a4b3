"""How does a file change in one piece, and when is it safe from a power cut?"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

PARTIAL = ".partial"
"""Suffix of a file that is being written; what a killed writer leaves behind carries it."""


def replace(path: Path, *pieces: bytes | memoryview, durable: bool = False) -> int:
    """Write `pieces` as the file `path` by one rename, and return their size in bytes.

    A reader sees the old file or the new one, never a part. With `durable`, the file and its folder are on the
    disk when this returns.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb", buffering=0) as file:
            size = sum(_write_all(file.fileno(), piece) for piece in pieces)
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable:
        _sync(path.parent)
    return size


def make_durable(root: Path, written: Iterable[Path]) -> None:
    """Return once the files in `written`, all below `root`, would survive a power cut."""
    paths = list(written)
    if not paths or _sync_file_system(root):
        return
    for path in paths:
        _sync(path)
    for folder in {folder for path in paths for folder in path.parents if folder.is_relative_to(root)}:
        _sync(folder)


def _write_all(descriptor: int, piece: bytes | memoryview) -> int:
    view = memoryview(piece).cast("B")
    written = 0
    while written < len(view):
        written += os.write(descriptor, view[written:])
    return written


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(root: Path) -> bool:
    """Flush the whole file system of `root` by one call, where the system has it: far cheaper than many fsyncs."""
    if not sys.platform.startswith("linux"):
        return False
    descriptor = os.open(root, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(root))
    finally:
        os.close(descriptor)
    return True
