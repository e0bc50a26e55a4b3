"""Does the analyzer tell schedules, ways, clipping and bounds that were planted, and nothing else?"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from wdyn.analysis.gradient_norm_check import owners
from wdyn.analysis.learning_rate import learning_rate
from wdyn.analysis.learning_rate_words import said
from wdyn.findings import Severity
from wdyn.reading.joining import join_runs
from wdyn.testing import make_run

Plant = Callable[..., xr.DataTree]
LAST = 100


def cosine(t: np.ndarray, total: float, *, cycles: float = 0.5) -> np.ndarray:
    return 1e-3 * (1 + np.cos(2 * math.pi * cycles * t / total)) / 2


def line(t: np.ndarray, total: float) -> np.ndarray:
    return 1e-3 * np.maximum(0, 1 - t / total)


T = np.arange(LAST, dtype=float)


@pytest.fixture
def run(plant: Any, tree: Any) -> Plant:
    """Give a run of two matrices in two layers and an embedding, with these rates and statistics."""

    def make(
        lr: np.ndarray,
        *,
        updates: np.ndarray | None = None,
        gradients: np.ndarray | None = None,
        attempt: np.ndarray | None = None,
        closed: bool = True,
        **scalars: np.ndarray,
    ) -> xr.DataTree:
        rates = np.atleast_2d(np.asarray(lr, dtype=float).T).T
        steps = np.arange(len(rates) + 1)
        still = np.ones((len(steps), 2, 2), np.float32)
        names = ["wte", "h.0.q", "h.1.q", "h.2.q", "h.3.q"]
        layers = [-1, 0, 1, 2, 3]
        made = tree(
            [plant(name, "q", still, layer=layer) for name, layer in zip(names, layers, strict=True)],
            steps=steps,
            snapshots=[],
        )
        nan = np.full((1, rates.shape[1]), np.nan)
        data = {"lr": (("step", "group"), np.r_[nan, rates])}
        data |= {name: ("step", np.asarray(values, dtype=float)) for name, values in scalars.items()}
        attempts = np.zeros(len(steps), int) if attempt is None else attempt
        made["scalars"] = xr.DataTree(xr.Dataset(data, {"step": steps, "attempt": ("step", attempts)}))
        made.attrs["wdyn"] = {"format": 1, "closed": closed}
        weights = made["statistics/weights"].to_dataset()
        for quantity, norms in (("updates", updates), ("gradients", gradients)):
            if norms is not None:
                l2 = np.broadcast_to(np.asarray(norms, float), (len(steps), len(names))).copy()
                l2[0] = np.nan
                rows = weights.assign(l2=weights["l2"].copy(data=l2), abs_max=weights["abs_max"].copy(data=l2))
                made[f"statistics/{quantity}"] = xr.DataTree(rows)
        return made

    return make


def findings(made: xr.DataTree, **limits: float) -> dict[str, Any]:
    return {finding.code: finding for finding in learning_rate.judge(learning_rate(made), **limits)}


def test_learning_rate__measures_the_schedule_of_each_group(run: Plant) -> None:
    result = learning_rate(run(np.stack([cosine(T, 100), 10 * line(T, 80), 0 * T + 5e-4], axis=1)))
    assert result["schedule"].values.tolist() == ["cosine", "linear", "constant"]
    assert_allclose(result["peak"], [1e-3, 1e-2, 5e-4], rtol=1e-6)
    assert_allclose(result["horizon"][:2], [100, 80], rtol=1e-6)
    assert_allclose(result["fitted"][1:], result["lr"][1:], atol=1e-9)
    assert_allclose(result["lr_sum"][-1], result["lr"][1:].sum("step"))
    assert (result["residual"] < 1e-6).all()
    assert "C = 0.5 cycles" in said(result.isel(group=0))


def test_learning_rate__is_skipped_without_a_rate(plant: Any, tree: Any) -> None:
    made = tree([plant("a", "q", np.ones((2, 2, 2), np.float32))], steps=[0, 1])
    assert "no learning rate" in learning_rate(made).attrs["skipped"]


def test_learning_rate__passes_runs_through(run: Plant) -> None:
    both = learning_rate(join_runs(a=run(cosine(T, 100)), b=run(line(T, 100))))
    assert both["schedule"].sel(run="a").item() == "cosine"
    assert both["schedule"].sel(run="b").item() == "linear"


def test_path__is_compared_with_the_sum_of_rates(run: Plant) -> None:
    lr = line(T, 100)
    obeys = learning_rate(run(lr, updates=3 * np.r_[0, lr][:, None]))
    assert_allclose(obeys["path_length"][-1, 0], 3 * math.sqrt(5) * lr.sum())
    assert_allclose(obeys["path_off"], 0, atol=1e-12)
    even = learning_rate(run(lr, updates=np.ones((1, 1))))
    share = np.cumsum(np.r_[0, lr]) / lr.sum()
    assert_allclose(even["path_off"], np.abs(share - np.arange(101) / 100).max())


def test_path__with_a_gap_is_not_told(run: Plant) -> None:
    made = run(line(T, 100), updates=np.ones((1, 1)))
    sparse = made["statistics/updates"].to_dataset().isel(step=slice(0, None, 10))
    made["statistics/updates"] = xr.DataTree(sparse)
    result = learning_rate(made)
    assert result["path_length"][1:].isnull().all()
    assert result["path_off"].isnull().all()
    assert "not recorded at every step" in result["path_length"].attrs["skipped"]
    assert result["update_norm"].notnull().sum() == 10


def test_norm_share__is_of_squares_and_sums_to_one(run: Plant) -> None:
    norms = np.array([[4.0, 2.0, 2.0, 1.0, 0.0]])
    result = learning_rate(run(line(T, 100), gradients=norms))
    assert_allclose(result["norm_share"], norms[0] ** 2 / 25)
    assert owners(result)["owner"].values.tolist()[0] == "wte"
    assert_allclose(owners(result).sum(), 1)


def test_bounds__are_the_largest_values_and_where(run: Plant) -> None:
    norms = np.ones((101, 5))
    norms[37, 2] = 9
    result = learning_rate(run(line(T, 100), gradients=norms)).sel(parameter="h.1.q")
    assert (float(result["gradient_bound"]), float(result["gradient_bound_step"])) == (9, 37)
    assert float(result["weight_bound"]) == 1


def test_ledger__counts_clipped_steps(run: Plant) -> None:
    coefficient = np.r_[np.full(30, 0.5), np.full(10, 0.25), np.ones(60), np.nan]
    result = learning_rate(run(line(T, 100), clip_coefficient=coefficient, grad_norm=1 / coefficient))
    assert float(result["clipped_share"]) == pytest.approx(0.4)
    assert float(result["coefficient"]) == 0.5


def test_sound_runs__have_no_finding_but_their_schedule(run: Plant) -> None:
    gradients = np.ones((1, 5))
    lr = cosine(T, 100)
    one = run(lr, updates=np.r_[0, lr][:, None], gradients=gradients, clip_coefficient=np.ones(101))
    assert set(findings(one)) == {"SCH001"}
    assert findings(one)["SCH001"].severity == Severity.INFO
    assert findings(run(0 * T + 1e-3)) == {}


def test_groups__of_one_schedule_are_one_finding(run: Plant) -> None:
    lr = cosine(T, 100)
    found = learning_rate.judge(learning_rate(run(np.stack([lr, 2 * lr, 3 * lr], axis=1))))
    assert [one.code for one in found] == ["SCH001"]
    assert "learning rate of all 3 groups" in found[0].message
    assert "from 0.001 to 0.003" in found[0].message
    assert_array_equal(found[0].evidence["group"], [0, 1, 2])


def test_restart_at_a_resume__is_told(run: Plant) -> None:
    attempt = (np.arange(101) > 60).astype(int)
    anew = np.r_[cosine(T, 100)[:60], cosine(T, 100)[:40]]
    found = findings(run(anew, attempt=attempt))["SCH002"]
    assert found.severity == Severity.WARNING
    assert "at step 61" in found.message
    assert "SCH002" not in findings(run(cosine(T, 100), attempt=attempt))
    assert "SCH002" not in findings(run(0 * T + 1e-3, attempt=attempt))


def test_jump__that_no_schedule_explains_is_told(run: Plant) -> None:
    odd = cosine(T, 100)
    odd[70] = 1e-3
    assert "at step 71" in findings(run(odd))["SCH003"].message
    restarts = np.r_[cosine(T[:50], 50), cosine(T[:50], 50)]
    assert "SCH003" not in findings(run(restarts))


@pytest.mark.parametrize("decay", [line, cosine])
def test_horizon__beyond_the_training_is_told(run: Plant, decay: Callable[..., np.ndarray]) -> None:
    found = findings(run(decay(T, 200)))["SCH004"]
    assert found.severity == Severity.WARNING
    assert "at step 200" in found.message
    assert findings(run(decay(T, 200), closed=False))["SCH004"].severity == Severity.INFO
    assert "SCH004" not in findings(run(decay(T, 101)))
    assert "SCH004" not in findings(run(decay(T, 200)), left=0.8)


def test_cosine__that_rises_again_is_told(run: Plant) -> None:
    assert findings(run(cosine(T, 60)))["SCH005"].severity == Severity.WARNING
    assert "SCH005" not in findings(run(cosine(T, 100)))
    assert "SCH005" not in findings(run(cosine(T, 100, cycles=1)))


def test_zero__for_long_is_told_with_what_the_weights_did(run: Plant) -> None:
    ended = line(T, 60)
    found = findings(run(ended, updates=np.r_[0, ended][:, None]))["SCH006"]
    assert found.severity == Severity.WARNING
    assert "from step 61 to 100, the last, and the weights stood still" in found.message
    begun = np.r_[np.zeros(30), np.full(70, 1e-3)]
    assert findings(run(begun))["SCH006"].severity == Severity.INFO
    assert "at every step" in findings(run(0 * T))["SCH006"].message
    assert "SCH006" not in findings(run(line(T, 99)))


def test_move__at_rate_zero_is_told(run: Plant) -> None:
    ended = line(T, 60)
    found = findings(run(ended, updates=np.full((1, 1), 1e-4)))["SCH007"]
    assert "0 at step 61" in found.message
    assert "40 recorded steps" in found.message
    assert "SCH007" not in findings(run(ended, updates=np.r_[0, ended][:, None]))


def test_clipping__of_most_steps_is_told(run: Plant) -> None:
    often = np.r_[np.full(60, 0.5), np.ones(41)]
    assert "59% of the 101 logged steps" in findings(run(line(T, 100), clip_coefficient=often))["SCH008"].message
    assert "SCH008" not in findings(run(line(T, 100), clip_coefficient=often), clipped=0.7)


def test_owner__of_most_of_the_norm_is_told(run: Plant) -> None:
    found = findings(run(line(T, 100), gradients=np.array([[1.0, 9, 1, 1, 1]])))["SCH009"]
    assert found.message.startswith("layer 0 owns 95%")
    assert "SCH009" not in findings(run(line(T, 100), gradients=np.ones((1, 5))))


def test_infinite_norm__is_told(run: Plant) -> None:
    norm = np.ones(101)
    norm[40] = np.inf
    assert "first at step 40" in findings(run(line(T, 100), grad_norm=norm))["SCH010"].message
    norm[40] = np.nan  # as what was not logged
    assert "SCH010" not in findings(run(line(T, 100), grad_norm=norm))


def test_limits__are_judged_on_request(run: Plant) -> None:
    made = run(line(T, 100), gradients=np.array([[1.0, 1, 7, 1, 1]]))
    assert "SCH011" not in findings(made)
    found = findings(made, weight_limit=2.0, gradient_limit=5.0)["SCH011"]
    assert "|g| < 5 does not hold: h.1.q; h.1.q reached 7 at step 1" in found.message
    assert "SCH011" not in findings(made, weight_limit=2.0, gradient_limit=8.0)


def test_evidence__is_what_its_line_gives_again(run: Plant) -> None:
    made = run(line(T, 200), gradients=np.array([[1.0, 9, 1, 1, 1]]))
    result = learning_rate(made)
    names = {"wdyn": SimpleNamespace(learning_rate=learning_rate), "run": made}
    for finding in learning_rate.judge(result, gradient_limit=5.0):
        again = eval(finding.reproduce, names)
        assert again.sizes
        assert finding.evidence.sizes


def test_nan__ends_the_path_and_breaks_every_bound() -> None:
    run = make_run(layers=2, steps=range(21), what=("updates", "displacement"), nan_at={"tok.weight": 12})
    result = learning_rate(run)
    known = result["path_length"].isel(group=0).notnull()
    assert known.values.tolist() == [True] * 12 + [False] * 9
    assert result["displacement"].isel(group=0).isnull().values.tolist() == [False] * 12 + [True] * 9
    assert result["weight_bound"].sel(parameter="tok.weight") == np.inf
    assert result["weight_bound_step"].sel(parameter="tok.weight") == 12
    assert "SCH011" not in findings(run)
    assert "tok.weight reached inf at step 12" in findings(run, weight_limit=100.0)["SCH011"].message
