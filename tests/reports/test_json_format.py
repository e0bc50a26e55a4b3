"""Can a program rely on the report?"""

import json

import numpy as np
import pytest
import xarray as xr

from wdyn.analysis.machinery import Analyzer
from wdyn.findings import Finding, Severity
from wdyn.reports.report import analyze


@pytest.fixture
def said(report):
    return json.loads(report.to_json())


def test_json__has_the_keys_that_it_promises(said):
    assert list(said) == ["format", "worst", "runs", "findings", "answers"]
    assert said["format"] == 1
    assert list(said["runs"][0]) == [
        "source", "label", "model", "names", "values", "steps", "rows", "snapshots", "attempts", "closed", "seconds",
        "capture_seconds", "disk_bytes", "lost_rows", "lost_snapshots", "blocks",
    ]  # fmt: skip
    assert list(said["findings"][0]) == ["code", "severity", "message", "advice", "reproduce", "evidence"]
    assert list(said["answers"][0]) == ["analyzer", "family", "question", "skipped", "remedy", "codes"]


def test_json__says_what_was_found(said):
    assert said["worst"] == "ERROR"
    assert [finding["code"] for finding in said["findings"]] == ["ONE002", "ONE003", "ONE001"]
    assert said["answers"][0]["codes"] == ["ONE001", "ONE003", "ONE002"]
    assert said["answers"][1]["skipped"] == "no updates were recorded"


def test_json__gives_evidence_with_its_nan(said):
    evidence = said["findings"][1]["evidence"]
    assert evidence["data_vars"]["std"]["data"] == [[1.0], ["NaN"]]
    assert evidence["coords"]["parameter"]["data"] == ["wte.weight"]


def test_json__keeps_hostile_names_whole_in_plain_ascii(report, said, hostile):
    assert report.to_json().isascii()
    assert said["findings"][0]["message"] == f"{hostile} moved."


def test_json__says_unknown_without_words_that_json_lacks(run, one):
    quiet = Analyzer("quiet", "ONE", "?", one.measure, lambda result: (), one.codes)
    bare = xr.DataTree.from_dict({"/parameters": run["parameters"].to_dataset()})
    said = json.loads(analyze(bare, [quiet]).to_json(), parse_constant=pytest.fail)
    assert said["worst"] is None
    assert said["runs"][0]["seconds"] == "NaN"


def test_json__leaves_out_the_values_of_endless_evidence(run, one):
    def check(result):
        evidence = xr.Dataset({"x": ("i", np.arange(5000)), "y": ((), np.inf)})
        yield Finding("ONE001", Severity.INFO, "Long.", evidence=evidence)

    found = analyze(run, [Analyzer("long", "ONE", "?", one.measure, check, one.codes)])
    (finding,) = json.loads(found.to_json())["findings"]
    assert finding["evidence"]["data_vars"]["x"]["shape"] == [5000]
    assert "data" not in finding["evidence"]["data_vars"]["x"]
