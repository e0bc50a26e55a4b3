"""How do the processes of one training begin a run together, and agree on what comes?

They speak through the key-value store that their process group was made with: no collective, on no group, so nothing of
this can get between two collectives of the training.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import distributed_c10d

from wdyn import errors
from wdyn.capture.processes import rank_and_count
from wdyn.capture.sharing import Held, Sharing, from_plain, shared, to_plain
from wdyn.errors import CannotRecord, InvalidArgument, WdynError

MEET_SECONDS = 120.0
"""How long a process waits for the others to enter the block."""
ANSWER_SECONDS = 20.0
"""How long one waits for a word of the first, once all have entered."""


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
    """

    def __init__(self, place: Path) -> None:
        self.rank, self.processes = rank_and_count()
        self._place = place
        self._store = distributed_c10d._get_default_store()
        entered = self._store.add(f"wdyn/{place}/{self.rank}", 1)  # each time that a block is entered there
        self._prefix = f"wdyn/{place}/{entered}"

    def share(self, held: Mapping[str, Held], *, asked: Mapping[str, str]) -> Sharing:
        """Tell the others what this process holds, hear what they do, and find who records what.

        Parameters
        ----------
        held
            The tensors of this process, by name.
        asked
            The arguments that must be the same in every process, and their values here.

        Raises
        ------
        CannotRecord
            Not all have come.
        InvalidArgument
            What they hold, or were asked, does not fit together.
        """
        self._say(f"holds/{self.rank}", {"held": to_plain(held), "asked": dict(asked)})
        came = [self._hear(f"holds/{rank}", MEET_SECONDS) for rank in range(self.processes)]
        missing = [rank for rank, one in enumerate(came) if one is None]
        if missing:
            raise CannotRecord(
                f"Of {self.processes} processes only {self.processes - len(missing)} entered the block of watch(..., "
                f"to={str(self._place)!r}) within {MEET_SECONDS:.0f} s; process {missing[0]} did not. The parameters "
                f"are spread over all of them, so each must watch, with the same arguments"
            )
        for rank, one in enumerate(came):
            if "error" in one:
                raise InvalidArgument(f"process {rank}: {one['error']}")
            first = came[0]["asked"]
            for name in [name for name, value in one["asked"].items() if value != first[name]]:
                raise InvalidArgument(
                    f"watch(..., {name}=...) is {first[name]} in process 0 and {one['asked'][name]} in process {rank}; "
                    f"needed are the same arguments in every process"
                )
        return shared([from_plain(one["held"]) for one in came], rank=self.rank)

    def leave(self, error: BaseException) -> None:
        """Tell the others that what this process holds cannot be recorded."""
        self._say(f"holds/{self.rank}", {"error": str(error)})

    def begin(self, beginning: Mapping[str, Any]) -> None:
        """Tell the others, as the first process, how the run begins."""
        self._say("begins", beginning)

    def refuse(self, error: BaseException) -> None:
        """Tell the others that it does not begin, and why."""
        self._say("begins", {"error": type(error).__name__, "message": str(error)})

    def beginning(self) -> Mapping[str, Any]:
        """Hear how the run begins.

        Raises
        ------
        WdynError
            It does not: what the first process met.
        """
        said = self._hear("begins", MEET_SECONDS + ANSWER_SECONDS)
        if said is None:
            raise CannotRecord(
                f"Process 0 of {self.processes} did not begin the run at {self._place} "
                f"within {MEET_SECONDS + ANSWER_SECONDS:.0f} s. It must enter watch(...) too, with the same to=..."
            )
        if "error" in said:
            kind = getattr(errors, said["error"], WdynError)
            raise kind(f"process 0: {said['message']}")
        found: Mapping[str, Any] = said
        return found

    def announce(self, number: int, step: int) -> None:
        """Tell the others, as the first process, the step of row `number` of those that it chooses."""
        self._say(f"row/{number}", step)

    def announced(self, number: int) -> int:
        """Hear the step of a row that the first process chooses.

        Raises
        ------
        CannotRecord
            It chose none.
        """
        step = self._hear(f"row/{number}", ANSWER_SECONDS)
        if step is None:
            raise CannotRecord(f"process 0 did not tell the step of the next row within {ANSWER_SECONDS:.0f} s")
        return int(step)

    def _say(self, key: str, value: Any) -> None:
        packed = base64.b64encode(zlib.compress(json.dumps(value).encode()))
        self._store.set(f"{self._prefix}/{key}", packed.decode("ascii"))

    def _hear(self, key: str, seconds: float) -> Any:
        """Give what was said under a key; None where nobody did in time."""
        full = f"{self._prefix}/{key}"
        try:
            self._store.wait([full], timedelta(seconds=seconds))
        except (RuntimeError, OSError):  # of torch, whichever store it is
            return None
        return json.loads(zlib.decompress(base64.b64decode(self._store.get(full))))
