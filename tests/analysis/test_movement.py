"""Does movement equal float64 norms, and tell frozen from tuned?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numpy.testing import assert_allclose

import wdyn
from wdyn.analysis.comparing import compare
from wdyn.analysis.movement import movement
from wdyn.findings import Severity

STEPS = [0, 50, 100]


def still(seed: int = 0, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    return np.repeat(np.random.default_rng(seed).normal(size=shape).astype(np.float32)[None], len(STEPS), axis=0)


def moving(seed: int = 0, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    noise = np.random.default_rng(seed + 99).normal(size=(len(STEPS), *shape)).astype(np.float32)
    noise[0] = 0
    return still(seed, shape) + np.float32(0.1) * noise.cumsum(0)


def findings(run: xr.DataTree) -> dict[str, Any]:
    return {finding.code: finding for finding in movement.judge(movement(run))}


def test_movement__equals_float64_numpy_by_parameter_and_by_cohort(plant: Any, tree: Any) -> None:
    values = {name: moving(seed) for seed, name in enumerate(("wte", "h.0.q", "h.1.q", "h.0.ln", "h.1.ln"))}
    roles = {"wte": "embedding", "q": "q", "ln": "norm"}
    run = tree(
        [
            plant(name, roles[name.split(".")[-1]], v, layer=int(name[2]) if name[0] == "h" else -1)
            for name, v in values.items()
        ],
        steps=STEPS,
    )
    result = movement(run)
    for name, v in values.items():
        exact = v.astype(np.float64)
        one = result.sel(parameter=name)
        change = np.linalg.norm((exact - exact[0]).reshape(3, -1), axis=1)
        norm = np.linalg.norm(exact.reshape(3, -1), axis=1)
        assert_allclose(one["change"], change, rtol=1e-12)
        assert_allclose(one["norm"], norm, rtol=1e-12)
        assert_allclose(one["relative"], change / norm[0], rtol=1e-12)
    queries = np.stack([values["h.0.q"], values["h.1.q"]]).astype(np.float64)
    total = np.linalg.norm((queries - queries[:, :1])[:, 2])
    assert_allclose(result["cohort_change"].sel(cohort="tuned", step=100), total, rtol=1e-12)
    assert_allclose(
        result["cohort_relative"].sel(cohort="tuned", step=100), total / np.linalg.norm(queries[:, 0]), rtol=1e-12
    )
    assert result["cohort_change"].sel(cohort="frozen").isnull().all()
    assert findings(run) == {}


def test_frozen__that_stayed_is_told(plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", still(), trainable=False), plant("b", "linear", moving())], steps=STEPS)
    assert set(findings(run)) == {"FRZ005"}
    assert movement(run)["of_cohort"].values.tolist() == ["frozen", "tuned"]


def test_frozen__that_moved_is_an_error_with_the_likely_cause(plant: Any, tree: Any) -> None:
    shrinking = still(1) * np.array([1, 0.99, 0.98], np.float32)[:, None, None]
    run = tree(
        [
            plant("held", "linear", moving(), trainable=False),
            plant("free", "linear", moving(1), trainable=False, in_optimizer=False),
            plant("decayed", "linear", shrinking, trainable=False),
            plant("shared", "linear", moving(2), trainable=False),
            plant("twin", "linear", moving(2), tied_to="shared"),
        ],
        steps=STEPS,
    )
    found = [f for f in movement.judge(movement(run)) if f.code == "FRZ001"]
    causes = {f.evidence["parameter"].values.tolist()[0]: f.message for f in found}
    assert {f.severity for f in found} == {Severity.ERROR}
    assert "an optimizer holds it" in causes["held"]
    assert re.search(r"held by [\d.]+ \([\d.]+ of its first norm\) at step 50", causes["held"])
    assert "something other than the optimizer" in causes["free"]
    assert "weight decay" in causes["decayed"]
    assert "shares memory with a trainable weight" in causes["shared"]


def test_unfrozen_later__may_move_from_then_on_only(plant: Any, tree: Any) -> None:
    late = still()
    late[2] += 1
    run = tree([plant("a", "linear", late, trainable=False), plant("b", "linear", moving())], steps=STEPS)
    states = run["states"].to_dataset()

    def with_trainable(rows: list[int]) -> xr.DataTree:
        trainable = states["trainable"].copy()
        trainable.loc[{"parameter": "a"}] = rows
        changed = run.copy()
        changed["states"] = xr.DataTree(states.assign(trainable=trainable))
        return changed

    assert "FRZ001" not in findings(with_trainable([0, 0, 1]))
    assert "FRZ001" in findings(with_trainable([0, 0, 0]))
    # At step 50 nobody looked, and at 100 it was trainable: a move at 50 proves nothing.
    early = moving()
    unseen = tree([plant("a", "linear", early, trainable=False)], steps=STEPS)
    sparse = states.sel(parameter=["a"]).isel(step=[0, 2])
    unseen["states"] = xr.DataTree(sparse.assign(trainable=sparse["trainable"] * 0 + np.array([[0], [1]])))
    assert "FRZ001" not in findings(unseen)


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"in_optimizer": False}, "no optimizer holds it"),
        ({"dtype": "bfloat16"}, "below the spacing of bfloat16"),
        ({}, "no gradient reaches it"),
    ],
)
def test_trainable__that_never_moved_is_a_warning(more: dict[str, Any], cause: str, plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", still(), **more), plant("b", "linear", moving())], steps=STEPS)
    found = findings(run)
    assert set(found) == {"FRZ002"}
    assert found["FRZ002"].severity is Severity.WARNING
    assert "1 trainable weight did not move from step 0 to 100: a" in found["FRZ002"].message
    assert cause in found["FRZ002"].message


def test_learning_rate_zero__is_named_as_the_cause(plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", still()), plant("b", "linear", still(1))], steps=STEPS)
    lr = xr.Dataset({"lr": (("step", "group"), [[np.nan], [0.0], [0.0]])}, {"step": STEPS})
    run["scalars"] = xr.DataTree(lr)
    message = findings(run)["FRZ002"].message
    assert "None of the 2 trainable weights moved" in message
    assert "the learning rate of its group was 0" in message


def test_decayed_only__is_a_warning_and_training_is_not(plant: Any, tree: Any) -> None:
    shrinking = still() * np.array([1, 0.999, 0.998], np.float32)[:, None, None]
    run = tree([plant("a", "linear", shrinking), plant("b", "linear", moving())], steps=STEPS)
    found = findings(run)
    assert set(found) == {"FRZ003"}
    assert "a is 0.998 times its first value" in found["FRZ003"].message
    few = tree([plant("scale", "other", shrinking[:, 0, :1])], steps=STEPS)
    assert findings(few) == {}


def test_nan__is_an_error_at_its_first_step_and_gives_nan(plant: Any, tree: Any) -> None:
    broken = moving()
    broken[1:, 0, :2] = np.nan
    broken[2, 1, 0] = np.inf
    run = tree([plant("a", "linear", broken), plant("b", "embedding", moving(1))], steps=STEPS)
    result = movement(run)
    assert result["nonfinite"].sel(parameter="a").values.tolist() == [0, 2, 3]
    assert result["cohort_change"].sel(cohort="tuned").isnull().values.tolist() == [False, True, True]
    assert result["cohort_change"].sel(cohort="embeddings").notnull().all()
    assert result["change"].sel(parameter="a").isnull().values.tolist() == [False, True, True]
    found = findings(run)
    assert set(found) == {"FRZ004"}
    assert "first seen at step 50: 2 values in a" in found["FRZ004"].message


def test_buffers__are_never_judged(plant: Any, tree: Any) -> None:
    run = tree(
        [plant("running_mean", "buffer", moving(), kind="buffer", trainable=False), plant("b", "linear", moving())],
        steps=STEPS,
    )
    assert movement(run)["parameter"].values.tolist() == ["b"]
    assert findings(run) == {}


def test_odd_parameters__cope(plant: Any, tree: Any) -> None:
    run = tree(
        [
            plant("empty", "other", np.empty((3, 0, 4), np.float32)),
            plant("scalar", "other", np.array([1.0, 2.0, 4.0])),
            plant("int8", "linear", np.arange(12, dtype=np.int8).reshape(3, 4), trainable=False),
            plant("complex", "other", np.array([[3 + 4j], [0], [0]], np.complex64)),
            plant("born", "other", np.array([[0.0, 0], [3, 4], [6, 8]])),
        ],
        steps=STEPS,
    )
    last = movement(run).sel(step=100)
    assert_allclose(last["change"], [0, 3, 16, 5, 10])
    assert np.isnan(last["relative"].sel(parameter="born"))
    assert "FRZ001" in findings(run)
    assert "FRZ002" not in findings(run)


def test_runs_of_one_step__are_skipped_with_a_remedy(plant: Any, tree: Any) -> None:
    one = movement(tree([plant("a", "linear", moving()[:1])], steps=[50]))
    assert one.attrs["skipped"] == "only one step was recorded, step 50"
    assert "snapshots=" in one.attrs["remedy"]


@pytest.mark.parametrize("snapshots", [[], [50]])
def test_runs_without_two_snapshots__are_judged_by_their_statistics(snapshots: Any, plant: Any, tree: Any) -> None:
    broken = moving(2)
    broken[1:, 0, 0] = np.nan
    planted = [
        plant("kept", "linear", still(), trainable=False),
        plant("held", "linear", moving(1), trainable=False),
        plant("nan", "linear", broken),
        plant("free", "linear", moving(3)),
    ]
    result = movement(tree(planted, steps=STEPS, snapshots=snapshots))
    found = {one.code: one for one in movement.judge(result)}
    assert set(found) == {"FRZ001", "FRZ004", "FRZ005"}
    assert "held at step 50, by its statistics" in found["FRZ001"].message
    assert "first seen at step 50: 1 value in nan" in found["FRZ004"].message
    assert "stayed at all recorded steps, 0 to 100, by their statistics: kept" in found["FRZ005"].message
    assert result["snapshot"].sum() == len(snapshots)
    assert result["cohort_relative"].isel(step=0).isnull().all()


def test_nan__between_snapshots_is_told_at_its_first_step_with_all_that_had_it(plant: Any, tree: Any) -> None:
    steps = [0, 10, 20, 30]
    values = {name: np.repeat(moving(seed)[:1], 4, axis=0) + np.float32(0.1) for seed, name in enumerate("abcd")}
    for name, since in {"b": 1, "d": 1, "c": 3}.items():
        values[name][since:, 0, 0] = np.nan
        values[name][:, 1, 1] += np.arange(4)
    run = tree([plant(name, "linear", v) for name, v in values.items()], steps=steps, snapshots=[0, 30])
    found = {one.code: one for one in movement.judge(movement(run))}["FRZ004"]
    assert "in 3 weights; first seen at step 10: 2 values in b, d" in found.message
    assert found.evidence["parameter"].values.tolist() == ["b", "d", "c"]


def test_snapshots_at_different_steps__are_each_compared_with_their_own_first(plant: Any, tree: Any) -> None:
    run = tree([plant("a", "linear", moving()), plant("b", "linear", moving(1))], steps=STEPS)
    slug = next(s for s, n in run["weights"].children.items() if n.attrs["wdyn"]["names"] == ["b"])
    run[f"weights/{slug}"] = xr.DataTree(run[f"weights/{slug}"].to_dataset().isel(step=[1, 2]))
    result = movement(run)
    assert np.isnan(result["change"].sel(parameter="b", step=0))
    assert result["change"].sel(parameter="b", step=50) == 0


arrays = nps.arrays(np.float64, st.integers(1, 20), elements=st.floats(-100, 100, width=32))


@given(arrays, st.floats(0.125, 8))
def test_compare__sees_pure_scaling_as_such(weights: np.ndarray, c: float) -> None:
    change, norm, relative, scale, off_scale, nonfinite = compare(weights, c * weights)
    assert_allclose(norm, c * np.linalg.norm(weights), rtol=1e-12)
    assert nonfinite == 0
    if np.linalg.norm(weights) > 1e-100:
        assert_allclose(scale, c, rtol=1e-12)
        assert_allclose(relative, abs(c - 1), atol=1e-12)
        assert np.isnan(off_scale) if change == 0 else off_scale < 1e-6


@given(arrays, st.randoms())
def test_compare__ignores_the_order_of_the_values(weights: np.ndarray, random: Any) -> None:
    later = weights + np.linspace(-1, 1, weights.size)
    order = random.sample(range(weights.size), weights.size)
    assert_allclose(compare(weights[order], later[order])[:2], compare(weights, later)[:2], rtol=1e-9)


def test_compare__of_more_than_one_block_equals_one_sum() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 2**20 + 77)).astype(np.float32)
    assert_allclose(compare(one, other)[0], np.linalg.norm(other.astype(np.float64) - one), rtol=1e-12)


def test_adapters__are_a_cohort_of_their_own(plant: Any, tree: Any) -> None:
    names = {"q.base_layer.weight": False, "q.lora_A.default.weight": True, "q.lora_B.default.weight": True}
    planted = [
        plant(name, "q", moving(seed) if tuned else still(seed), trainable=tuned)
        for seed, (name, tuned) in enumerate(names.items())
    ]
    planted += [plant("k.lora_A.default.weight", "k", still(7), trainable=False), plant("k.weight", "k", moving(8))]
    result = movement(tree(planted, steps=STEPS))
    assert result["of_cohort"].values.tolist() == ["frozen", "adapters", "adapters", "frozen", "tuned"]
    both = [moving(1).astype(np.float64), moving(2).astype(np.float64)]
    change = np.sqrt(sum(np.linalg.norm(one[2] - one[0]) ** 2 for one in both))
    start = np.sqrt(sum(np.linalg.norm(one[0]) ** 2 for one in both))
    last = result.sel(cohort="adapters", step=100)
    assert_allclose([last["cohort_change"], last["cohort_relative"]], [change, change / start], rtol=1e-12)
    assert result["cohort_size"].to_series().to_dict() == {
        "frozen": 2, "tuned": 1, "adapters": 2, "embeddings": 0, "norms": 0,
    }  # fmt: skip


def test_updates__are_counted_by_parameter_and_by_cohort(plant: Any, tree: Any) -> None:
    run = tree(
        [
            plant("kept", "linear", still(), trainable=False),
            plant("a", "linear", moving()),
            plant("b", "linear", moving(1)),
            plant("norm", "norm", moving(2)),
        ],
        steps=STEPS,
    )
    plain = movement(run)
    assert plain["updates"].isnull().all()
    assert plain["cohort_updates"].isnull().all()
    norms = [[np.nan] * 4, [0.0, 1.0, 0.0, 0.0], [0.0, 2.0, 3.0, np.nan]]
    bad = [[np.nan] * 4, [0.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, np.nan]]
    over, names = ("step", "parameter"), ["kept", "a", "b", "norm"]
    updates = xr.Dataset({"l2": (over, norms), "nonfinite": (over, bad)}, {"step": STEPS, "parameter": names})
    run["statistics/updates"] = xr.DataTree(updates)
    result = movement(run)
    assert result["updates"].values.tolist() == [0, 2, 1, 1]  # NaN is no zero
    assert result["update_rows"].values.tolist() == [2, 2, 2, 1]
    counted = result[["cohort_updates", "cohort_update_rows"]].to_dataframe()
    assert counted.loc[["frozen", "tuned", "norms"]].values.tolist() == [[0, 2], [3, 4], [1, 1]]
    assert counted.loc[["adapters", "embeddings"]].isnull().all(axis=None)


def test_reproduce__of_many_decayed_names_holds_the_limit_that_was_asked_for(plant: Any, tree: Any) -> None:
    shrinking = still() * np.array([1, 0.999, 0.998], np.float32)[:, None, None]
    names = [f"h.{at}.w" for at in range(5)]
    run = tree([*(plant(name, "linear", shrinking) for name in names), plant("b", "linear", moving())], steps=STEPS)
    (found,) = [one for one in movement.judge(movement(run), off_scale=0.05) if one.code == "FRZ003"]
    assert "<= 0.05" in found.reproduce
    assert eval(found.reproduce, {"wdyn": wdyn, "run": run})["parameter"].values.tolist() == names
