"""Does the card tell what was recorded?"""

import math
import os
from pathlib import Path

import pytest
import xarray as xr

from wdyn.reading.joining import join_runs
from wdyn.reports.summarizing import summaries, summarize
from wdyn.reports.summary import Attempt, Summary, duration, facts, size
from wdyn.store.lock import Lock


def test_summarize__counts_what_was_recorded(run):
    summary = summarize(run)
    assert summary.title == "run.zarr"
    assert (summary.model, summary.names, summary.steps) == ("GPT", 124, (0, 600))
    assert summary.rows == {"weights": 61, "updates": 60}
    assert (summary.snapshots, summary.lost_snapshots) == (3, 2)
    assert summary.attempts == (Attempt(0, -1, "2026-01-01T10:00:00+0000"), Attempt(1, 300, "", parent=0))
    assert summary.disk_bytes == 1500


def test_summarize__counts_a_tied_weight_once(run):
    per_layer = (8 + 8) + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    assert summarize(run).values == 100 * 8 + 16 * 8 + 12 * per_layer + 3


def test_summarize__leaves_out_the_night_between_two_attempts(run):
    assert summarize(run).seconds == pytest.approx(300 + 299 + 0.1)  # 0.1 s passed before the first row


def test_summarize__adds_up_what_recording_cost(run):
    summary = summarize(run)
    assert summary.capture_seconds == pytest.approx(6.1)
    assert "1.02% of its time" in facts(summary)["Cost"]


def test_summarize__says_unknown_when_there_were_no_clocks(run):
    summary = summarize(xr.DataTree.from_dict({"/parameters": run["parameters"].to_dataset()}))
    assert math.isnan(summary.seconds)
    assert math.isnan(summary.capture_seconds)
    assert summary.steps == ()
    assert not {"Duration", "Cost", "On disk", "Lost"} & set(facts(summary))


def test_facts__tell_what_was_lost_and_that_it_is_open():
    told = facts(Summary(lost_rows=3, closed=False))
    assert told["Lost"] == "3 rows, 0 snapshots could not be written"
    assert told["Attempts"] == "1; ended without closing (killed?)"


def test_summarize__names_the_process_that_writes_at_this_moment(run):
    run.attrs["wdyn"]["closed"] = False
    lock = Lock(Path(run.attrs["path"]))
    writing = facts(summarize(run))["Attempts"]
    lock.release()
    assert f"from step 300; being written by process {os.getpid()} on " in writing
    assert facts(summarize(run))["Attempts"].endswith("from step 300; ended without closing (killed?)")


def test_summaries__give_one_card_for_each_joined_run(run):
    sgd, adam = summaries(join_runs(sgd=run, adam=run))
    assert (sgd.title, adam.title) == ("sgd", "adam")
    assert (sgd.model, sgd.names, sgd.rows) == ("GPT", 124, {"weights": 61, "updates": 60})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (42, "42 s"), (59.99, "60 s"), (200, "3 min 20 s"), (12_060, "3 h 21 min")]
)
def test_duration__reads_like_a_person_says_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (1500, "1.5 kB"), (14e6, "14 MB"), (3e12, "3 TB")])
def test_size__reads_like_a_person_says_it(count, text):
    assert size(count) == text


def test_facts__of_the_cost_tell_waiting_and_writing():
    told = facts(Summary(seconds=100.0, capture_seconds=2.0, write_seconds=3.0))["Cost"]
    assert told == "training waited 2 s for recording, 2.00% of its time; a thread wrote for 3 s beside it"


def test_summary__is_a_table_of_its_facts_in_a_notebook(run):
    run.attrs["wdyn"]["model"] = "<b>GPT</b>"
    (one,) = summaries(run)
    shown = one._repr_html_()
    assert "<th>Model</th><td>&lt;b&gt;GPT&lt;/b&gt;, " in shown
    assert all(f"<th>{name}</th>" in shown for name in facts(one))
