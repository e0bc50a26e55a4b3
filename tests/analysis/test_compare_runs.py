"""Does a comparison put curves on one axis, rank, group repeats, pool weights, and fire where it should only?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import wdyn
from wdyn.analysis.compare_runs import compare_runs
from wdyn.analysis.compare_runs_curves import summed_rate
from wdyn.errors import InvalidArgument
from wdyn.findings import Severity
from wdyn.testing import make_run

STEPS = tuple(range(0, 101, 10))


Make = Callable[..., xr.DataTree]


@pytest.fixture
def made(plant: Any, tree: Any) -> Make:
    """Make a run of two matrices that logged what is given; at the last step they are `growth` times what they were."""

    def make(
        loss: Sequence[float],
        *,
        steps: Sequence[int] = STEPS,
        lr: float | np.ndarray = 1e-3,
        optimizer: str = "AdamW",
        name: str = "loss",
        logged: dict[str, Any] | None = None,
        growth: float = 2.0,
        seed: int = 0,
        **planted: Any,
    ) -> xr.DataTree:
        at = np.asarray(steps)
        start = np.random.default_rng(seed).normal(size=(2, 4, 3))
        values = start[:, None] * np.linspace(1, growth, len(at))[:, None, None]
        run = tree([plant(f"h.{i}.up", "mlp_up", values[i], layer=i, **planted) for i in (0, 1)], steps=at)
        rates = np.full((len(at), 1), lr) if isinstance(lr, float) else lr.copy()
        rates[0] = np.nan
        numbers = {name: loss, **(logged or {})}
        scalars = {key: ("step", np.asarray(one, dtype=float)) for key, one in numbers.items()}
        coords = {"step": at, "attempt": ("step", np.zeros(len(at), dtype=int))}
        run["scalars"] = xr.DataTree(xr.Dataset({**scalars, "lr": (("step", "group"), rates)}, coords))
        run.attrs["wdyn"] = {"optimizers": [{"name": optimizer, "groups": [{"lr": 1e-3, "eps": 1e-8}]}]}
        return run

    return make


def falling(rate: float, count: int = len(STEPS)) -> np.ndarray:
    return 4 * np.exp(-rate * np.arange(count))


def compared(runs: dict[str, xr.DataTree], **options: Any) -> xr.Dataset:
    return compare_runs(wdyn.join_runs(**runs), **options)


def codes(result: xr.Dataset, **limits: Any) -> list[str]:
    return [finding.code for finding in compare_runs.judge(result, **limits)]


def test_score__is_the_median_of_the_last_values_and_ranks_the_smallest_first(made: Make) -> None:
    noisy = falling(0.3)
    noisy[-1] = 50.0
    result = compared({"slow": made(falling(0.1)), "fast": made(falling(0.5), seed=1), "noisy": made(noisy, seed=2)})
    losses = (falling(0.1), falling(0.5), noisy)
    assert_allclose(result["score"], [np.median(loss[-5:]) for loss in losses])
    assert result["rank"].values.tolist() == [3, 1, 2]
    by_last = compared({"fast": made(falling(0.5)), "noisy": made(noisy, seed=2)}, last=1)
    assert_allclose(by_last["score"], [falling(0.5)[-1], 50.0])
    assert_allclose(result["metric_lowest"].sel(run="noisy"), falling(0.3)[-2])
    with pytest.raises(InvalidArgument, match="last=0: needed is how many last values"):
        compared({"a": made(falling(0.1)), "b": made(falling(0.2))}, last=0)


def test_curves__on_steps_keep_recorded_values_and_lie_on_lines_between_them(made: Make) -> None:
    often = made(falling(0.1))
    seldom = made([4.0, 2.0, 1.0], steps=(0, 50, 80), seed=1)
    curve = compared({"often": often, "seldom": seldom})["curve"]
    assert_array_equal(curve["at"], STEPS)
    assert_allclose(curve.sel(run="often"), falling(0.1))
    assert_allclose(curve.sel(run="seldom", at=slice(0, 80)), np.interp(STEPS[:9], [0, 50, 80], [4.0, 2.0, 1.0]))
    assert curve.sel(run="seldom", at=slice(81, None)).isnull().all()


def test_curves__do_not_bridge_nan(made: Make) -> None:
    holed = falling(0.1)
    holed[4:7] = np.nan
    curve = compared({"a": made(falling(0.1)), "b": made(holed, seed=1)})["curve"].sel(run="b")
    assert_array_equal(np.isnan(curve), np.isnan(holed))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=20))
def test_summed_rate__is_the_sum_over_all_steps_made(rates: list[float]) -> None:
    names = {"parameter": ["w"]}
    table = {"tied_to": "", "trainable": True, "group": 0, "numel": 6}
    run = xr.DataTree.from_dict({"/parameters": xr.Dataset({k: ("parameter", [v]) for k, v in table.items()}, names)})
    steps = 10 * np.arange(len(rates) + 1)  # each row stands for ten steps
    scalars = xr.Dataset({"lr": (("step", "group"), np.array([np.nan, *rates])[:, None])}, {"step": steps})
    assert_allclose(summed_rate(run, scalars), np.r_[0, 10 * np.cumsum(rates)], rtol=1e-9)


def test_positions__on_lr_weigh_groups_by_their_trainable_elements(made: Make) -> None:
    two = made(falling(0.1), lr=np.tile([1e-3, 5e-3], (len(STEPS), 1)))
    table = two["parameters"].to_dataset()
    two["parameters"] = xr.DataTree(table.assign(group=("parameter", [0, 1]), numel=("parameter", [12, 36])))
    result = compared({"one": made(falling(0.1)), "two": two}, on="lr")
    ends = [float(result["curve"].sel(run=label).dropna("at")["at"][-1]) for label in ("one", "two")]
    assert_allclose(ends, [100 * 1e-3, 100 * (0.25 * 1e-3 + 0.75 * 5e-3)], rtol=1e-12)


def test_positions__on_a_counter_follow_what_was_logged(made: Make) -> None:
    steps = np.asarray(STEPS)
    small = made(falling(0.1), logged={"tokens": 8 * steps})
    large = made(falling(0.2), logged={"tokens": 32 * steps}, seed=1)
    curve = compared({"small": small, "large": large}, on="tokens")["curve"]
    assert_allclose(curve.sel(run="small", at=400), np.interp(50, steps, falling(0.1)))
    assert_allclose(curve.sel(run="large", at=400), np.interp(12.5, steps, falling(0.2)))
    assert np.isnan(curve.sel(run="small", at=3200))


@pytest.mark.parametrize(
    ("options", "reason", "remedy"),
    [
        ({"on": "tokens"}, "the run 'b' has no 'tokens' to be aligned on", "loss"),
        ({"metric": "los"}, "no run logged 'los'", "choose one of what was logged: loss"),
        ({"on": "batch"}, "'batch' falls in the run 'a'", "a running total"),
    ],
)
def test_comparison__that_cannot_be_made_is_skipped_with_the_remedy(
    made: Make, options: dict[str, str], reason: str, remedy: str
) -> None:
    batch = np.arange(len(STEPS))[::-1]
    a = made(falling(0.1), logged={"tokens": STEPS, "batch": batch})
    b = made(falling(0.1), logged={"batch": batch}, seed=1)
    result = compared({"a": a, "b": b}, **options)
    assert reason in result.attrs["skipped"]
    assert remedy in result.attrs["remedy"]


def test_loss__is_found_by_its_other_names(made: Make) -> None:
    result = compared({"a": made(falling(0.1), name="train_loss"), "b": made(falling(0.2), seed=1)})
    assert result["rank"].values.tolist() == [2, 1]


def test_repeats__are_runs_of_equal_settings_and_their_band_is_mean_lowest_and_highest(made: Make) -> None:
    losses = [falling(0.1), falling(0.2), falling(0.3)]
    runs = {f"seed{at}": made(loss, seed=at) for at, loss in enumerate(losses)}
    result = compared(runs | {"other": made(falling(0.1), optimizer="SGD", seed=9)})
    assert result["group"].values.tolist() == [0, 0, 0, 1]
    band = result.sel(repeats=0)
    assert_allclose(band["band_mean"], np.mean(losses, axis=0))
    assert_allclose(band["band_min"], np.min(losses, axis=0))
    assert_allclose(band["band_max"], np.max(losses, axis=0))
    assert_allclose(result["band_mean"].sel(repeats=1), falling(0.1))
    assert codes(result) == ["CMP001"]


def test_bands__end_where_one_of_their_runs_does(made: Make) -> None:
    result = compared({"a": made(falling(0.1)), "b": made(falling(0.1, 6), steps=STEPS[:6], seed=1)})
    assert result["group"].values.tolist() == [0, 0]
    assert_array_equal(result["band_mean"].sel(repeats=0).notnull(), np.asarray(STEPS) <= 50)


def test_finals__are_the_last_numbers_of_all_that_was_logged(made: Make) -> None:
    accuracy = np.linspace(0, 1, len(STEPS))
    result = compared({"a": made(falling(0.1), logged={"accuracy": accuracy}), "b": made(falling(0.2), seed=1)})
    final = result["final"]
    assert_allclose(final.sel(run="a", logged=["loss", "lr", "accuracy"]), [falling(0.1)[-1], 1e-3, 1.0])
    assert np.isnan(final.sel(run="b", logged="accuracy"))


def test_weights__are_pooled_by_role_and_layer_as_one_matrix_would_be(plant: Any, tree: Any) -> None:
    random = np.random.default_rng(0)
    one, other = (random.normal(size=(3, 6, 5)), random.normal(2.0, 3.0, size=(3, 4, 7)))
    steps = [0, 5, 10]
    run = tree([plant("h.0.a", "o", one, layer=0), plant("h.0.b", "o", other, layer=0)], steps=steps)
    still = tree([plant("h.0.a", "o", one[[0, 0, 0]], layer=0), plant("h.0.b", "o", other, layer=0)], steps=steps)
    result = compared({"run": run, "still": still})
    cell = result.sel(run="run", role="o", layer=0)
    whole = np.concatenate([one[2].ravel(), other[2].ravel()])
    away = np.concatenate([(one[2] - one[0]).ravel(), (other[2] - other[0]).ravel()])
    first = np.concatenate([one[0].ravel(), other[0].ravel()])
    assert_allclose(cell["std"], whole.std())
    assert_allclose(cell["l2"], np.linalg.norm(whole))
    assert_allclose(cell["displacement"], np.linalg.norm(away))
    expected = np.linalg.norm(away) / np.linalg.norm(first)
    assert_allclose([result["moved"].sel(run="run", role="o"), result["moved_in_all"].sel(run="run")], [expected] * 2)
    apart = result["l2_difference"].sel(run="still", role="o", layer=0)
    assert_allclose(apart, np.sqrt((one[0] ** 2).sum() + (other[2] ** 2).sum()) - np.linalg.norm(whole))
    assert np.isnan(result["score"]).all()  # nothing was logged, and the weights are compared all the same


def test_weights__are_compared_at_the_end_of_the_shortest_run(made: Make) -> None:
    long = made(falling(0.1), growth=3.0)
    short = made(falling(0.1, 6), steps=STEPS[:6], growth=2.0, seed=1)
    result = compared({"long": long, "short": short})
    start = float(wdyn.statistics(long)["std"].sel(step=0, parameter="h.0.up"))
    assert result["compared_at"].values.tolist() == [50, 50]
    assert_allclose(result["std"].sel(run="long", role="mlp_up", layer=0), 2 * start, rtol=1e-12)  # half way
    half_rate = made(falling(0.1), lr=5e-4, seed=2)
    assert compared({"full": long, "half": half_rate}, on="lr")["compared_at"].values.tolist() == [50, 100]


def test_start__is_told_to_be_the_same_only_where_it_is(made: Make) -> None:
    grown = made(falling(0.1), growth=3.0)
    result = compared({"a": made(falling(0.1)), "grown": grown, "other": made(falling(0.2), seed=1)})
    assert result["same_start"].values.tolist() == [True, True, False]
    assert codes(result) == []


def test_settings__that_differ_are_listed_with_the_runs(made: Make) -> None:
    result = compared({"a": made(falling(0.1)), "b": made(falling(0.2), optimizer="SGD", seed=1, trainable=False)})
    (finding,) = compare_runs.judge(result)
    assert (finding.code, finding.severity) == ("CMP001", Severity.INFO)
    assert "optimizer (AdamW in a; SGD in b)" in finding.message
    assert "trainable values" in finding.message
    run = wdyn.join_runs(a=made(falling(0.1)), b=made(falling(0.2), optimizer="SGD", seed=1, trainable=False))
    shown = eval(finding.reproduce, {"wdyn": wdyn, "run": run})
    xr.testing.assert_equal(shown, finding.evidence["settings"])


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (np.where(np.arange(11) < 6, falling(0.1), np.nan), "NaN or not logged after step 50"),
        (np.r_[falling(0.1)[:6], [40.0] * 5], "rose to 40, "),
        (np.r_[falling(0.1)[:6], [np.inf] * 5], "infinite at the end"),
    ],
)
def test_run_that_diverged__is_named_and_comes_last(made: Make, loss: np.ndarray, words: str) -> None:
    result = compared({"bad": made(loss, seed=3), "a": made(falling(0.1)), "b": made(falling(0.2), seed=1)})
    (finding,) = compare_runs.judge(result)
    assert (finding.code, finding.severity) == ("CMP002", Severity.WARNING)
    assert finding.message.startswith("The run bad diverged")
    assert words in finding.message
    assert result["rank"].sel(run="bad") == 3


def test_run_that_learned_less__did_not_diverge(made: Make) -> None:
    memorised = compared({"high": made(falling(0.6)), "low": made(falling(0.01), seed=1)})
    assert float(memorised["score"][1] / memorised["score"][0]) > 100
    assert codes(memorised) == []
    above = {"a": made(falling(0.1)), "b": made(2 * falling(-0.02), seed=1)}
    assert codes(compared(above)) == ["CMP002"]
    assert codes(compared(above), factor=20.0) == []


def test_run_given_twice__is_named(made: Make) -> None:
    result = compared({"a": made(falling(0.1)), "b": made(falling(0.2), seed=1), "again": made(falling(0.1))})
    assert result["twin"].values.tolist() == ["", "", "a"]
    (finding,) = compare_runs.judge(result)
    assert (finding.code, finding.severity) == ("CMP003", Severity.WARNING)
    assert "again is a" in finding.message


def test_runs_that_did_not_move__are_no_twins(made: Make) -> None:
    result = compared({"a": made(falling(0.1), growth=1.0), "b": made(falling(0.2), growth=1.0)})
    assert result["same_start"].all()
    assert result["twin"].values.tolist() == ["", ""]


def test_single_run__is_skipped_when_asked_and_else_not_spoken_of(made: Make) -> None:
    run = made(falling(0.1))
    assert "it compares several runs" in compare_runs(run).attrs["skipped"]
    assert "there is one run" in compared({"a": run}).attrs["skipped"]
    assert "compare_runs" not in [one.analyzer.name for one in wdyn.analyze(run).answers]
    (asked,) = wdyn.analyze(run, ["compare_runs"]).answers
    assert "wdyn.join_runs" in asked.remedy
    (selected,) = wdyn.analyze(run, select=["CMP"]).answers
    assert selected.skipped


def test_joined_runs__are_asked_about_together_beside_each(made: Make) -> None:
    joined = wdyn.join_runs(a=made(falling(0.1)), again=made(falling(0.1)))
    report = wdyn.analyze(joined, ["compare_runs", "movement"])
    assert [one.code for one in report.findings].count("CMP003") == 1
    assert report.answers[0].result["rank"].sizes == {"run": 2}
    assert report.answers[1].result["change"].sizes["run"] == 2


def test_given__changes_defaults_and_keeps_the_rest(made: Make) -> None:
    joined = wdyn.join_runs(a=made(falling(0.1)), b=made(falling(0.2), seed=1))
    asked = compare_runs.given(on="lr", last=1)
    xr.testing.assert_identical(asked(joined), compare_runs(joined, on="lr", last=1))
    assert (asked.name, asked.joint, asked.codes) == (compare_runs.name, True, compare_runs.codes)


@pytest.mark.parametrize("what", [("weights",), ("weights", "displacement")])
def test_nan__is_seen_in_its_role_and_in_no_other(what: tuple[str, ...]) -> None:
    sick = make_run(layers=2, what=what, nan_at={"blocks.1.mlp.up.weight": 10})
    result = compared({"sound": make_run(layers=2, what=what), "sick": sick}).sel(run="sick")
    names = ("std", "l2", "displacement")
    assert all(np.isnan(result[name].sel(role="mlp_up", layer=1)) for name in names)
    assert all(result[name].sel(role="mlp_up", layer=0) > 0 for name in names)
    assert np.isnan(result["moved"].sel(role="mlp_up"))
    assert np.isnan(result["moved_in_all"])
    assert result["moved"].sel(role="mlp_down") > 0
