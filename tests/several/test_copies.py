"""What is recorded where every process holds all weights, and are copies that drifted apart found?"""

import numpy as np
import pytest

import wdyn


def steps_of(run, group="statistics/weights"):
    return run[group]["step"].values.tolist()


@pytest.mark.parametrize("everywhere", [True, False], ids=["every rank watches", "the first rank watches"])
def test_copies__are_recorded_by_the_first_rank(everywhere, once):
    name = f"copied-{everywhere}".lower()
    folder, ends = once(name, "copied", ranks=2, wrapper=True, everywhere=everywhere, what=["weights", "updates"])
    run = wdyn.open_run(folder / "run.zarr")
    assert steps_of(run) == [0, 1, 2, 3]
    assert run.attrs["wdyn"]["model"] == "Small"
    assert "tok.weight" in run["parameters"]["parameter"]
    logged = run["scalars"]["loss"].dropna("step")
    np.testing.assert_array_equal(logged, ends[0].value["losses"])
    with np.load(folder / "held.npz") as held:
        for one in ("tok.weight", "blocks.1.attn.qkv.weight", "low.weight"):
            mean = wdyn.statistics(run)["mean"].sel(step=3, parameter=one)
            np.testing.assert_allclose(mean, held[one].mean(), rtol=1e-12)
    assert wdyn.verify(folder / "run.zarr").is_whole
    assert [end.value["hooks"] for end in ends] == [0, 0]


def test_other_ranks__count_steps_and_do_nothing_else(once):
    _, ends = once("copied-true", "copied", ranks=2, wrapper=True, everywhere=True, what=["weights", "updates"])
    assert [end.value["state"] for end in ends] == [{"step": 3}, {"step": 3}]
    assert ends[0].value["flushed"] == 3
    assert ends[1].told == []


DRIFTS = {
    "by an element": {"name": "plain", "layout": "whole", "value": 0.5},
    "by the sign of a zero": {"name": "plain", "layout": "whole", "value": -0.0},
    "to NaN": {"name": "layers.0.weight", "layout": "whole", "value": float("nan")},
}


@pytest.mark.parametrize("how", DRIFTS)
def test_copies_that_drift__are_named_and_counted_from_then_on(how, launch, tmp_path):
    drift = DRIFTS[how]
    ends = launch("drifting", ranks=2, folder=tmp_path, drifts=[1], at=2, check_replicas=True, **drift)
    expect_drift(tmp_path, ends, drift["name"], counts=[0, 0, 1, 1])


@pytest.mark.parametrize("name", ["uneven", "copied", "plain"], ids=["copies of a shard", "replicated", "plain"])
def test_spread_weights__have_copies_too(name, launch, tmp_path):
    """Ranks 2 and 3 hold what 0 and 1 hold; "copied" and "plain" are the same on all four."""
    options = {"layout": "spread", "drifts": [2, 3], "at": 2, "value": 0.25, "check_replicas": True}
    ends = launch("drifting", ranks=4, folder=tmp_path, name=name, **options)
    expect_drift(tmp_path, ends, name, counts=[0, 0, 2, 2])


def expect_drift(folder, ends, name, *, counts):
    run = wdyn.open_run(folder / "run.zarr")
    differ = run["states"]["replicas_differ"]
    np.testing.assert_array_equal(differ.sel(parameter=name), counts)
    others = differ.drop_sel(parameter=name)
    assert (others.fillna(-1) <= 0).all()
    assert (others.sel(parameter="twice" if name != "twice" else "both") <= 0).all()
    assert [name in message for message in ends[0].told].count(True) == 1
    assert not any(name in message for end in ends[1:] for message in end.told)
    assert wdyn.verify(folder / "run.zarr").is_whole


def test_copies__that_agree_are_counted_as_none(launch, tmp_path):
    ends = launch("copied", ranks=2, folder=tmp_path, wrapper=True, what="weights", check_replicas=True)
    run = wdyn.open_run(tmp_path / "run.zarr")
    trained = run["parameters"].to_dataset()["in_optimizer"].values
    differ = run["states"]["replicas_differ"].sel(parameter=run["parameters"]["parameter"].values[trained])
    np.testing.assert_array_equal(differ, np.zeros(differ.shape))
    assert ends[0].told == []


def test_copies__are_not_compared_unasked(once):
    folder, _ = once("copied-true", "copied", ranks=2, wrapper=True, everywhere=True, what=["weights", "updates"])
    assert "replicas_differ" not in wdyn.open_run(folder / "run.zarr")["states"]


def test_processes_alone__record_a_run_each(launch, tmp_path):
    ends = launch("staged", ranks=2, folder=tmp_path)
    for rank, end in enumerate(ends):
        run = wdyn.open_run(tmp_path / f"stage-{rank}.zarr")
        kept = wdyn.select(run, path="weight").sel(step=3)
        np.testing.assert_array_equal(kept, np.asarray(end.value["weight"], dtype=np.float32))
        assert end.value["committed"] == 3
