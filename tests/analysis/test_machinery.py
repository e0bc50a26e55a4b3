"""Do analyzers measure, judge, join and fail as promised?"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import wdyn
from wdyn.analysis.machinery import Analyzer, analyzer, examine, skip, skipped
from wdyn.errors import BrokenAnalyzer, UnknownName
from wdyn.findings import Finding, Severity
from wdyn.testing import make_run


def count_check(result: xr.Dataset, *, limit: int = 0) -> Any:
    if int(result["rows"]) > limit:
        yield Finding("CNT001", Severity.INFO, "rows", result, reproduce="wdyn.rows(run).rows")
        yield Finding("CNT002", Severity.INFO, "more rows", result)


@analyzer(family="cnt", question="How many rows?", check=count_check, codes={"CNT001": "rows", "CNT002": "more"})
def rows(run: xr.DataTree, *, factor: int = 1) -> xr.Dataset:
    """Count the rows."""
    return xr.Dataset({"rows": factor * run["scalars"].sizes["step"]})


@analyzer(family="BAD", question="Does it raise?", check=lambda result: ())
def raising(run: xr.DataTree) -> xr.Dataset:
    raise ZeroDivisionError("planted")


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run(layers=2)


def test_analyzer__measures_when_called_and_marks_the_result(run: xr.DataTree) -> None:
    result = rows(run, factor=2)
    assert result["rows"] == 6
    assert result.attrs == {"analyzer": "rows", "question": "How many rows?"}
    assert rows.family == "CNT"
    assert [finding.code for finding in rows.judge(result)] == ["CNT001", "CNT002"]
    assert rows.judge(result, limit=9) == ()


def test_analyzer__shows_the_help_and_signature_of_its_measurement() -> None:
    assert rows.__doc__ == "Count the rows."
    assert "factor" in inspect.signature(rows).parameters
    assert "``growth``" in (wdyn.depth_growth.__doc__ or "")


def test_analyzer__that_returns_no_dataset_or_yields_no_finding_is_told_what_is_needed(run: xr.DataTree) -> None:
    wrong = Analyzer("wrong", "WRO", "?", lambda run: 7, lambda result: ())
    with pytest.raises(BrokenAnalyzer, match=r"'wrong' returned int where an xarray\.Dataset is needed"):
        wrong(run)
    loose = Analyzer("loose", "LOO", "?", lambda run: xr.Dataset(), lambda result: ["text"])
    with pytest.raises(BrokenAnalyzer, match=r"'loose' yielded str where a wdyn\.Finding is needed"):
        loose.judge(loose(run))


def test_decorator__registers_nothing() -> None:
    assert rows not in wdyn.analyzers()
    assert rows.name not in {one.name for one in wdyn.analyzers()}


def test_examine__selects_and_ignores_by_family_and_by_code(run: xr.DataTree) -> None:
    both = [rows, wdyn.tied_weights]
    assert [a.analyzer.name for a in examine(run, analyzers=both, select=["CNT"])] == ["rows"]
    assert [a.analyzer.name for a in examine(run, analyzers=both, ignore=["tie"])] == ["rows"]
    (only,) = examine(run, analyzers=both, select=["CNT002"])
    assert [finding.code for finding in only.findings] == ["CNT002"]
    (rest,) = examine(run, analyzers=[rows], ignore="CNT002")
    assert [finding.code for finding in rest.findings] == ["CNT001"]


def test_examine__takes_names_and_refuses_unknown_ones(run: xr.DataTree) -> None:
    assert [a.analyzer.name for a in examine(run, analyzers=["movement", rows])] == ["movement", "rows"]
    with pytest.raises(UnknownName, match=r"No analyzer is named 'movment'\. Closest: movement"):
        examine(run, analyzers=["movment"])
    with pytest.raises(UnknownName, match=r"'XYZ' begins no finding code\. Families here: .*DEP, .*FRZ, INI, .*TIE"):
        examine(run, select=["XYZ"])
    with pytest.raises(BrokenAnalyzer, match="int is no analyzer"):
        examine(run, analyzers=[7])  # type: ignore[list-item]


def test_examine__lets_a_broken_analyzer_cost_a_warning_that_names_it(run: xr.DataTree) -> None:
    with pytest.warns(RuntimeWarning, match="'raising' failed with ZeroDivisionError: planted"):
        broken, whole = examine(run, analyzers=[raising, rows])
    assert "ZeroDivisionError: planted" in broken.skipped
    assert broken.remedy == "See the whole error with: wdyn.raising(run)"
    assert broken.findings == ()
    assert len(whole.findings) == 2


def test_examine__keeps_the_reason_and_the_remedy_of_what_was_skipped(run: xr.DataTree) -> None:
    silent = Analyzer("silent", "SIL", "?", lambda run: skip("no sound", remedy="record it"), count_check)
    (answer,) = examine(run, analyzers=[silent])
    assert (answer.skipped, answer.remedy, answer.findings) == ("no sound", "record it", ())


def test_every_builtin_code__is_explained_and_belongs_to_its_family() -> None:
    for one in wdyn.analyzers():
        assert one.codes
        assert all(code.startswith(one.family) and text.endswith(".") for code, text in one.codes.items())


@pytest.fixture(scope="module")
def pair() -> tuple[xr.DataTree, xr.DataTree]:
    early, late = [3.0, 2.0, 1.5, 1.1], [1.1, 1.5, 2.0, 3.0]
    first = make_run(growth_by_layer=early, width=32)
    return first, make_run(growth_by_layer=late, steps=(0, 7, 100), tied=False, seed=1, width=32)


def test_joined_runs__are_measured_one_by_one_and_lined_up(pair: tuple[xr.DataTree, xr.DataTree]) -> None:
    joined = wdyn.join_runs(a=pair[0], b=pair[1]).load()
    answering = [one for one in wdyn.analyzers() if not skipped(one(pair[0]))]
    assert {"init_audit", "tied_weights", "depth_growth", "movement"} <= {one.name for one in answering}
    for one in answering:
        whole = one(joined)
        assert whole["run"].values.tolist() == ["a", "b"]
        for label, run in zip("ab", pair, strict=True):
            alone = one(run)
            same = whole.sel(run=label).reindex_like(alone)
            for name in alone.data_vars:
                if alone[name].dtype.kind == "f":
                    np.testing.assert_array_equal(same[name].transpose(*alone[name].dims), alone[name])


def test_joined_runs__have_findings_that_name_the_run(pair: tuple[xr.DataTree, xr.DataTree]) -> None:
    joined = wdyn.join_runs(a=pair[0], b=pair[1]).load()
    found = [finding for answer in examine(joined) for finding in answer.findings]
    growth = {str(f.evidence["run"].values[0]): f for f in found if f.code == "DEP001"}
    assert growth["a"].message.startswith("a: Earlier layers widen faster")
    assert growth["b"].message.startswith("b: Later layers widen faster")
    assert [f.message[:2] for f in found if f.family == "TIE"] == ["a:"]
    shown = eval(growth["b"].reproduce, {"wdyn": wdyn, "run": joined})
    assert shown.sizes["layer"] == 4


def test_joined_runs__are_read_at_once_and_not_matrix_by_matrix(tmp_path: Path) -> None:
    for name in "ab":
        make_run(tmp_path / name, steps=(0, 10, 20) if name == "a" else (0, 10, 20, 30))
    runs = {name: wdyn.open_run(tmp_path / name) for name in "ab"}
    reads = []

    def count(graph: Any, keys: Any, **more: Any) -> Any:
        reads.append(keys)
        return dask.get(graph, keys, **more)

    with dask.config.set(scheduler=count):
        joined = wdyn.join_runs(**runs)
        before = len(reads)
        answers = examine(joined, analyzers=["init_audit", "tied_weights", "depth_growth", "movement"])
    assert not any(one.skipped for one in answers)
    # For each run the rows of each group, and then all values: not 27 matrices at three or four snapshots.
    assert len(reads) - before <= 30


def test_joined_runs__too_large_to_read_at_once_say_the_same(
    pair: tuple[xr.DataTree, xr.DataTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = wdyn.join_runs(a=pair[0], b=pair[1])
    expected = wdyn.movement(joined)
    monkeypatch.setattr("wdyn.reading.joining._SMALL", 0)
    xr.testing.assert_identical(wdyn.movement(joined), expected)


def test_joined_runs__of_which_some_are_skipped_keep_the_others(pair: tuple[xr.DataTree, xr.DataTree]) -> None:
    bare = pair[1].copy()
    del bare["weights"], bare["statistics"]
    joined = wdyn.join_runs(a=pair[0], b=bare).load()
    result = wdyn.movement(joined)
    assert result["run"].values.tolist() == ["a"]
    assert result.attrs["skipped_runs"] == "b: no weight was recorded"
    only = wdyn.movement(wdyn.join_runs(b=bare))
    assert only.attrs["skipped"] == "b: no weight was recorded"
