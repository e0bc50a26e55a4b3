"""Does `distribution` tell of histograms what numpy and scipy tell of the values, and name what was planted?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from numpy.testing import assert_allclose

import wdyn
from wdyn import bins
from wdyn.analysis.distribution import distribution
from wdyn.errors import StepNotRecorded
from wdyn.findings import Severity
from wdyn.testing import make_run

STEPS = [0, 50, 100]
NORMAL = np.random.default_rng(0).normal(0, 0.02, (64, 48)).astype(np.float32)


def counted(values: np.ndarray) -> np.ndarray:
    return np.bincount(bins.bin_of(values).ravel(), minlength=bins.COUNT).astype(float)


@pytest.fixture
def planted(plant: Any, tree: Any) -> Any:
    """A run of planted parameters with their histograms: name -> values (step, ...); more about each in `about`."""

    def make(values: dict[str, np.ndarray], steps: list[int] = STEPS, **about: dict[str, Any]) -> xr.DataTree:
        known = {
            name: {"role": "q", "layer": int(name[2]) if name.startswith("h.") else -1, **about.get(name, {})}
            for name in values
        }
        run = tree([plant(name, values=v, **known[name]) for name, v in values.items()], steps=steps)
        count = np.array([[counted(v[row]) for v in values.values()] for row in range(len(steps))])
        lower, upper = bins.edges()
        edges = {"lower": ("bin", lower), "upper": ("bin", upper)}
        index = {"step": steps, "parameter": list(values)}
        run["histograms/weights"] = xr.DataTree(
            xr.Dataset({"count": (("step", "parameter", "bin"), count)}, index | edges)
        )
        return run

    return make


def over_time(*rows: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(row, dtype=np.float32) for row in rows])


def findings(run: xr.DataTree, **limits: Any) -> dict[str, Any]:
    return {finding.code: finding for finding in distribution.judge(distribution(run), **limits)}


def laplace(share: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(1)
    return NORMAL + (share * random.laplace(0, 0.05, NORMAL.shape)).astype(np.float32)


def test_distribution__equals_numpy_and_scipy(planted: Any) -> None:
    values = over_time(NORMAL, laplace(0.5), laplace())
    values[2, 0, :5] = 0
    result = distribution(planted({"h.0.q": values, "h.1.q": over_time(*[NORMAL] * 3)}))
    one, exact = result.sel(role="q", layer=0), values.astype(np.float64).reshape(3, -1)
    assert_allclose(one["std"], exact.std(axis=1), rtol=1e-12)
    assert_allclose(one["mean"], exact.mean(axis=1), rtol=1e-9)
    assert_allclose(one["kurtosis"], scipy.stats.kurtosis(exact, axis=1, fisher=False), rtol=1e-12)
    assert_allclose(one["std_ratio"], exact.std(axis=1) / exact[0].std(), rtol=1e-12)
    assert_allclose(one["iqr"], np.diff(np.quantile(exact, [0.25, 0.75], axis=1), axis=0)[0], rtol=0.1)
    assert_allclose(one["zeros"], (exact == 0).mean(axis=1))
    distances = [scipy.stats.wasserstein_distance(exact[0], row) for row in exact]
    assert_allclose(one["wasserstein"], distances, rtol=0.1, atol=1e-12)
    assert_allclose(one["ks"], [scipy.stats.ks_2samp(exact[0], row).statistic for row in exact], atol=0.06)
    beyond = [(np.abs(row) > 4 * np.sqrt((row**2).mean())).mean() for row in exact]
    assert_allclose(one["tail_weight"], beyond, atol=0.003)
    assert one["tail_weight"][2] > 10 * one["tail_weight"][0]
    assert result["count"].sel(role="q").values.tolist() == [NORMAL.size] * 2
    assert (result["wasserstein"].sel(role="q", layer=1) == 0).all()
    assert_allclose(result["histogram"].sel(role="q").sum("bin"), 2 * NORMAL.size)


def test_clusters__are_the_equal_bins_that_values_fill(planted: Any) -> None:
    signs = np.where(np.median(NORMAL) < NORMAL, 0.015, -0.015)
    eight = np.tile([-4.0, -2, -1, -0.5, 0.5, 1, 2, 4], NORMAL.size // 8).reshape(NORMAL.shape)
    mostly = np.where(np.arange(NORMAL.size).reshape(NORMAL.shape) % 2, eight, 0)
    found = distribution(planted({"h.0.q": over_time(signs, eight, mostly)}))["clusters"].sel(role="q", layer=0)
    assert_allclose(found, [2, 8, 4], rtol=1e-6)


def test_matrices_of_one_role_in_one_layer__are_pooled_exactly(planted: Any) -> None:
    wide = 3 * laplace() + 0.05
    halves = {"h.0.a": over_time(*[NORMAL] * 3), "h.0.b": over_time(*[wide[:10]] * 3)}
    result = distribution(planted(halves)).isel(step=0).sel(role="q", layer=0)
    together = np.concatenate([NORMAL.ravel(), np.float32(wide[:10]).ravel()]).astype(np.float64)
    assert_allclose(result["std"], together.std(), rtol=1e-9)
    assert_allclose(result["kurtosis"], scipy.stats.kurtosis(together, fisher=False), rtol=1e-9)
    assert result["count"] == together.size


@pytest.mark.parametrize("power", [-40, -1, 3])
def test_powers_of_two__scale_lengths_and_leave_shapes(power: int, planted: Any) -> None:
    values = over_time(NORMAL, laplace(0.5), laplace())
    a, b = (distribution(planted({"h.0.q": one})).sel(role="q", layer=0) for one in (values, values * 2.0**power))
    for name in ("std", "iqr", "wasserstein"):
        assert_allclose(b[name], a[name] * 2.0**power, rtol=1e-9, atol=0)
    for name in ("kurtosis", "tail_weight", "clusters", "ks", "std_ratio", "iqr_ratio"):
        assert_allclose(b[name], a[name], rtol=1e-9)


def test_parts__stand_beside_their_whole_and_add_up_to_it() -> None:
    run = make_run(layers=2, growth_by_layer=[3.0, 1.5])
    result = distribution(run)
    assert result["role"].values[result["fused"].values].tolist() == ["qkv"]
    counts = result["histogram"]
    assert_allclose(counts.sel(role=["q", "k", "v"]).sum("role"), counts.sel(role="qkv"))
    assert "unembedding" not in result["role"]  # tied: the embedding tells
    assert result["std_ratio"].sel(role="qkv", step=100).dropna("layer").values == pytest.approx([3, 1.5], rel=1e-5)


def test_any_two_layers__compare_by_their_counts() -> None:
    run = make_run(layers=2, growth_by_layer=[3.0, 1.5], width=32)
    apart = distribution(run, by_layer=True)["histogram"].sel(role="mlp_up", step=100)
    values = wdyn.select(run, role="mlp_up", step=100)
    true = scipy.stats.wasserstein_distance(*(values.sel(layer=layer).values.ravel() for layer in (0, 1)))
    assert_allclose(wdyn.wasserstein(apart.sel(layer=0), apart.sel(layer=1)), true, rtol=0.05)
    whole = distribution(run)["histogram"].sel(role="mlp_up", step=100)
    assert_allclose(apart.sum("layer"), whole)


def test_rows__are_thinned_and_keep_the_first_the_last_and_the_reference() -> None:
    run = make_run(layers=1, width=8, steps=range(0, 80, 2))
    result = distribution(run, rows=10, reference=38)
    assert 10 <= result.sizes["step"] <= 11
    assert {0, 38, 78} <= set(result["step"].values.tolist())
    assert (result["wasserstein"].sel(step=38, role="q", layer=0) == 0).all()
    assert (result["wasserstein"].sel(step=0, role="q", layer=0) > 0).all()
    with pytest.raises(StepNotRecorded, match=r"No row of histograms at step 39; the nearest are at \d+, \d+, \d+"):
        distribution(run, reference=39)


def test_runs__are_measured_each() -> None:
    joined = wdyn.join_runs(a=make_run(layers=2, growth_by_layer=2.0), b=make_run(layers=3, growth_by_layer=3.0))
    ratio = distribution(joined)["std_ratio"].sel(role="o", step=100)
    assert_allclose(ratio.sel(run="a", layer=[0, 1]), 2, rtol=1e-5)
    assert_allclose(ratio.sel(run="b", layer=[0, 1, 2]), 3, rtol=1e-5)


def test_gains_around_1__have_no_estimates_from_wide_bins() -> None:
    result = distribution(make_run(layers=1)).sel(role="norm", layer=0)
    for name in ("iqr", "clusters", "wasserstein", "ks"):
        assert result[name].isnull().all()
    assert result["std"].notnull().all()


def test_run_without_histograms__is_skipped_with_a_remedy(plant: Any, tree: Any) -> None:
    result = distribution(tree([plant("a", "linear", over_time(NORMAL))]))
    assert result.attrs["skipped"] == "no histogram of the weights was recorded"
    assert "every=" in result.attrs["remedy"]


def test_wider_with_longer_tails__is_told_and_wider_alone_is_not(planted: Any) -> None:
    still = over_time(NORMAL, NORMAL, NORMAL)
    found = findings(planted({"h.0.q": still, "h.1.q": over_time(NORMAL, laplace(0.5), laplace())}))
    assert set(found) == {"DIS001"}
    assert found["DIS001"].severity is Severity.INFO
    assert "q widened, with longer tails, in 1 weight: most in q of layer 1, std ×3." in found["DIS001"].message
    assert findings(planted({"h.0.q": over_time(NORMAL, 2 * NORMAL, 3 * NORMAL)})) == {}
    assert findings(planted({"h.0.q": still})) == {}


def test_reproduce__gives_the_evidence_again() -> None:
    run = make_run(layers=2)
    values = distribution(run)
    values["zeros"] = values["zeros"].where(values["step"] == 0, 0.5)
    for finding in distribution.judge(values):
        again = eval(finding.reproduce, {"wdyn": wdyn, "run": run})
        assert set(again.data_vars) == set(finding.evidence.data_vars)


def outliers(share: float) -> np.ndarray:
    values = NORMAL.copy()
    values.ravel()[:: int(1 / share)] *= 20
    return values


@pytest.mark.parametrize(
    ("last", "code", "words"),
    [
        (outliers(0.01), "DIS002", "Tails of q grew heavy in 1 weight: most in q of layer 0, kurtosis 2.95 → 105"),
        (np.sign(NORMAL) * 0.015, "DIS003", "in q of layer 0 they fill"),
        (np.where(np.abs(NORMAL) < 0.01, 0, NORMAL), "DIS004", "became exactly zero in 1 weight: share 0 → 0.372"),
        (np.where(NORMAL > 0.06, np.inf, NORMAL), "DIS005", "are infinite or beyond 2^128 in 1 weight"),
        (np.where(NORMAL > 0.02, 1e-39, NORMAL), "DIS006", "fell below 2^-126, the smallest normal float32"),
    ],
)
def test_each_fault__is_told_and_what_was_so_from_the_start_is_not(
    last: np.ndarray, code: str, words: str, planted: Any
) -> None:
    found = findings(planted({"h.0.q": over_time(NORMAL, NORMAL, last)}))
    assert code in found
    assert words in found[code].message
    assert found[code].severity is (Severity.ERROR if code == "DIS005" else Severity.WARNING)
    always = findings(planted({"h.0.q": over_time(last, last, last)}))
    assert set(always) == ({"DIS005"} if code == "DIS005" else set())
    assert code not in findings(planted({"h.0.q": over_time(NORMAL, NORMAL, 1.5 * NORMAL)}))


def test_few_values__have_no_tails_to_speak_of(planted: Any) -> None:
    few = over_time(NORMAL[0], NORMAL[0], outliers(0.05)[0])
    assert "DIS002" in findings(planted({"h.0.q": few}), least_values=1)
    assert findings(planted({"h.0.q": few})) == {}


def test_nan__is_counted_and_left_out_of_the_rest(planted: Any) -> None:
    sick = NORMAL.copy()
    sick[0, :3] = np.nan
    one = distribution(planted({"h.0.q": over_time(NORMAL, sick, sick)})).sel(role="q", layer=0)
    assert one["nans"].values.tolist() == [0, 3, 3]
    assert_allclose(one["std"][1], np.nanstd(sick.astype(np.float64)), rtol=1e-12)


def test_any_two_runs__compare_by_their_counts(planted: Any) -> None:
    one, other = over_time(*[NORMAL] * 3), over_time(*[laplace()] * 3)
    joined = wdyn.join_runs(a=planted({"h.0.q": one}), b=planted({"h.0.q": other}))
    last = distribution(joined)["histogram"].sel(role="q", step=100)
    distance = wdyn.wasserstein(last.sel(run="a"), last.sel(run="b"))
    assert_allclose(distance, scipy.stats.wasserstein_distance(NORMAL.ravel(), laplace().ravel()), rtol=0.1)


def test_longer_tails__that_few_values_show_by_chance_are_not_told() -> None:
    for seed in range(3):
        run = make_run(layers=24, width=16, growth_by_layer=3.0, seed=seed, steps=(0, 10))
        assert [one.code for one in distribution.judge(distribution(run))] == []


def test_reproduce__selects_the_very_evidence(planted: Any) -> None:
    run = planted({"h.0.q": over_time(NORMAL, NORMAL, outliers(0.01)), "h.0.k": over_time(*[NORMAL] * 3)})
    for finding in distribution.judge(distribution(run)):
        xr.testing.assert_identical(eval(finding.reproduce, {"wdyn": wdyn, "run": run}), finding.evidence)
