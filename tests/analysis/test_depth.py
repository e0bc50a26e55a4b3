"""Does depth_growth measure and name the growth that was planted?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import linregress, spearmanr

import wdyn
from wdyn.analysis.depth import depth_growth
from wdyn.analysis.layers import half_step, lead, log_slope, rank_correlation
from wdyn.schema import Parts
from wdyn.testing import make_run

STEPS = [0, 10, 20, 30, 40]
RAMP = np.linspace(0, 1, len(STEPS))


def grown(factor: float, *, seed: int = 0, shape: tuple[int, ...] = (32, 24), pace: Any = RAMP) -> np.ndarray:
    """Values whose std goes from 0.02 to 0.02 * factor, exactly."""
    unit = np.random.default_rng(seed).normal(size=shape)
    unit = 0.02 * (unit - unit.mean()) / unit.std()
    return np.stack([unit * factor**way for way in pace])


def blocks(plant: Any, factors: list[float], role: str = "q", **more: Any) -> list[Any]:
    return [
        plant(f"h.{layer}.{role}.weight", role, grown(factor, seed=layer), layer=layer, **more)
        for layer, factor in enumerate(factors)
    ]


def findings(run: xr.DataTree, code: str = "", **limits: Any) -> list[Any]:
    return [f for f in depth_growth.judge(depth_growth(run), **limits) if f.code.startswith(code)]


def test_growth__is_std_over_first_std(plant: Any, tree: Any) -> None:
    factors = [3.0, 2.0, 1.5, 0.8]
    result = depth_growth(tree(blocks(plant, factors), steps=STEPS))
    assert result["growth"].dims == ("step", "role", "layer")
    assert_allclose(result["growth"].sel(role="q", step=40), factors, rtol=1e-12)
    assert_allclose(result["std"].sel(role="q", step=0), 0.02, rtol=1e-12)
    assert_allclose(result["change"].sel(role="q", step=40), 0.02 * (np.array(factors) - 1), rtol=1e-12)
    assert_allclose(result["slope"].sel(role="q", step=40), linregress(range(4), np.log(factors)).slope)
    assert_allclose(result["correlation"].sel(role="q", step=40), -1)
    assert result["stack"].item() == "decoder"


def test_depth_growth__names_the_layers_when_depth_orders_them(plant: Any, tree: Any) -> None:
    up, down = blocks(plant, [3, 2, 1.5, 1.1]), blocks(plant, [1.1, 1.5, 2, 3], role="mlp_up")
    early, late = findings(tree([*up, *down], steps=STEPS), "DEP001")
    assert "Earlier layers widen faster in q: std of q went ×3 in layer 0 and ×1.1 in layer 3" in early.message
    assert "Later layers widen faster in mlp_up" in late.message
    assert early.reproduce == "wdyn.depth_growth(run).growth.sel(role='q')"
    assert eval(early.reproduce, {"wdyn": Named, "run": tree([*up, *down], steps=STEPS)}).dims == ("step", "layer")


class Named:
    depth_growth = staticmethod(depth_growth)


def test_depth_growth__names_the_one_layer_that_was_planted(plant: Any, tree: Any) -> None:
    (found,) = findings(tree(blocks(plant, [1.2, 1.2, 3.0, 1.2, 1.19]), steps=STEPS), "DEP001")
    assert "Layer 2 widens fastest in q: std went ×3 there" in found.message


def test_frozen_layers__do_not_count_as_slow(plant: Any, tree: Any) -> None:
    tuned, frozen = blocks(plant, [1.0, 1.0, 3.0, 2.0, 1.5])[2:], blocks(plant, [1.0, 1.0], trainable=False)
    (found,) = findings(tree([*frozen, *tuned], steps=STEPS), "DEP001")
    assert "went ×3 in layer 2 and ×1.5 in layer 4" in found.message


def test_difference__that_few_values_show_by_chance_is_not_told(plant: Any, tree: Any) -> None:
    few = [plant(f"h.{i}.q", "q", grown(f, seed=i, shape=(4, 4)), layer=i) for i, f in enumerate((2, 1.8, 1.6, 1.4))]
    many = [plant(f"h.{i}.k", "k", grown(f, seed=i, shape=(64, 64)), layer=i) for i, f in enumerate((2, 1.8, 1.6, 1.4))]
    (found,) = findings(tree([*few, *many], steps=STEPS), "DEP001")
    assert "faster in k:" in found.message


def test_order__that_few_layers_show_by_chance_is_no_trend(plant: Any, tree: Any) -> None:
    (found,) = findings(tree(blocks(plant, [3.0, 1.5, 2.0, 1.1]), steps=STEPS), "DEP001")
    assert found.message.startswith("Layer 0 widens fastest in q")


def test_depth_growth__of_equal_layers_finds_nothing(plant: Any, tree: Any) -> None:
    assert findings(tree(blocks(plant, [1.5, 1.5, 1.5, 1.51]), steps=STEPS)) == []


def test_narrowing_layers__are_said_to_narrow(plant: Any, tree: Any) -> None:
    (found,) = findings(tree(blocks(plant, [0.6, 0.7, 0.8, 0.9]), steps=STEPS), "DEP001")
    assert found.message.startswith("Earlier layers narrow faster in q: std of q went ×0.6 in layer 0")


def test_collapse__is_a_warning_that_names_the_layer(plant: Any, tree: Any) -> None:
    (found,) = findings(tree(blocks(plant, [1.0, 0.1, 1.0, 1.0]), steps=STEPS), "DEP002")
    assert "q collapsed in layer 1" in found.message
    assert findings(tree(blocks(plant, [1.0, 0.6, 1.0, 1.0]), steps=STEPS), "DEP002") == []


def test_leading_end__is_told_by_when_half_the_growth_was_done(plant: Any, tree: Any) -> None:
    soon, late = [0, 0.9, 1, 1, 1], [0, 0, 0, 0.1, 1]
    layers = [plant(f"h.{i}.q", "q", grown(2, seed=i, pace=soon if i < 3 else late), layer=i) for i in range(6)]
    (found,) = findings(tree(layers, steps=STEPS), "DEP003")
    assert "The early layers move first: half of their growth was done by step 6" in found.message
    assert "late ones by step 34" in found.message
    assert findings(tree(blocks(plant, [2.0] * 6), steps=STEPS), "DEP003") == []


def test_zero_start__is_told_by_absolute_change(plant: Any, tree: Any) -> None:
    born = [plant(f"h.{i}.o", "o", grown(1, seed=i) * RAMP[:, None, None], layer=i) for i in range(3)]
    result = depth_growth(tree(born, steps=STEPS))
    assert result["zero_start"].all()
    assert result["growth"].isnull().all()
    assert_allclose(result["change"].sel(step=40), 0.02)
    assert [f.code for f in depth_growth.judge(result)] == ["DEP004"]


@pytest.mark.parametrize("repeats", [1, 4])
def test_fused_weights__come_apart_into_q_k_and_v_at_the_snapshots(repeats: int, plant: Any, tree: Any) -> None:
    size = 8 // repeats
    parts = Parts(axis=1, names=("q", "k", "v"), sizes=(size,) * 3, repeats=repeats)

    def fused(layer: int) -> np.ndarray:
        each = [grown(factor, seed=9 * layer + i, shape=(12, 8)) for i, factor in enumerate((2.0 + layer, 1.5, 1.0))]
        split = [part.reshape(len(STEPS), 12, repeats, size) for part in each]
        return np.concatenate(split, axis=3).reshape(len(STEPS), 12, 24)

    members = [
        plant(f"h.{i}.attn.weight", "qkv", fused(i), layer=i, dims=("fan_in", "fan_out"), parts=parts) for i in range(3)
    ]
    result = depth_growth(tree(members, steps=STEPS, snapshots=[0, 20, 40]))
    assert result["role"].values.tolist() == ["q", "k", "v", "qkv"]
    assert result["source"].values.tolist() == ["snapshots"] * 3 + ["statistics"]
    assert_allclose(result["growth"].sel(role="q", step=40), [2, 3, 4])
    assert_allclose(result["growth"].sel(role="v", step=40), 1)
    assert result["std"].sel(role="q", step=10).isnull().all()
    whole = members[1].array[3].std()
    assert_allclose(result["std"].sel(role="qkv", step=30, layer=1), whole)


def test_matrices_of_one_role_in_one_layer__are_pooled_exactly(plant: Any, tree: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 2, (2, 2, 5, 4)), rng.normal(-1, 1, (2, 2, 9, 3))
    experts = [
        plant(f"h.{layer}.experts.{name}.weight", "mlp_up", values[layer], layer=layer)
        for layer in (0, 1)
        for name, values in (("a", a), ("b", b))
    ]
    result = depth_growth(tree(experts, steps=[0, 1]))
    expected = np.concatenate([a[1, 1].ravel(), b[1, 1].ravel()]).std()
    assert_allclose(result["std"].sel(role="mlp_up", layer=1, step=1), expected, rtol=1e-12)


def test_two_towers__stay_apart(plant: Any, tree: Any) -> None:
    towers = [
        plant(f"{stack}.{i}.q", "q", grown(factor + i, seed=i), layer=i, stack=stack)
        for stack, factor in (("encoder", 2.0), ("decoder", 4.0))
        for i in range(3)
    ]
    result = depth_growth(tree(towers, steps=STEPS))
    assert_allclose(result["growth"].sel(stack="decoder", role="q", step=40), [4, 5, 6])
    late = findings(tree(towers, steps=STEPS), "DEP001")
    assert len(late) == 1
    assert "q (encoder)" in late[0].message
    assert "q (decoder)" in late[0].message


def test_layers_that_lack_a_role__are_nan(plant: Any, tree: Any) -> None:
    attention = [plant(f"h.{i}.q", "q", grown(2.0 + i, seed=i), layer=i) for i in (1, 5)]
    mixer = [plant(f"h.{i}.mixer", "ssm", grown(1.0), layer=i) for i in (0, 2, 3, 4)]
    result = depth_growth(tree([*attention, *mixer], steps=STEPS))
    growth = result["growth"].sel(role="q", step=40)
    assert np.flatnonzero(growth.notnull()).tolist() == [1, 5]
    assert list(depth_growth.judge(result))


def test_nan_weights__leave_nan_growth_only_where_nothing_is_finite(plant: Any, tree: Any) -> None:
    members = blocks(plant, [1.1, 2.0, 3.0])
    members[1].values[3:] = np.nan
    result = depth_growth(tree(members, steps=STEPS))
    assert result["growth"].sel(role="q", layer=1).isnull().values.tolist() == [False] * 3 + [True] * 2
    assert_allclose(result["growth"].sel(role="q", layer=2, step=40), 3)
    assert list(depth_growth.judge(result))


def test_runs_without_depth__are_skipped_with_a_reason(plant: Any, tree: Any) -> None:
    flat = tree([plant("fc.weight", "linear", grown(2.0))], steps=STEPS)
    assert "no matrix stands in a numbered block" in depth_growth(flat).attrs["skipped"]
    single = tree(blocks(plant, [2.0]), steps=STEPS)
    assert depth_growth(single).attrs["skipped"] == "only one layer was recorded"
    assert depth_growth(single).attrs["remedy"]
    start = tree([plant(f"h.{i}.q", "q", grown(2.0)[:1], layer=i) for i in range(3)], steps=[0])
    assert list(depth_growth.judge(depth_growth(start))) == []


growths = st.lists(st.floats(0.1, 10), min_size=3, max_size=12)


@given(growths)
def test_rank_correlation__equals_scipy(values: list[float]) -> None:
    growth, layer = np.array(values), np.arange(len(values))
    if np.ptp(growth) > 0:
        assert_allclose(rank_correlation(growth, layer), spearmanr(growth, layer).statistic, atol=1e-12)
    else:
        assert np.isnan(rank_correlation(growth, layer))


@given(growths, st.floats(0.125, 8), st.randoms())
def test_slope_and_correlation__ignore_scale_and_follow_the_layers(values: list[float], c: float, random: Any) -> None:
    growth, layer = np.array(values), np.arange(len(values))
    order = np.array(random.sample(range(len(values)), len(values)))
    assert_allclose(log_slope(c * growth, layer), log_slope(growth, layer), atol=1e-9)
    assert_allclose(log_slope(growth[order], layer[order]), log_slope(growth, layer), atol=1e-9)
    assert_allclose(log_slope(growth, layer[::-1]), -log_slope(growth, layer), atol=1e-9)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])  # both fixtures are constant
@given(order=st.permutations(range(4)), c=st.floats(0.125, 8))
def test_depth_growth__permutes_with_the_layers_and_not_with_the_scale(
    order: list[int], c: float, plant: Any, tree: Any
) -> None:
    factors = np.array([1.1, 2.0, 0.7, 1.4])
    members = [plant(f"h.{at}.q", "q", c * grown(factors[i], seed=i), layer=at) for at, i in enumerate(order)]
    result = depth_growth(tree(members, steps=STEPS))
    assert_allclose(result["growth"].sel(role="q", step=40), factors[order], rtol=1e-9)
    assert_allclose(result["std"].sel(role="q", step=0), c * 0.02, rtol=1e-9)


def test_half_step__is_nan_for_what_hardly_moved() -> None:
    step = np.array(STEPS)
    assert np.isnan(half_step(np.array([1, 1.001, 1.002, 1.001, 1.003]), step))


def test_half_step__lies_between_the_rows_around_it() -> None:
    assert_allclose(half_step(np.exp([0, 0.1, 0.9, np.nan, 1.0]), np.array(STEPS)), 15)


def test_norm__grows_and_orders_the_layers_like_the_values_do(plant: Any, tree: Any) -> None:
    run = tree(blocks(plant, [3.0, 2.0, 1.5]), steps=STEPS)
    result = depth_growth(run).sel(role="q")
    for layer, one in enumerate(blocks(plant, [3.0, 2.0, 1.5])):
        exact = np.linalg.norm(np.asarray(one.values, np.float64).reshape(len(STEPS), -1), axis=1)
        assert_allclose(result["norm"].sel(layer=layer), exact, rtol=1e-9)
        assert_allclose(result["norm_growth"].sel(layer=layer), exact / exact[0], rtol=1e-9)
        assert_allclose(result["norm_change"].sel(layer=layer), exact - exact[0], rtol=1e-9, atol=1e-12)
    assert float(result["norm_correlation"].isel(step=-1)) == -1
    assert float(result["norm_slope"].isel(step=-1)) < 0


def test_recorded_parts__are_read_at_every_row_and_not_from_snapshots() -> None:
    run = make_run(layers=2, growth_by_layer=[3.0, 1.5], steps=(0, 10, 20, 40), frozen=["blocks.1.attn.qkv.weight"])
    del run["weights"]
    result = depth_growth(run)
    assert result["role"].values[result["fused"].values].tolist() == ["qkv"]
    parts = wdyn.statistics(run, parts=True)
    for role in ("q", "k", "v"):
        true = parts["std"].isel(part=(parts["role"] == role).values)
        assert_allclose(result["std"].sel(role=role), true)
        assert result["source"].sel(role=role) == "statistics"
        assert result["trainable"].sel(role=role).values.tolist() == [True, False]


def test_lead__is_how_many_steps_the_early_layers_are_ahead() -> None:
    assert lead(np.array([10.0, 20, 30, 40, 50, 60])) == 40
    assert lead(np.array([60.0, np.nan, 50, 10])) == -50
    assert np.isnan(lead(np.array([10.0, np.nan, 20])))
