"""Does the table of attempts tell when, where and with what each began, and what of it stands?"""

import pytest

import wdyn
from wdyn.reports.attempts import table
from wdyn.reports.summarizing import summarize
from wdyn.reports.summary import Attempt, Summary
from wdyn.reports.text import describe, plain
from wdyn.store.writer import Writer
from wdyn.testing import make_run


@pytest.fixture
def run(tmp_path):
    """A run of which a second attempt takes the place from step 5 on."""
    make_run(to=tmp_path / "run.zarr", steps=range(10))
    about = {"resumed_from_step": 5, "started": "today", "host": "[red]gpu7", "versions": {"torch": "2.13.0"}}
    with Writer(tmp_path / "run.zarr", about={}, attempt=about, resume=True):
        pass
    return tmp_path / "run.zarr"


def test_table__has_a_line_for_each_attempt(run):
    shown = table(summarize(wdyn.open_run(run)))
    assert shown.columns == ("Attempt", "Continues", "From step", "Its steps", "Host", "Started", "Versions")
    assert shown.rows[0][:4] == ("0", "nothing", "the start", "0–5")
    assert shown.rows[1] == ("1", "attempt 0", "5", "all superseded", "[red]gpu7", "today", "torch 2.13.0")


def test_table__says_what_was_pruned(run):
    wdyn.prune(run)
    shown = table(summarize(wdyn.open_run(run)))
    assert shown.rows[0][3].startswith("0–5; ")
    assert shown.rows[0][3].endswith(" superseded rows pruned")


def test_info__shows_it_where_there_are_several(run):
    told = plain(describe(summarize(wdyn.open_run(run))))
    assert "attempt 0" in told
    assert "[red]gpu7" in told
    assert "Continues" not in plain(describe(Summary(attempts=(Attempt(),))))
