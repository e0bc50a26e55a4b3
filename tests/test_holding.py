"""Is a run that the first process holds found by the others, though its folder is seen late?"""

import threading

import pytest

from wdyn import holding
from wdyn.capture import meeting
from wdyn.store.spool import Spool


@pytest.mark.parametrize("late", [True, False])
def test_folder_of_the_first__is_waited_for_but_not_for_ever(late, tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "MEET_SECONDS", 20.0 if late else 0.4)
    spool = Spool(tmp_path, attempt=0)
    shown = threading.Timer(0.3, spool.begin)
    if late:
        shown.start()
    assert holding._is_seen(spool) is late
    if late:
        shown.join()
