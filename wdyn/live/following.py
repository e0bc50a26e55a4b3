"""What is new in a run that another process writes?

Every look costs the training one `stat` of a file; what was committed since is read, and the analyzers are asked, at a
pace that leaves the processors to the training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from wdyn.errors import WdynError
from wdyn.findings import Finding, Severity
from wdyn.live.pace import Pace
from wdyn.live.views import Phase, Seen, View, glance
from wdyn.reports.report import Report, analyze
from wdyn.store.lock import holder
from wdyn.store.metadata import FILE
from wdyn.store.priority import step_back
from wdyn.store.reader import open_run
from wdyn.store.root import read_root

_ENDING: Final = 2.0
"""Seconds that an end waits for a look that is under way; what is not done by then ends with the process."""

_Stamp = tuple[int, int, int] | None


def _nothing(_: Report) -> str:
    return ""


class Following:
    """A run, looked at again and again: by one thread that calls `look`, and by one that calls `answer`.

    Parameters
    ----------
    place
        Where it is, or will be.
    draw
        Makes a page of a report.

    Attributes
    ----------
    view
        What is known now; replaced as a whole, so that any thread may take it.

    Raises
    ------
    NotARun, NewerFormat, DamagedRun
        What is at `place` is nothing that this wdyn could read.
    """

    def __init__(self, place: Path, *, draw: Callable[[Report], str] = _nothing) -> None:
        if place.is_file() or _stamp(place) is not None:
            read_root(place)
        self._place, self._draw = place, draw
        self.view = View(place.absolute().name)
        self._glanced: _Stamp = None
        self._asked: _Stamp = None
        self._drawn: Report | None = None
        self._came_up: dict[tuple[str, Severity], int] = {}
        self._glancing, self._asking, self._drawing = Pace(), Pace(), Pace()
        self._showing = threading.Lock()

    def look(self) -> None:
        """See how it stands, and what was logged since."""
        with self._telling("trouble", phase=Phase.UNREADABLE):
            # Asked before the stamp is taken: a writer that is gone by now has left its last commit behind.
            is_written = self._is_written()
            stamp = _stamp(self._place)
            if stamp is None:
                self._miss()
                return
            if stamp != self._glanced and self._may(self._glancing):
                with self._glancing.work():
                    self._glance()
                self._glanced = stamp
            self._show(phase=self._phase(is_written=is_written), trouble="")

    def answer(self) -> None:
        """Ask the analyzers, if there is something new and it is time to, and then draw, if it is time to."""
        with self._telling("failure"):
            self._answer()

    def _answer(self) -> None:
        stamp = _stamp(self._place)
        # Marked before they are done: what fails would fail again until there is something new.
        if stamp is not None and stamp != self._asked and self._may(self._asking):
            self._asked = stamp
            with self._asking.work():
                self._ask()
        report = self.view.report
        if report is not None and report is not self._drawn and self._may(self._drawing):
            self._drawn = report
            with self._drawing.work():
                self._show(page=self._draw(report), pages=self.view.pages + 1)

    @contextmanager
    def _telling(self, where: str, **changes: Any) -> Iterator[None]:
        """Tell of what failed: the next time may do better, as when the run was deleted while it was read."""
        try:
            yield
        except WdynError as error:
            self._show(**{where: str(error)}, **changes)
        except Exception as error:
            self._show(**{where: f"{type(error).__name__}: {error}"}, **changes)

    def _is_written(self) -> bool:
        return bool(holder(self._place))

    def _may(self, pace: Pace) -> bool:
        return pace.is_due or not self._is_written()  # with nobody training beside it there is nothing to spare

    def _miss(self) -> None:
        self._glanced = None
        self._show(phase=Phase.WAITING if self.view.glance is None else Phase.GONE, trouble="")

    def _glance(self) -> None:
        self._show(glance=glance(open_run(self._place)))

    def _phase(self, *, is_written: bool) -> Phase:
        if is_written:
            return Phase.RECORDING
        return Phase.ENDED if self.view.glance and self.view.glance.summary.closed else Phase.STOPPED

    def _ask(self) -> None:
        report, old = analyze(open_run(self._place)), self.view.report
        if old is not None and _began(old) != _began(report):
            self._came_up.clear()  # another run in the place of the first
        as_of = max(report.runs[0].steps, default=-1)
        self._show(report=report, as_of=as_of, seen=self._sorted(report.findings, as_of), failure="")

    def _sorted(self, findings: tuple[Finding, ...], step: int) -> tuple[Seen, ...]:
        """Put what came up last first; of one moment, the worst first, as they come."""
        self._came_up = {key: self._came_up.get(key, step) for key in map(_key, findings)}
        seen = [Seen(one, self._came_up[_key(one)]) for one in findings]
        return tuple(sorted(seen, key=lambda one: -one.step))  # which keeps the order of what is equal

    def _show(self, **changes: Any) -> None:
        with self._showing:
            if any(getattr(self.view, name) != value for name, value in changes.items()):
                self.view = replace(self.view, version=self.view.version + 1, **changes)


@contextmanager
def following(place: Path, *, every: float, draw: Callable[[Report], str] = _nothing) -> Iterator[Following]:
    """Follow a run in threads of its own, as long as the block lasts.

    Parameters
    ----------
    place
        Where the run is, or will be.
    every
        Seconds between two looks.
    draw
        Makes a page of a report.
    """
    found, end = Following(place, draw=draw), threading.Event()
    # Answers take long, and longer where they let others go first; meanwhile one wants to see how the training goes on.
    threads = [
        threading.Thread(target=work, args=(found, every, end), name="wdyn live", daemon=True)
        for work in (_keep_looking, _keep_answering)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        end.set()
        for thread in threads:
            thread.join(_ENDING)


def _keep_looking(found: Following, every: float, end: threading.Event) -> None:
    while not end.is_set():
        found.look()
        end.wait(every)


def _keep_answering(found: Following, every: float, end: threading.Event) -> None:
    step_back()
    while not end.is_set():
        found.answer()
        end.wait(every)


def _stamp(place: Path) -> _Stamp:
    """Tell one commit from another: each replaces the root's file as a whole."""
    try:
        about = (place / FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def _began(report: Report) -> tuple[str, str]:
    first = report.runs[0].attempts[0]
    return first.started, first.host


def _key(finding: Finding) -> tuple[str, Severity]:
    # Its words change with every row; that it became worse is news.
    return finding.code, finding.severity
