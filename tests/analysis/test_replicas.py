"""Are copies that differ told of, with when they parted, and those that differ by design let be?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import wdyn
from wdyn.analysis.machinery import examine
from wdyn.analysis.replicas import history, replicas, share_by
from wdyn.findings import Finding, Severity
from wdyn.testing import make_run

STEPS = (0, 4, 5, 6, 9)
ROLES = {"running_mean": "buffer", "mask": "buffer", "up": "mlp_up", "q": "q", "tok": "embedding"}


def run(differ: Mapping[str, Sequence[int]] | None, steps: Sequence[int] = STEPS) -> xr.DataTree:
    return make_run(layers=2, width=4, steps=steps, replicas_differ=differ)


def findings(made: xr.DataTree, **limits: int) -> list[Finding]:
    return list(replicas.judge(replicas(made), **limits))


@pytest.fixture
def network(plant: Any, tree: Any) -> Any:
    """Give a run of hand-made parameters whose copies differ as `differ` says, in attempts of so many processes."""

    def made(
        differ: Mapping[str, Sequence[float]],
        *,
        modules: Mapping[str, str] | None = None,
        attempts: Sequence[int] = (0,) * len(STEPS),
        processes: Sequence[int] = (2,),
    ) -> xr.DataTree:
        values = np.ones((len(STEPS), 3), np.float32)
        planted = []
        for name in differ:
            role = ROLES[name.rsplit(".", 1)[-1]]
            kind = "buffer" if role == "buffer" else "weight"
            layer = int(name[2]) if name.startswith("h.") else -1
            module = (modules or {}).get(name, "Linear")
            planted.append(plant(name, role, values, kind=kind, layer=layer, module=module))
        whole = tree(planted, steps=STEPS)
        counts = np.array(list(differ.values()), dtype=np.float64).T
        states = whole["states"].to_dataset().assign(replicas_differ=(("step", "parameter"), counts))
        whole["states"] = xr.DataTree(states.assign_coords(attempt=("step", np.array(attempts))))
        whole.attrs["wdyn"] = {"attempts": [{"processes": count} for count in processes]}
        return whole

    return made


def test_replicas__tell_when_copies_parted_and_met() -> None:
    nan = np.nan
    cases = {  # counts by row: first, last, since, agreed last, at the end, met again
        (0, 0, 0, 0, 0): (nan, nan, nan, 9, 0, 0),
        (0, 0, 1, 1, 3): (5, 9, 5, 4, 3, 0),
        (1, 1, 1, 1, 1): (0, 9, 0, nan, 1, 0),
        (2, 2, 0, 0, 0): (0, 4, nan, 9, 0, 1),
        (1, 0, 1, 0, 1): (0, 9, 9, 6, 1, 2),
        (0, 1, nan, nan, nan): (4, 4, 4, 0, 1, 0),
        (nan, 1, nan, 0, nan): (4, 4, nan, 6, 0, 1),
        (nan, nan, nan, 2, 2): (6, 9, 6, nan, 2, 0),
    }
    found = history(np.array(list(cases)).T, np.array(STEPS))
    assert list(found) == ["first_at", "last_at", "since", "agreed_at", "at_end", "rejoined"]
    np.testing.assert_array_equal(np.stack(list(found.values()), axis=1), np.array(list(cases.values())))


@given(
    st.lists(st.sampled_from([0.0, 1.0, 3.0, np.nan]), min_size=1, max_size=8).filter(lambda c: not np.isnan(c).all())
)
def test_history__is_what_a_walk_through_the_rows_says(counts: list[float]) -> None:
    steps = np.arange(len(counts)) * 10
    told = [(int(step), count) for step, count in zip(steps, counts, strict=True) if not np.isnan(count)]
    apart = [step for step, count in told if count]
    agreed = [step for step, count in told if not count]
    tail = [step for step in apart if step > max(agreed, default=-1)]
    met = sum(1 for (_, one), (_, other) in pairwise(told) if one and not other)
    expected = {
        "first_at": min(apart, default=np.nan),
        "last_at": max(apart, default=np.nan),
        "since": min(tail, default=np.nan),
        "agreed_at": max(agreed, default=np.nan),
        "at_end": told[-1][1],
        "rejoined": met,
    }
    found = history(np.array(counts)[:, None], steps)
    np.testing.assert_equal({name: float(values[0]) for name, values in found.items()}, expected)


def test_shares__are_of_what_was_compared() -> None:
    values = np.array([[1, 0, 2, np.nan], [np.nan, 0, np.nan, 0]])
    labels, share = share_by(np.array(["q", "k", "q", "q"]), values)
    assert labels.tolist() == ["q", "k"]
    np.testing.assert_array_equal(share, [[1, 0], [0, 0]])
    assert np.isnan(share_by(np.array(["q"]), np.array([[np.nan]]))[1]).all()


def test_replicas__counts_by_row_role_and_layer() -> None:
    result = replicas(run({"blocks.1.mlp.*.weight": (0, 0, 1, 1, 1), "tok.weight": (-1, 0, 0, 1, 1)}))
    assert result["differing"].values.tolist() == [0, 0, 2, 3, 3]
    assert result["compared"].values.tolist() == [13, 14, 14, 14, 14]  # the tied head counts under one name
    assert "head.weight" not in result["parameter"].values
    assert result["processes"].values.tolist() == [2] * 5
    assert result["by_role"].sel(roles="mlp_up").values.tolist() == [0, 0, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(result["by_layer"].sel(layers=1, step=[4, 5]), [0, 2 / 6])
    np.testing.assert_allclose(result["by_layer"].sel(layers=-1), [0, 0, 0, 0.5, 0.5])
    assert np.isnan(result["differ"].sel(parameter="tok.weight", step=0))


def test_replicas__that_agree_have_no_findings() -> None:
    result = replicas(run({}))
    assert not result["differ"].any()
    assert replicas.judge(result) == ()


def test_broken_tie__counts_under_its_own_name_from_then_on() -> None:
    made = make_run(layers=2, width=4, steps=STEPS, tie_breaks_at=6, replicas_differ={"head.weight": (1, 1, 1, 1, 1)})
    np.testing.assert_array_equal(replicas(made)["differ"].sel(parameter="head.weight"), [np.nan] * 3 + [1, 1])


def test_weights__that_part_are_one_error_that_names_the_first() -> None:
    (found,) = findings(run({"blocks.1.mlp.up.weight": (0, 0, 1, 1, 1), "blocks.*": (0, 0, 0, 2, 2)}))
    assert (found.code, found.severity) == ("REP001", Severity.ERROR)
    assert "12 of 14 parameters differ between 3 processes since step 5, after they agreed at step 4" in found.message
    assert "mlp_up of layer 1 (blocks.1.mlp.up.weight), and 11 more by step 6." in found.message
    assert "2 processes hold other bits than the first, at the last comparison, step 9" in found.message
    assert "one rank" in found.advice
    assert found.evidence["parameter"].values[0] == "blocks.1.mlp.up.weight"
    assert found.evidence.sizes["parameter"] == 12


def test_weights__that_never_agreed_were_not_broadcast() -> None:
    (found,) = findings(run({"blocks.0.attn.*": (1, 1, 1, 1, 1)}))
    assert (
        "2 of 14 parameters differ between 2 processes from step 0 on, so that they never began alike" in found.message
    )
    assert "One process holds" in found.message
    assert "broadcast" in found.advice


def test_weights__first_compared_late_parted_nobody_knows_when() -> None:
    (found,) = findings(run({"*": (1, 1, 1)}, steps=(500, 600, 700)))
    assert "at the first comparison already, at step 500" in found.message
    assert "not known" in found.advice


def test_weights__that_part_where_the_run_was_resumed_were_loaded_differently(network: Any) -> None:
    made = network({"h.0.up": (0, 0, 1, 1, 1), "tok": (0,) * 5}, attempts=(0, 0, 1, 1, 1), processes=(2, 4))
    result = replicas(made)
    assert result["processes"].values.tolist() == [2, 2, 4, 4, 4]
    (found,) = replicas.judge(result)
    assert "1 of 2 parameters differ between 4 processes since step 5, where the run was resumed" in found.message
    assert "checkpoint" in found.advice
    (later,) = findings(network({"tok": (0, 0, 0, 1, 1)}, attempts=(0, 0, 1, 1, 1), processes=(2, 2)))
    assert "resumed" not in later.message


def test_rows__that_were_not_compared_say_nothing(network: Any) -> None:
    nan = np.nan
    result = replicas(network({"tok": (nan, 0, nan, 0, nan), "h.0.up": (nan,) * 5}))
    assert result["step"].values.tolist() == [4, 6]
    assert result["parameter"].values.tolist() == ["tok"]
    assert replicas.judge(result) == ()
    (found,) = findings(network({"tok": (0, nan, nan, 1, nan), "h.0.up": (0,) * 5}))
    assert "since step 6, after they agreed at step 0" in found.message


def test_weights__that_agree_again_are_a_warning() -> None:
    (found,) = findings(run({"blocks.*": (1, 1, 0, 0, 0)}))
    assert (found.code, found.severity) == ("REP003", Severity.WARNING)
    assert "12 of 14 parameters differed between 2 processes, from step 0 to 4, and agree again" in found.message
    (left,) = findings(run({"tok.weight": (1, 0, 1, 1, 1)}))
    assert (left.code, "since step 5" in left.message) == ("REP001", True)


def test_weights__that_are_synchronised_from_time_to_time_are_let_be() -> None:
    made = run({"blocks.*": (1, 0, 1, 0, 1)})
    (found,) = findings(made)
    assert (found.code, found.severity) == ("REP003", Severity.INFO)
    assert "part between 2 processes and agree again, up to 2 times" in found.message
    (strict,) = findings(made, syncs=3)
    assert strict.code == "REP001"


def test_statistics_of_a_batch_norm__differ_by_design(network: Any) -> None:
    modules = {"h.0.running_mean": "BatchNorm2d", "h.1.running_mean": "SyncBatchNorm", "mask": "Causal"}
    differ = {"h.0.running_mean": (0, 1, 1, 1, 1), "tok": (0,) * 5, "h.1.running_mean": (0,) * 5, "mask": (0,) * 5}
    (found,) = findings(network(differ, modules=modules))
    assert (found.code, found.severity) == ("REP002", Severity.INFO)
    assert (
        "1 statistic of a batch norm differs between 2 processes, first at step 4, at 4 of 5 rows: h.0.running_mean"
        in found.message
    )
    assert "SyncBatchNorm" in found.advice


def test_other_buffers__that_differ_are_a_warning(network: Any) -> None:
    modules = {"h.0.running_mean": "BatchNorm2d", "h.1.running_mean": "SyncBatchNorm", "mask": "Causal"}
    differ = {"h.0.running_mean": (1,) * 5, "tok": (0,) * 5, "h.1.running_mean": (0, 1, 1, 1, 1), "mask": (1,) * 5}
    design, fault = findings(network(differ, modules=modules))
    assert (design.severity, fault.severity) == (Severity.INFO, Severity.WARNING)
    assert "2 buffers differ" in fault.message
    assert fault.evidence["parameter"].values.tolist() == ["h.1.running_mean", "mask"]


def test_buffers__are_told_of_only_where_no_weight_parted_before(network: Any) -> None:
    follow = network({"tok": (0, 1, 1, 1, 1), "mask": (0, 1, 1, 1, 1)})
    assert [found.code for found in findings(follow)] == ["REP001"]
    lead = network({"tok": (0, 0, 0, 1, 1), "mask": (1,) * 5})
    assert [found.code for found in findings(lead)] == ["REP001", "REP002"]


def test_evidence__is_what_its_line_gives_again(network: Any) -> None:
    many = {f"h.{layer}.{name}": (0, 0, 1, 1, 1) for layer in range(5) for name in ("q", "up")}
    buffers = {f"h.{layer}.running_mean": (1, 0, 1, 1, 1) for layer in range(5)} | {
        f"h.{n}.mask": (1,) * 5 for n in range(5)
    }
    met = {"h.6.q": (1, 1, 0, 0, 0), "h.6.up": (1, 1, 0, 0, 0), "h.7.q": (1, 0, 0, 0, 0), "h.7.up": (1, 0, 0, 0, 0)}
    synced = {f"h.8{n}.q": (1, 0, 1, 0, 1) for n in range(4)}
    names = dict.fromkeys([f"h.{layer}.running_mean" for layer in range(5)], "BatchNorm1d")
    seen = []
    for differ in (many | buffers, met | synced | buffers, buffers | {"tok": (0,) * 5}):
        made = network(differ, modules=names)
        for found in findings(made):
            again = eval(found.reproduce, {"wdyn": wdyn, "run": made})
            assert sorted(again["parameter"].values) == sorted(found.evidence["parameter"].values)
            xr.testing.assert_equal(again["differ"], found.evidence["differ"].sel(parameter=again["parameter"]))
            seen.append((found.code, found.severity))
    assert len(set(seen)) == 5


def test_joined_runs__keep_their_own_history() -> None:
    joined = wdyn.join_runs(a=run({"tok.weight": (0, 0, 1, 1, 1)}), b=run({}), c=run(None))
    whole = replicas(joined)
    assert whole["run"].values.tolist() == ["a", "b"]
    assert whole["since"].sel(parameter="tok.weight", run="a") == 5
    assert whole["since"].sel(run="b").isnull().all()
    (answer,) = examine(joined, analyzers=["replicas"])
    assert [found.message.partition(":")[0] for found in answer.findings] == ["a"]


def test_one_process__is_not_spoken_of_unless_asked() -> None:
    alone = run(None)
    assert "replicas" not in [answer.analyzer.name for answer in examine(alone)]
    assert "REP" not in wdyn.analyze(alone).to_text()
    (asked,) = examine(alone, analyzers=["replicas"])
    assert asked.skipped == "no second process recorded it"
    (selected,) = examine(alone, select=["REP"])
    assert selected.skipped


def test_several_processes__that_were_not_compared_are_told_the_remedy() -> None:
    alone, several = run(None), run(None)
    several.attrs["wdyn"]["attempts"] = [{"processes": 4}]
    (answer,) = [one for one in examine(several) if one.analyzer.name == "replicas"]
    assert answer.skipped == "the copies of the 4 processes were not compared"
    assert "check_replicas=True" in answer.remedy
    joined = wdyn.join_runs(a=alone, b=several)
    (answer,) = examine(joined, analyzers=["replicas"])
    assert "b: the copies of the 4 processes" in answer.skipped
    assert "check_replicas=True" in answer.remedy
