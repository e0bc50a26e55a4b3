"""How do the processes of one training begin a run together, and agree on what comes?

They speak through the key-value store that their process group was made with: no collective, on no group, so nothing of
this can get between two collectives of the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdyn import errors
from wdyn.capture.processes import rank_and_count
from wdyn.capture.sharing import Held, Sharing, shared
from wdyn.capture.wire import from_plain, heard, to_plain, told
from wdyn.capture.words import Words
from wdyn.errors import CannotRecord, InvalidArgument, WdynError
from wdyn.naming import examples

MEET_SECONDS = 120.0
"""How long a process waits for the others to enter the block."""
ANSWER_SECONDS = 20.0
"""How long one waits for a word of the first, once all have entered."""
HEARD_SECONDS = 2.0
"""How long the first waits until all have heard that it refuses."""

_PLACE = "to"


class Meeting:
    """The processes that watch one model.

    Parameters
    ----------
    place
        Where the run goes: the same for all.

    Attributes
    ----------
    rank, processes
        This process, and how many there are.

    Raises
    ------
    CannotRecord
        The store cannot be reached.
    """

    def __init__(self, place: Path) -> None:
        self.rank, self.processes = rank_and_count()
        self._place = place
        self._is_agreed = False
        from torch.distributed.distributed_c10d import _get_default_store  # not in a torch built for one process

        self._words = Words(_get_default_store(), rank=self.rank)

    def share(self, held: Mapping[str, Held], *, asked: Mapping[str, str]) -> Sharing:
        """Tell the first process what this one holds, and hear who records what.

        Parameters
        ----------
        held
            The tensors of this process, by name.
        asked
            The arguments that must be the same in every process, and their values here.

        Raises
        ------
        CannotRecord
            Not all have come, or the store cannot be reached.
        InvalidArgument
            What they hold, or were asked, does not fit together.
        """
        self._words.say(f"holds/{self.rank}", {"held": to_plain(held), "asked": {_PLACE: str(self._place), **asked}})
        if self.rank > 0:
            self._await_all([0])
            return heard(self._answer("shared"), rank=self.rank, processes=self.processes)
        try:
            self._await_all(range(self.processes))
            sharing = _joined([self._words.get(f"holds/{rank}") for rank in range(self.processes)])
        except BaseException as error:
            self._refuse("shared", error, _text(error))
            raise
        self._words.say("shared", told(sharing))
        self._is_agreed = True
        return sharing

    def leave(self, error: BaseException) -> None:
        """Tell the others that what this process holds cannot be recorded."""
        with suppress(CannotRecord):  # the error itself is raised here
            self._words.say(f"holds/{self.rank}", {"error": _text(error)})
        if self.rank > 0:
            self._take_note("shared")
        else:
            self._refuse("shared", error, f"process 0: {_text(error)}")

    def begin(self, beginning: Mapping[str, Any]) -> None:
        """Tell the others, as the first process, how the run begins."""
        self._words.say("begins", beginning)

    def refuse(self, error: BaseException) -> None:
        """Tell the others that it does not begin, and why."""
        if self._is_agreed:  # else it is told already
            self._refuse("begins", error, f"process 0: {_text(error)}")

    def beginning(self) -> Mapping[str, Any]:
        """Hear how the run begins.

        Raises
        ------
        WdynError
            It does not: what the first process met.
        """
        return self._answer("begins")

    def named(self, name: str) -> Announcements:
        """Give the same processes as they speak of one schedule of several, whose name is the same in all."""
        return Announcements(self, name)

    def announce(self, row: str, step: int) -> None:
        """Tell the others, as the first process, the step that it chooses for a row."""
        self._words.say(f"row/{row}", step)

    def announced(self, row: str) -> int:
        """Hear the step of a row that the first process chooses.

        Raises
        ------
        CannotRecord
            It chose none.
        """
        if not self._words.wait([f"row/{row}"], ANSWER_SECONDS):
            raise CannotRecord(f"process 0 did not tell the step of the next row within {ANSWER_SECONDS:.0f} s")
        return int(self._words.get(f"row/{row}"))

    def _await_all(self, ranks: Sequence[int]) -> None:
        """Wait until some processes have entered, all of them within one time."""
        if self._words.wait([f"holds/{rank}" for rank in ranks], MEET_SECONDS):
            return
        missing = [rank for rank in range(self.processes) if not self._words.has([f"holds/{rank}"])]
        noun = "processes" if len(missing) > 1 else "process"
        raise CannotRecord(
            f"Of {self.processes} processes only {self.processes - len(missing)} entered the block of watch(..., "
            f"to={str(self._place)!r}) within {MEET_SECONDS:.0f} s; {noun} {examples(map(str, missing), 10)} did not. "
            f"The parameters are spread over all of them, so each must watch, with the same arguments"
        )

    def _answer(self, key: str) -> Mapping[str, Any]:
        """Hear what the first process has to say, or raise what it met."""
        if not self._words.wait([key], MEET_SECONDS + ANSWER_SECONDS):
            raise CannotRecord(
                f"Process 0 of {self.processes} entered the block, and did not begin the run at {self._place} within "
                f"{MEET_SECONDS + ANSWER_SECONDS:.0f} s. See what it does, or how it ended"
            )
        said: Mapping[str, Any] = self._words.get(key)
        if "error" in said:
            self._take_note(key)
            raise getattr(errors, said["error"], WdynError)(said["message"])
        return said

    def _refuse(self, key: str, error: BaseException, message: str) -> None:
        """Tell the others of an error that this process is about to raise.

        It may end by it, and the store with it, so it waits until all have heard: but not where it is interrupted.
        """
        with suppress(CannotRecord):
            self._words.say(key, {"error": type(error).__name__, "message": message})
            if isinstance(error, Exception):
                self._words.wait([f"{key}/heard/{rank}" for rank in range(1, self.processes)], HEARD_SECONDS)

    def _take_note(self, key: str) -> None:
        """Tell the first process that its refusal was heard."""
        with suppress(CannotRecord):
            self._words.say(f"{key}/heard/{self.rank}", True)


@dataclass(frozen=True)
class Announcements:
    """What the first process says of one schedule, row by row."""

    meeting: Meeting
    name: str

    @property
    def rank(self) -> int:
        """Which of the processes this is."""
        return self.meeting.rank

    def named(self, name: str) -> Announcements:
        """Give those of one part of the schedule."""
        return Announcements(self.meeting, f"{self.name}/{name}")

    def announce(self, number: int, step: int) -> None:
        """Tell the others, as the first process, the step of row `number` of those that it chooses."""
        self.meeting.announce(f"{self.name}/{number}", step)

    def announced(self, number: int) -> int:
        """Hear the step of a row that the first process chooses.

        Raises
        ------
        CannotRecord
            It chose none.
        """
        return self.meeting.announced(f"{self.name}/{number}")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _joined(came: Sequence[Mapping[str, Any]]) -> Sharing:
    """Find who records what, from what each process said, by rank."""
    for rank, one in enumerate(came):
        if "error" in one:
            raise InvalidArgument(f"process {rank}: {one['error']}")
    asked = [one["asked"] for one in came]
    _check_alike(_PLACE, asked)  # before what they hold: they may mean two runs
    sharing = shared([from_plain(one["held"]) for one in came], rank=0)
    for name in asked[0]:
        _check_alike(name, asked)
    return sharing


def _check_alike(name: str, asked: Sequence[Mapping[str, str]]) -> None:
    first = asked[0][name]
    for rank, one in enumerate(asked):
        if one[name] != first:
            raise InvalidArgument(
                f"watch(..., {name}=...) is {first} in process 0 and {one[name]} in process {rank}; needed are "
                f"the same arguments in every process"
            )
