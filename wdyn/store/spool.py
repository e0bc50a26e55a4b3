"""Where do the processes of one training leave what they give of a step, until the first of them takes it?

In ``.wdyn/ranks/<attempt>-<token>/<rank>/`` of the run. A message, one JSON file for each step, is the last to come
into its place, by one rename; it names the files that it speaks of. Nothing there is a part of the run: what the first
process did not take is deleted when the run is next written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wdyn.rows import Adopted, Share
from wdyn.store import files
from wdyn.store.lock import FOLDER

_RANKS, _ENDED, _PUBLISHED, _MESSAGE = "ranks", "ended", "published", ".json"


@dataclass(frozen=True)
class Message:
    """What one process gives of a step.

    Attributes
    ----------
    numbers
        The file of what was measured.
    encoded
        Blocks of weights by slug, in files as they will be stored.
    scattered
        Blocks that are still to be put together.
    is_measured, has_snapshot
        Whether the process measured what it holds, and kept its weights.
    """

    numbers: Path
    encoded: dict[str, Adopted]
    scattered: dict[str, Adopted]
    is_measured: bool
    has_snapshot: bool

    def is_whole(self) -> bool:
        """Whether the files of its blocks are still there."""
        return all(Path(one.file).exists() for one in (*self.encoded.values(), *self.scattered.values()))


class Spool:
    """The messages of one attempt.

    Parameters
    ----------
    run
        The run's folder.
    attempt
        The number of the attempt.
    token
        Tells it from an attempt of the same number that was killed before its first commit, whose processes may live.

    Attributes
    ----------
    run, folder
        The run's folder, and that of the messages.
    """

    def __init__(self, run: Path, *, attempt: int, token: str = "") -> None:
        self.run = run
        self.folder = run / FOLDER / _RANKS / "-".join([str(attempt), *([token] if token else [])])

    def begin(self) -> None:
        """Clear away what earlier attempts left, and make the place of this one."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def end(self) -> None:
        """Delete it with all that nobody took."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def exists(self) -> bool:
        """Whether it has begun, and has not ended."""
        return self.folder.is_dir()

    @property
    def published(self) -> int:
        """The last step that is committed; -1 for none."""
        try:
            return int((self.folder / _PUBLISHED).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return -1

    def note_published(self, step: int) -> None:
        """Tell which step was the last to be committed."""
        files.replace(f"{self.folder}/{_PUBLISHED}", str(step).encode())

    def note_ended(self, rank: int) -> None:
        """Tell that a process gives nothing more."""
        files.replace(f"{self._of(rank)}/{_ENDED}", b"")

    def path(self, rank: int, share: Share, name: str) -> str:
        """Where a process writes a file of its message."""
        return f"{self._of(rank)}/{_key(share)}.{name}"

    def send(self, rank: int, share: Share, blocks: dict[str, dict[str, Any]], *, has_snapshot: bool) -> Path:
        """Put the message itself into its place, once its files are there; return its path."""
        file = self._of(rank) / f"{_key(share)}{_MESSAGE}"
        said = {"blocks": blocks, "measured": share.is_measured, "snapshot": has_snapshot}
        files.replace(str(file), json.dumps(said).encode())
        return file

    def message(self, rank: int, share: Share) -> Message | None:
        """Give what a process said of a step; None where it has not yet, or never will."""
        file = self._of(rank) / f"{_key(share)}{_MESSAGE}"
        try:
            said = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        found: dict[bool, dict[str, Adopted]] = {True: {}, False: {}}
        for slug, block in said["blocks"].items():
            found[block["encoded"]][slug] = Adopted(self.path(rank, share, slug), tuple(block["start"]))
        numbers = Path(self.path(rank, share, "numbers"))
        return Message(numbers, found[True], found[False], said["measured"], said["snapshot"])

    def is_beyond(self, rank: int, share: Share) -> bool:
        """Whether a process has ended, or spoken of a later step: what it did not say of this one never comes."""
        folder = self._of(rank)
        if not folder.is_dir():
            return False
        names = [file.name for file in folder.iterdir()]
        return _ENDED in names or any(name.endswith(_MESSAGE) and name > f"{_key(share)}{_MESSAGE}" for name in names)

    def held_bytes(self, rank: int) -> int:
        """Count what a process has left so far: while it grows, the process works."""
        folder = self._of(rank)
        total = 0
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
        return total

    def clear(self, rank: int, share: Share) -> None:
        """Delete what a process left of a step and of all before it, taken or not."""
        last = _key(share)
        with contextlib.suppress(OSError):
            for file in self._of(rank).iterdir():
                if file.name[: len(last)] <= last and file.name[0].isdigit():
                    file.unlink(missing_ok=True)

    def _of(self, rank: int) -> Path:
        return self.folder / str(rank)


def write_block(path: str, values: npt.NDArray[Any]) -> int:
    """Write a block that is to be put together with others; return its size in bytes."""
    head = json.dumps([values.dtype.str, values.shape]).encode() + b"\n"
    return files.write(path, [head, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data])


def read_block(path: str) -> npt.NDArray[Any]:
    """Read what `write_block` wrote."""
    head, _, data = Path(path).read_bytes().partition(b"\n")
    dtype, shape = json.loads(head)
    return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape)


def _key(share: Share) -> str:
    """Name the message of a step: in the order of names, messages are in that of time."""
    return f"{share.step:015d}-{share.ordinal:06d}"
