"""Can a program rely on the report?"""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import xarray as xr

from wdyn.analysis.machinery import Analyzer
from wdyn.findings import Finding, Severity
from wdyn.reading.joining import join_runs
from wdyn.reports.report import analyze
from wdyn.testing import make_run


@pytest.fixture
def said(report):
    return json.loads(report.to_json())


def test_json__has_the_keys_that_it_promises(said):
    assert list(said) == ["format", "worst", "runs", "findings", "answers", "comparison"]
    assert said["format"] == 1
    assert list(said["runs"][0]) == [
        "source", "label", "model", "names", "values", "steps", "rows", "snapshots", "attempts", "closed", "writer",
        "seconds", "capture_seconds", "write_seconds", "disk_bytes", "lost_rows", "lost_snapshots", "blocks", "scalars",
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


def test_json__says_where_each_attempt_went_on(said):
    first, second = said["runs"][0]["attempts"]
    assert first.items() >= {"number": 0, "resumed_from_step": -1, "started": "2026-01-01T10:00:00+0000"}.items()
    assert second.items() >= {"number": 1, "resumed_from_step": 300, "started": "", "parent": 0}.items()
    assert first.keys() == second.keys() >= {"host", "versions", "steps", "pruned"}


def test_json__gives_the_ends_of_what_was_logged(run, one):
    run["scalars"] = run["scalars"].to_dataset().assign(loss=("step", np.linspace(4.0, 2.0, 601)))
    (loss,) = json.loads(analyze(run, [one]).to_json())["runs"][0]["scalars"]
    assert {key: loss[key] for key in ("name", "first", "last", "min", "max")} == {
        "name": "loss", "first": 4.0, "last": 2.0, "min": 2.0, "max": 4.0,
    }  # fmt: skip


def _evidence(run, one, evidence):
    def check(result):
        yield Finding("ONE001", Severity.INFO, "Long.", evidence=evidence)

    found = analyze(run, [Analyzer("long", "ONE", "?", one.measure, check, one.codes)])
    return json.loads(found.to_json())["findings"][0]["evidence"]


def test_json__gives_small_evidence_whole(run, one):
    told = _evidence(run, one, xr.Dataset({"x": (("step", "i"), np.ones((100, 10)))}))
    assert told["note"] == ""
    assert told["data_vars"]["x"]["data"] == np.ones((100, 10)).tolist()


def test_json__gives_the_first_and_the_last_step_of_long_evidence(run, one):
    x = np.arange(1800.0).reshape(600, 3)
    told = _evidence(run, one, xr.Dataset({"x": (("step", "i"), x)}, coords={"step": np.arange(600)}))
    assert told["note"] == "the first and the last of 600 steps"
    assert told["data_vars"]["x"]["data"] == x[[0, -1]].tolist()
    assert told["coords"]["step"]["data"] == [0, 599]


def test_json__cuts_evidence_that_is_long_at_every_step(run, one):
    x = np.ones((3, 5000))
    told = _evidence(run, one, xr.Dataset({"x": (("step", "i"), x), "y": ((), np.inf)}))
    assert told["note"] == "the first and the last of 3 steps, the first 499 of 5000 along i"
    assert np.shape(told["data_vars"]["x"]["data"]) == (2, 499)
    assert told["data_vars"]["y"]["data"] == "Infinity"


SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report-schema.json").read_text(encoding="utf-8"))


def _undescribed(value, schema):
    """Give the keys that a report has and its schema does not tell of."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list) and "items" in schema:
        return {key for item in value for key in _undescribed(item, schema["items"])}
    if not isinstance(value, dict) or "properties" not in schema or "allOf" in schema:
        return set()
    inner = (_undescribed(one, schema["properties"].get(key, {})) for key, one in value.items())
    return (value.keys() - schema["properties"].keys()).union(*inner)


def test_schema__is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_json__is_as_its_schema_says_and_has_no_other_keys(said):
    jsonschema.validate(said, SCHEMA)
    assert _undescribed(said, SCHEMA) == set()


def test_json__of_whole_runs_is_as_its_schema_says():
    run = make_run(
        layers=2, width=8, what=("weights", "updates"), steps=(0, 5, 10), nan_at={"blocks.0.mlp.up.weight": 10}
    )
    for one in (run, join_runs(a=run, b=run)):
        said = json.loads(analyze(one).to_json())
        jsonschema.validate(said, SCHEMA)
        assert _undescribed(said, SCHEMA) == set()
        assert said["findings"]


@pytest.mark.parametrize("lacking", ["worst", "findings", "answers"])
def test_schema__refuses_what_is_no_report(said, lacking):
    del said[lacking]
    with pytest.raises(jsonschema.ValidationError, match=f"'{lacking}' is a required property"):
        jsonschema.validate(said, SCHEMA)
