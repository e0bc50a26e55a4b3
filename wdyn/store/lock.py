"""Who may write this run? One process at a time; a killed one leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path

from wdyn.errors import RunLocked

FOLDER = ".wdyn"

# POSIX locks belong to a process: they would let a second writer of this very process in, and closing any other
# descriptor of the file would drop them. So the process remembers what it holds, with its own number: a forked
# child holds nothing.
_held: set[tuple[int, str]] = set()
_claiming: dict[int, threading.Lock] = {}


class Lock:
    """Sole right to write a run, from creation to `release`.

    Raises
    ------
    RunLocked
        Someone else holds it; the message names them.
    """

    def __init__(self, run: Path) -> None:
        self._folder = run / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._key = (os.getpid(), os.path.realpath(run))
        with _one_at_a_time():
            if self._key in _held:
                raise RunLocked(
                    f"{run} is being written by another watch of this very process; end that one first: leave its "
                    f"block, or call its close(). In a notebook it may be held by Out alone, as in Out[3].close()"
                )
            self._descriptor: int | None = _claim(run, self._folder)
            _held.add(self._key)
        with contextlib.suppress(OSError):  # a full disk: the lock holds, only its owner is not told
            self._name_owner()

    @property
    def released(self) -> bool:
        """Whether this process no longer holds the run through this lock."""
        return self._descriptor is None or self._key[0] != os.getpid()

    @property
    def guards_another(self) -> bool:
        """Whether the run was deleted since, and what stands in its place is not ours."""
        try:
            there = (self._folder / "lock").stat()
        except FileNotFoundError:
            return True
        return self._descriptor is not None and not os.path.samestat(os.fstat(self._descriptor), there)

    def release(self) -> None:
        """Give the run free; safe to call twice, and in a forked child, where it does nothing."""
        if self.released or self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            if not self.guards_another:
                (self._folder / "owner.json").unlink()
        _held.discard(self._key)
        os.close(self._descriptor)
        self._descriptor = None

    def _name_owner(self) -> None:
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        (self._folder / "owner.json").write_text(json.dumps(owner), encoding="utf-8")


def holder(run: Path) -> str:
    """Name the process that writes a run at this moment: ``process 12 on host since ...``; "" when none does."""
    folder = run / FOLDER
    # While we look, no thread may claim: closing our descriptor would drop the lock that it just got.
    with _one_at_a_time():
        held = (os.getpid(), os.path.realpath(run)) in _held or _held_elsewhere(folder / "lock")
    return _owner(folder) if held else ""


def _one_at_a_time() -> threading.Lock:
    """Give the mutex of this process: that of its parent may have been held when it was forked, and stay so."""
    return _claiming.setdefault(os.getpid(), threading.Lock())


def _held_elsewhere(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # never written, or by somebody whose files we may not read
        return False
    try:
        # Shared, so that two who look do not take each other for a writer; the next line gives it back.
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError | PermissionError)
    finally:
        os.close(descriptor)
    return False


def _lock_soon(descriptor: int) -> None:
    """Take the lock, waiting out somebody who only looks whether it is held."""
    for pause in (0.01, 0.05):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        else:
            return
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _claim(run: Path, folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _lock_soon(descriptor)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError | PermissionError):
            raise
        raise RunLocked(f"{run} is being written by {_owner(folder)}; wait for it, or record elsewhere") from error
    return descriptor


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / "owner.json").read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
