"""Do the processes of one training find each other, and hear why not?"""

import threading
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed import distributed_c10d

from wdyn.capture import meeting as meetings
from wdyn.capture.meeting import Meeting
from wdyn.capture.pieces import Piece
from wdyn.capture.sharing import Held
from wdyn.errors import CannotRecord, InvalidArgument, RunLocked


@pytest.fixture
def enter(monkeypatch):
    """Enter a block as one of several processes, which are threads here."""
    store = dist.HashStore()

    def enter(rank, *, of, place="run", store=store):
        monkeypatch.setattr(distributed_c10d, "_get_default_store", lambda: store)
        monkeypatch.setattr(meetings, "rank_and_count", lambda: (rank, of))
        return Meeting(Path(place))

    return enter


def rows_of(rank, processes):
    return {"w": Held((2 * processes, 3), "torch.float32", Piece((2 * rank, 0), (2, 3)), True)}


def share_all(entered, asked=None):
    """Let all that have entered share; give what each got, or the error that it met."""
    got = {}

    def share(one):
        try:
            got[one.rank] = one.share(rows_of(one.rank, one.processes), asked=asked[one.rank] if asked else {})
        except Exception as error:
            got[one.rank] = error

    threads = [threading.Thread(target=share, args=(one,)) for one in entered]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [got[one.rank] for one in entered]


def test_share__tells_all_the_same_divisions(enter):
    several = share_all([enter(rank, of=3) for rank in range(3)])
    assert [one.rank for one in several] == [0, 1, 2]
    for rank, one in enumerate(several):
        assert one.divisions == several[0].divisions
        assert one.piece("w") == Piece((2 * rank, 0), (2, 3))
        assert one.grid("w") == (2, 3)


def test_share__keeps_runs_apart_that_are_entered_in_turn(enter):
    """Also at one place, and one within another."""
    outer = [enter(rank, of=2, place="a") for rank in range(2)]
    inner = [enter(rank, of=2, place="b") for rank in range(2)]
    again = [enter(rank, of=2, place="a") for rank in range(2)]
    for entered in (outer, inner, again):
        assert all(one.processes == 2 for one in share_all(entered))
    for step, (first, second) in enumerate((outer, inner, again), start=100):
        first.begin({"step": step})
        assert second.beginning() == {"step": step}


def test_share__refuses_other_places_at_once_by_name(enter):
    for error in share_all([enter(0, of=2, place="/one"), enter(1, of=2, place="/other")]):
        assert isinstance(error, InvalidArgument)
        assert "to=...) is /one in process 0 and /other in process 1" in str(error)


def test_share__refuses_other_arguments_with_the_same_words_everywhere(enter):
    asked = [{"every": "every(2)"}, {"every": "every(2)"}, {"every": "every(3)"}]
    errors = share_all([enter(rank, of=3) for rank in range(3)], asked)
    assert {str(error) for error in errors} == {
        "watch(..., every=...) is every(2) in process 0 and every(3) in process 2; needed are the same arguments in "
        "every process"
    }


def test_share__names_all_that_are_missing(enter, monkeypatch):
    monkeypatch.setattr(meetings, "MEET_SECONDS", 0.2)
    monkeypatch.setattr(meetings, "HEARD_SECONDS", 0.2)
    for error in share_all([enter(rank, of=16) for rank in (0, 2)]):
        assert isinstance(error, CannotRecord)
        assert "Of 16 processes only 2 entered" in str(error)
        assert "processes 1, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 4 more did not" in str(error)


def test_share__without_the_first_says_so(enter, monkeypatch):
    monkeypatch.setattr(meetings, "MEET_SECONDS", 0.2)
    with pytest.raises(CannotRecord, match=r"only 1 entered .*; process 0 did not"):
        enter(1, of=2).share(rows_of(1, 2), asked={})


def test_leave__is_told_to_all_others(enter):
    first, second, third = (enter(rank, of=3) for rank in range(3))
    second.leave(InvalidArgument("odd pieces"))
    errors = share_all([first, third])
    assert [(type(error), str(error)) for error in errors] == [(InvalidArgument, "process 1: odd pieces")] * 2


def test_refuse__is_heard_as_what_the_first_met(enter, monkeypatch):
    monkeypatch.setattr(meetings, "HEARD_SECONDS", 0.05)
    first, second = (enter(rank, of=2) for rank in range(2))
    share_all([first, second])
    first.refuse(RunLocked("held by another"))
    with pytest.raises(RunLocked, match="process 0: held by another"):
        second.beginning()


class Gone(dist.HashStore):
    """A store whose process ends as soon as one has told it something."""

    def check(self, _):
        raise dist.DistNetworkError("Connection reset by peer")


def test_share__tells_a_store_that_is_gone_from_processes_that_are_missing(enter):
    with pytest.raises(CannotRecord, match="does not answer: Connection reset by peer"):
        enter(1, of=2, store=Gone()).share(rows_of(1, 2), asked={})
