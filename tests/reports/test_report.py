"""Does a report say what its analyzers said, worst first?"""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from wdyn.analysis.machinery import Analyzer
from wdyn.errors import InvalidArgument, UnknownName
from wdyn.findings import Severity
from wdyn.reports.report import analyze


def test_report__gives_the_worst_finding_first(report):
    assert [finding.code for finding in report.findings] == ["ONE002", "ONE003", "ONE001"]
    assert isinstance(report.findings, tuple)
    assert report.worst is Severity.ERROR


def test_report__orders_equal_severities_by_code(run, one):
    def check(result):
        for finding in reversed(list(one.check(result))):
            yield type(finding)(finding.code, Severity.INFO, finding.message)

    found = analyze(run, [Analyzer("two", "ONE", "?", one.measure, check, one.codes)])
    assert [finding.code for finding in found.findings] == ["ONE001", "ONE002", "ONE003"]


def test_report__keeps_the_answer_of_an_analyzer_that_had_nothing_to_measure(report):
    assert [answer.skipped for answer in report.answers] == ["", "no updates were recorded"]


def test_report__has_no_worst_without_findings(run, one):
    quiet = Analyzer("quiet", "ONE", "?", one.measure, lambda result: (), one.codes)
    assert analyze(run, [quiet]).worst is None


def test_analyze__selects_and_ignores(run, one):
    assert [f.code for f in analyze(run, [one], select=["ONE001", "ONE003"]).findings] == ["ONE003", "ONE001"]
    assert [f.code for f in analyze(run, [one], ignore=["ONE002"]).findings] == ["ONE003", "ONE001"]


def test_analyze__refuses_a_code_that_nobody_gives(run, one):
    with pytest.raises(UnknownName, match="ONX"):
        analyze(run, [one], select=["ONX"])


def test_report__is_short_where_it_is_printed(report):
    assert repr(report) == str(report) == "Report of run.zarr: 1 error, 1 warning, 1 info"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("run.zarr", r"Found is str; .*: wdyn\.open_run\('run\.zarr'\)$"),
        (Path("run.zarr"), r"Found is \w*Path; needed is an opened run: wdyn\.open_run\('run\.zarr'\)$"),
        (xr.Dataset(), r"Found is Dataset; needed is an opened run: wdyn\.open_run\(path\)$"),
    ],
)
def test_analyze__asks_for_an_opened_run(given, words, one):
    with pytest.raises(InvalidArgument, match=words):
        analyze(given, [one])


def test_analyze__takes_joined_runs(run, one):
    from wdyn.reading.joining import join_runs

    found = analyze(join_runs(sgd=run, adam=run), [one])
    assert found.title == "sgd, adam"
    assert "sgd: wte.weight is wide." in found.to_text()
    page = found.to_html()
    assert "sgd: wte.weight is wide." in page
    assert page.count("<h3>All is") == 2


def test_analyze__survives_an_analyzer_that_breaks(run, one):
    def broken(run: xr.DataTree) -> xr.Dataset:
        raise ZeroDivisionError("by nothing")

    bad = Analyzer("bad", "BAD", "Is it bad?", broken, lambda result: (), {})
    with pytest.warns(RuntimeWarning, match="bad"):
        found = analyze(run, [bad, one])
    assert found.worst is Severity.ERROR
    assert "by nothing" in found.to_text()
    assert "by nothing" in found.to_html()


def test_analyze__tells_which_question_it_asks_before_each(run, one, absent):
    told = []

    def measure(run):
        told.append("measured")
        return one.measure(run)

    analyze(run, [absent, replace(one, measure=measure)], on_progress=lambda *words: told.append(words))
    assert told == [(1, 2, "Is it there?"), (2, 2, "Is one well?"), "measured"]


def test_answer__of_a_large_result_measures_it_anew_and_keeps_what_proves_its_findings(run, one, monkeypatch):
    monkeypatch.setattr("wdyn.reports.report._KEPT_BYTES", 100)
    held = []

    def measure(run):
        held.append("measured")
        return one.measure(run)

    found = analyze(run, [replace(one, measure=measure)], draw=True)
    assert len(held) == 1  # drawn from the one that was measured
    page = found.to_html()
    for form in (found.to_json, found.to_text, found.to_markdown):
        assert "wte.weight is wide." in form()
    assert len(held) == 1
    wide = next(finding for finding in found.findings if finding.code == "ONE003")
    assert wide.evidence["std"].values.base is None
    assert wide.evidence["std"].values.tolist()[0] == [1.0]
    assert "wte.weight is wide." in page
    xr.testing.assert_identical(
        found.answers[0].result, one.measure(run).assign_attrs(analyzer="one", question="Is one well?")
    )
    assert len(held) == 2


def test_analyze__that_draws_gives_the_same_page_as_one_that_does_not(run, one, absent):
    assert analyze(run, [one, absent], draw=True).to_html() == analyze(run, [one, absent]).to_html()


def test_analyze__lets_go_of_each_result_before_the_next_is_measured(run, one, monkeypatch):
    monkeypatch.setattr("wdyn.reports.report._KEPT_BYTES", 100)
    made, alive = [], []

    def measure(run):
        gc.collect()
        alive.append(sum(result() is not None for result in made))
        result = one.measure(run)
        made.append(weakref.ref(result["planted"].values))
        return result

    analyze(run, [replace(one, measure=measure)] * 3, draw=True)
    assert alive == [0, 0, 0]


def test_finding__says_all_in_a_notebook_and_names_in_it_stay_text(report, hostile):
    worst, wide, fine = (finding._repr_html_() for finding in report.findings)
    assert "<strong>WARNING</strong> <code>ONE003</code> wte.weight is wide." in wide
    assert "Make it narrow." in wide
    assert "<pre><code>wdyn.one(run).sel(parameter=&#x27;wte.weight&#x27;)</code></pre>" in wide
    assert "What to do" not in fine
    assert "<img" not in worst
