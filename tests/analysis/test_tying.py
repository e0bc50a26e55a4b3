"""Does tied_weights follow shared memory over time?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import wdyn
from wdyn.analysis.tying import tied_weights
from wdyn.findings import Severity

RNG = np.random.default_rng(0)
STEPS = [0, 5, 10, 15]


def drifting(seed: int, shape: tuple[int, ...] = (7, 4)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 0.1 * rng.normal(size=(len(STEPS), *shape)).cumsum(0)).astype(np.float32)


@pytest.fixture
def tied(plant: Any, tree: Any) -> xr.DataTree:
    table = drifting(1)
    return tree(
        [
            plant("wte.weight", "embedding", table),
            plant("fc.weight", "linear", drifting(2)),
            plant("lm_head.weight", "unembedding", table, tied_to="wte.weight"),
        ],
        steps=STEPS,
        snapshots=[0, 10, 15],
    )


def with_shares(run: xr.DataTree, name: str, leaders: list[float]) -> xr.DataTree:
    states = run["states"].to_dataset()
    shares = states["shares_with"].copy()
    shares.loc[{"parameter": name}] = leaders
    changed = run.copy()
    changed["states"] = xr.DataTree(states.assign(shares_with=shares))
    return changed


def found(run: xr.DataTree) -> dict[str, Any]:
    return {finding.code: finding for finding in tied_weights.judge(tied_weights(run))}


def test_tie__that_holds_is_told_and_nothing_else(tied: xr.DataTree) -> None:
    result = tied_weights(tied)
    assert result["pair"].values.tolist() == ["lm_head.weight = wte.weight"]
    assert result["declared"].item() is True
    assert (result["shared"] == 1).all()
    assert (result["equal"] == 1).all()
    findings = found(tied)
    assert set(findings) == {"TIE004"}
    assert "at all recorded steps, 0 to 15" in findings["TIE004"].message


def test_tie__that_broke_is_an_error_with_its_step(tied: xr.DataTree) -> None:
    findings = found(with_shares(tied, "lm_head.weight", [0, 0, 2, 2]))
    assert set(findings) == {"TIE001"}
    broken = findings["TIE001"]
    assert broken.severity is Severity.ERROR
    assert "lm_head.weight and wte.weight no longer share one weight from step 10 on" in broken.message
    assert broken.evidence["broke_at"].item() == 10


def test_tie__that_broke_tells_when_the_values_parted(plant: Any, tree: Any) -> None:
    table = drifting(1)
    head = table.copy()
    head[2:] += 1
    run = tree([plant("wte.weight", "embedding", table), plant("lm_head.weight", "unembedding", head)], steps=STEPS)
    message = found(with_shares(run, "lm_head.weight", [0, 1, 1, 1]))["TIE001"].message
    assert "from step 5 on; their values differ from step 10" in message


def test_tie__declared_but_not_shared_at_the_first_row_is_broken(tied: xr.DataTree) -> None:
    assert tied_weights(with_shares(tied, "lm_head.weight", [2, 2, 2, 2]))["broke_at"].item() == 0


@pytest.mark.parametrize(("attempts", "resumed"), [([0, 0, 1, 1], True), ([0, 0, 0, 1], False), ([0, 1, 1, 1], False)])
def test_tie__that_broke_says_whether_the_run_was_resumed_there(
    attempts: list[int], resumed: bool, tied: xr.DataTree
) -> None:
    run = with_shares(tied, "lm_head.weight", [0, 0, 2, 2])
    run["states"] = run["states"].to_dataset().assign_coords(attempt=("step", attempts))
    assert tied_weights(run)["attempt"].values.tolist() == attempts
    assert ("from step 10 on, where the run was resumed" in found(run)["TIE001"].message) is resumed


def test_tie__that_a_loaded_model_lost_is_found_in_a_resumed_run(place: Path) -> None:
    def model() -> nn.ModuleDict:
        return nn.ModuleDict({"wte": nn.Embedding(7, 4), "fc": nn.Linear(4, 4), "lm_head": nn.Linear(4, 7, bias=False)})

    first = model()
    first["lm_head"].weight = first["wte"].weight
    with wdyn.watch(first, to=place, every=1) as w:
        w.step()
        w.step()
    second = model()  # nobody ties it
    second.load_state_dict(first.state_dict())
    with wdyn.watch(second, to=place, every=1, resume=2) as w:
        with torch.no_grad():
            second["wte"].weight.add_(1)
        w.step()
    (broken,) = [one for one in tied_weights.judge(tied_weights(wdyn.open_run(place))) if one.code == "TIE001"]
    assert "no longer share one weight from step 2 on, where the run was resumed" in broken.message
    assert "their values differ from step 3" in broken.message


def test_tie__that_appeared_is_a_warning(plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", drifting(1)), plant("b", "linear", drifting(2))], steps=STEPS)
    findings = found(with_shares(run, "b", [1, 1, 0, 0]))
    assert set(findings) == {"TIE002"}
    assert findings["TIE002"].evidence["appeared_at"].item() == 10


def test_equal_values__in_separate_memory_are_no_tie(plant: Any, tree: Any) -> None:
    start = drifting(1)
    copy = drifting(2)
    copy[0] = start[0]
    run = tree([plant("target.weight", "linear", start), plant("online.weight", "linear", copy)], steps=STEPS)
    findings = found(run)
    assert set(findings) == {"TIE003"}
    assert "online.weight = target.weight: equal values at step 0" in findings["TIE003"].message
    result = tied_weights(run)
    assert result["equal"].values[:, 0].tolist() == [1, 0, 0, 0]
    assert (result["shared"] == 0).all()


def test_equal_values__are_seen_in_statistics_where_no_snapshot_was_taken(plant: Any, tree: Any) -> None:
    values = drifting(1)
    run = tree([plant("a", "linear", values), plant("b", "linear", values)], steps=STEPS, snapshots=[])
    assert (tied_weights(run)["equal"] == 1).all()


def test_same_statistics__of_permuted_values_are_not_equal(plant: Any, tree: Any) -> None:
    values = drifting(1)
    run = tree([plant("a", "linear", values), plant("b", "linear", values[:, ::-1])], steps=STEPS)
    assert tied_weights(run).sizes["pair"] == 0


def test_constants__are_equal_by_nature_and_not_told(plant: Any, tree: Any) -> None:
    run = tree([plant(f"h.{i}.ln.weight", "norm", np.ones((4, 8)), layer=i) for i in range(3)], steps=STEPS)
    assert tied_weights(run).sizes["pair"] == 0
    assert found(run) == {}


def test_three_names__that_lose_one_stay_a_pair(plant: Any, tree: Any) -> None:
    values = drifting(1)
    names = [plant("a", "embedding", values), *(plant(n, "linear", values, tied_to="a") for n in "bc")]
    run = with_shares(with_shares(tree(names, steps=STEPS), "b", [0, 0, 1, 1]), "c", [0, 0, 1, 1])
    result = tied_weights(run).set_index(pair=["partner", "name"])
    assert result["broke_at"].sel(pair=("a", "b")) == 10
    assert result["shared"].sel(pair=("b", "c")).values.tolist() == [1, 1, 1, 1]


def test_buffers_and_runs_without_states__cope(plant: Any, tree: Any) -> None:
    values = drifting(1)
    buffers = [plant("a", "buffer", values, kind="buffer"), plant("b", "buffer", values, kind="buffer", tied_to="a")]
    assert tied_weights(tree(buffers, steps=STEPS)).sizes["pair"] == 0
    run = tree([plant("x", "linear", values), plant("y", "linear", values, tied_to="x")], steps=STEPS)
    del run["states"]
    result = tied_weights(run)
    assert result["shared"].isnull().all()
    assert result["declared"].item() is True


@given(leaders=st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=4, max_size=4))
def test_breaking__is_the_first_step_apart_after_a_step_together(leaders: list[float]) -> None:
    from wdyn.analysis.tying import _turned

    shared = np.array([1 - leader for leader in leaders])
    together = [i for i, value in enumerate(shared) if value == 1]
    apart = [i for i, value in enumerate(shared) if value == 0 and together and i > together[0]]
    turned = _turned(shared[:, None], np.array(STEPS), begin=np.array([np.nan]), to=0)[0]
    assert turned == STEPS[apart[0]] if apart else np.isnan(turned)


def test_copied_layers__are_told_in_one_sentence_with_a_short_line(plant: Any, tree: Any) -> None:
    tensors = {"lin.weight": drifting(1)[:1], "out.weight": drifting(2)[:1]}
    apart = [0, 1, 2, 3]
    layers = [
        plant(f"net.layers.{at}.{name}", "linear", np.concatenate([v, v + at + 1, v + 2 * at, v + at]), layer=at)
        for at in apart
        for name, v in tensors.items()
    ]
    run = tree(layers, steps=STEPS)
    (one,) = tied_weights.judge(tied_weights(run))
    assert one.message == (
        "All 4 layers, net.layers.0 to net.layers.3, held the same values at step 0, in separate memory: 2 "
        "tensors of each (*.lin.weight, *.out.weight) are copies, which is no tie"
    )
    assert len(one.reproduce) <= 160
    shown = eval(one.reproduce, {"wdyn": wdyn, "run": run})
    assert shown["pair"].values.tolist() == one.evidence["pair"].values.tolist()


@pytest.mark.parametrize(("two", "words"), [(False, ""), (True, "; as two tensors in one memory")])
def test_tie__of_one_tensor_is_told_from_one_of_two_tensors_in_one_memory(place: Path, two: bool, words: str) -> None:
    model = nn.ModuleDict({"wte": nn.Embedding(7, 4), "lm_head": nn.Linear(4, 7, bias=False)})
    weight = model["wte"].weight
    model["lm_head"].weight = nn.Parameter(weight.data) if two else weight
    with wdyn.watch(model, to=place, every=1) as w:
        w.step()
    result = tied_weights(wdyn.open_run(place))
    assert result["same_tensor"].values.tolist() == [[0.0 if two else 1.0]] * 2
    (held,) = tied_weights.judge(result)
    assert (held.code, words in held.message) == ("TIE004", True)
    assert ("two tensors" in held.message) == two


def test_tie__of_a_run_that_does_not_tell_of_tensors_is_nan(tied: xr.DataTree) -> None:
    assert tied_weights(tied)["same_tensor"].isnull().all()
