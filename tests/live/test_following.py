"""Does one see what another process commits, whatever becomes of the run in between?"""

import shutil
import time

import pytest
import xarray as xr

from wdyn.analysis.machinery import Analyzer
from wdyn.errors import NotARun
from wdyn.findings import Finding, Severity
from wdyn.live import following as module
from wdyn.live.following import Following, following
from wdyn.live.views import Phase
from wdyn.testing import make_run


@pytest.fixture(autouse=True)
def last_step(monkeypatch):
    """Ask one analyzer only: INFO at each step, a WARNING from step 3 on."""

    def measure(run):
        return xr.Dataset({"last": run["statistics/weights"]["step"].values[-1]})

    def check(result):
        last = int(result["last"])
        yield Finding("ONE001", Severity.INFO, f"Step {last} was reached.")
        if last >= 3:
            yield Finding("ONE002", Severity.INFO, "It is late.")

    one = Analyzer("one", "ONE", "How far?", measure, check, {"ONE001": "Reached.", "ONE002": "Late."})
    monkeypatch.setattr("wdyn.analysis.catalogue.analyzers", lambda: (one,))


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    """Let nothing rest: what is asked here is what one sees, not when."""
    monkeypatch.setattr("wdyn.live.pace.Pace.is_due", True)


def seen(found):
    """Look, answer, and give what is known."""
    found.look()
    found.answer()
    return found.view


def messages(view):
    return [one.finding.message for one in view.seen]


def test_following__waits_for_a_run(place, train):
    found = Following(place)
    assert seen(found).phase is Phase.WAITING
    train(place)
    assert seen(found).phase is Phase.RECORDING
    assert found.view.glance.step == 0


def test_following__sees_rows_that_another_process_appends(place, elsewhere):
    found = Following(place, draw=lambda report: f"page of {report.title}")
    elsewhere.step(2)
    first = seen(found)
    assert (first.glance.step, first.as_of, messages(first)) == (2, 2, ["Step 2 was reached."])
    elsewhere.step(1)
    second = seen(found)
    assert (second.phase, second.glance.step, second.as_of, second.pages) == (Phase.RECORDING, 3, 3, 2)
    assert second.page == "page of run.zarr"
    assert second.version > first.version
    elsewhere.end()
    assert seen(found).phase is Phase.STOPPED


def test_following__puts_what_came_up_last_first(place, train):
    training, found = train(place), Following(place)
    for count in (1, 2, 2):
        training.step(count)
        view = seen(found)
    assert [(one.finding.code, one.step) for one in view.seen] == [("ONE002", 3), ("ONE001", 1)]


def test_following__asks_nothing_twice_of_what_did_not_change(place):
    make_run(place)
    drawn = []
    found = Following(place, draw=lambda report: drawn.append(report) or "")
    first = seen(found)
    assert seen(found) is first
    assert len(drawn) == 1


def test_following__survives_a_resume(place, train):
    training, found = train(place), Following(place)
    training.step(2)
    seen(found)
    training.end()
    assert seen(found).phase is Phase.ENDED
    training.begin(resume=True)
    training.step(2)
    view = seen(found)
    assert (view.phase, view.glance.step, len(view.glance.summary.attempts)) == (Phase.RECORDING, 4, 2)
    assert messages(view) == ["It is late.", "Step 4 was reached."]


def test_following__survives_a_deleted_run_and_the_next_in_its_place(place, train):
    make_run(place, steps=(0, 5))
    found = Following(place)
    assert messages(seen(found)) == ["Step 5 was reached.", "It is late."]
    shutil.rmtree(place)
    gone = seen(found)
    assert (gone.phase, gone.glance.step) == (Phase.GONE, 5)
    train(place).step(1)
    again = seen(found)
    assert (again.phase, again.glance.step) == (Phase.RECORDING, 1)
    assert [(one.finding.code, one.step) for one in again.seen] == [("ONE001", 1)]


def test_following__tells_of_a_torn_moment_and_recovers(place):
    make_run(place)
    root = place / "zarr.json"
    whole = root.read_bytes()
    found = Following(place)
    seen(found)
    root.write_bytes(whole[:100])
    torn = seen(found)
    assert torn.phase is Phase.UNREADABLE
    assert "zarr.json is damaged" in torn.trouble
    assert torn.report is not None
    root.write_bytes(whole)
    assert (seen(found).phase, found.view.trouble) == (Phase.ENDED, "")


def test_following__tells_of_a_page_that_cannot_be_drawn(place):
    make_run(place)

    def fail(report):
        raise OSError("no fonts")

    view = seen(Following(place, draw=fail))
    assert (view.phase, view.failure) == (Phase.ENDED, "OSError: no fonts")
    assert view.seen


def test_following__leaves_time_to_a_training_but_not_to_none(place, train, monkeypatch):
    monkeypatch.setattr("wdyn.live.pace.Pace.is_due", False)
    training, found = train(place), Following(place)
    training.step(1)
    assert seen(found).report is None
    training.end()
    assert seen(found).as_of == 1


def test_following__changes_no_file_of_the_run(place, train):
    def files():
        return {file: file.stat().st_mtime_ns for file in place.rglob("*")}

    training = train(place)
    training.step(3)
    before = files()
    seen(Following(place))
    assert files() == before
    training.step(1)  # the writer never noticed


def test_following__refuses_what_can_be_no_run(tmp_path):
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(NotARun, match="no run that wdyn wrote"):
        Following(tmp_path)
    with pytest.raises(NotARun, match="it is a file"):
        Following(tmp_path / "zarr.json")


def test_block__looks_again_and_again_and_ends(place, train, monkeypatch):
    nice = []
    monkeypatch.setattr(module, "step_back", lambda: nice.append(True))
    training = train(place)
    with following(place, every=0.05) as found:
        training.step(2)
        until(lambda: found.view.as_of == 2)
        training.step(2)
        until(lambda: found.view.as_of == 4)
    assert nice == [True]
    last = found.view
    training.step(1)
    assert found.view is last


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
