"""What can go wrong? One tree of exceptions under `WdynError`.

A message says what was found, what was needed, and what to do.
"""

from __future__ import annotations


class WdynError(Exception):
    """Base of every error that wdyn raises on purpose."""


class InvalidArgument(WdynError, ValueError):
    """An argument has a value that cannot be used (``every=0``, a pattern that matches nothing)."""


class NothingToWatch(InvalidArgument):
    """The model has no parameter that could be recorded."""


class RunExists(WdynError, FileExistsError):
    """Recording was about to start where a run already is, and nobody said to continue it."""


class CannotRecord(WdynError, OSError):
    """The place of the run cannot be written."""


class RunLocked(WdynError, BlockingIOError):
    """Another writer holds the run."""


class NotARun(WdynError, ValueError):
    """The path exists, or does not, but no wdyn run is there."""


class NewerFormat(WdynError):
    """The run was written by a later wdyn, in a format that this one does not know."""


class DamagedRun(WdynError):
    """The run is there, but part of it cannot be read back."""


class NoMatch(WdynError, LookupError):
    """Nothing in the run fits the selection."""


class AmbiguousSelection(WdynError, LookupError):
    """Several arrays fit a selection that must name one."""


class StepNotRecorded(WdynError, LookupError):
    """The run has no row, or no snapshot, at the step that was asked for."""


class UnknownName(WdynError, LookupError):
    """A name (of an analyzer, a finding code, a demo) that wdyn does not know."""


class BrokenAnalyzer(WdynError):
    """An analyzer does not have the shape that one needs."""


class WdynWarning(UserWarning):
    """Something that recording could not do; training goes on."""
