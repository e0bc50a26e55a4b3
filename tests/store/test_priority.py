"""Does only the thread that asks step back?"""

import os
import sys
import threading

import pytest

from wdyn.store import priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority of its own")


def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_step_back__is_for_one_thread_and_for_those_that_it_starts():
    told = {}

    def inner():
        told["inner"] = nice()

    def run():
        priority.step_back()
        told["own"] = nice()
        child = threading.Thread(target=inner)
        child.start()
        child.join()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    before = nice()
    assert told["own"] == told["inner"] > before
    other = threading.Thread(target=inner)
    other.start()
    other.join()
    assert told["inner"] == before


def test_step_back__costs_nothing_where_it_is_forbidden(monkeypatch):
    def fails(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", fails)
    before = nice()
    priority.step_back()
    assert nice() == before
