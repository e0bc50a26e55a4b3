"""May an error of the disk pass by itself, when is the disk tried again, and what is told of it?"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from typing import Self

from wdyn.errors import CannotRecord, WdynError

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds


class LateProcess(CannotRecord):
    """Another process of the training has not given what it should for some time; it may still do so."""


@dataclass(frozen=True)
class Trouble:
    """A disk that takes no writes at the moment, or a process that gives nothing."""

    reason: str
    pause: float
    """Seconds until it is tried again."""
    of_process: bool = False
    """Whether another process is waited for, rather than a disk."""

    @classmethod
    def begin(cls, error: Exception) -> Self:
        """Give the trouble as it is when it is first seen."""
        return cls(passing(error), _FIRST_PAUSE, isinstance(error, LateProcess))

    def after_another_try(self) -> Trouble:
        """Give the trouble as it is after a try that failed: the next is twice as far away, a minute at most."""
        return replace(self, pause=min(2 * self.pause, _LONGEST_PAUSE))

    @property
    def message(self) -> str:
        """What is told when it begins."""
        if self.of_process:
            return (
                f"wdyn publishes nothing at the moment: {self.reason}. See what became of it. Training goes on, what "
                f"is committed is safe, rows wait in memory, and it is asked again until it answers"
            )
        return (
            f"wdyn cannot write at the moment: {self.reason}. Training goes on, what is committed is safe, rows wait "
            f"in memory, and the disk is tried again until it takes them"
        )


def passing(error: BaseException) -> str:
    """Say what is wrong with the disk, where that may pass by itself; "" for an error that stays."""
    if isinstance(error, LateProcess):
        return str(error)
    for one in (error, error.__cause__):  # what was read back from such a disk is told as damaged
        if isinstance(one, OSError) and one.errno in _PASSING:
            return os.strerror(one.errno)
    return ""


def resumed_message(lost_rows: int, lost_snapshots: int) -> str:
    """What is told when the disk takes writes again."""
    lost = f"{lost_rows} rows and {lost_snapshots} snapshots were lost meanwhile"
    return f"wdyn records again; {lost if lost_rows or lost_snapshots else 'nothing was lost'}"


def failure_message(error: BaseException, *, committed: int, still_there: bool) -> str:
    """Say what stopped the writing for good, what is safe, and what to do.

    `committed` is the last step that was, and `still_there` whether the run is that was written.
    """
    reason = str(error) if isinstance(error, WdynError | OSError) else repr(error)
    if not still_there:
        return (
            f"wdyn stopped recording: {reason}. Training goes on, and nothing more is written there. What was "
            f"recorded is where the run was moved to, if it was not deleted"
        )
    cause = "See what became of it" if isinstance(error, LateProcess) else "Free the cause"
    return (
        f"wdyn stopped recording: {reason}. Training goes on. All rows up to step {committed} are safe and "
        f"readable; later ones are lost. {cause}, then continue with watch(..., resume=True)"
    )
