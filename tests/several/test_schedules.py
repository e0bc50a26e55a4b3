"""Do all ranks record the same steps, whatever decides which?"""

import numpy as np
import pytest

import wdyn

SCHEDULES = {
    "every third": {"every": 3, "snapshots": 3},
    "by budget": {"every": None, "snapshots": 4},
    "log-spaced snapshots": {"every": 2, "snapshots": "log-spaced"},
}


@pytest.mark.parametrize("how", SCHEDULES)
def test_ranks__record_the_same_steps(how, launch, tmp_path):
    ends = launch("counting", ranks=2, folder=tmp_path, steps=20, pace=[0.004, 0.0], **SCHEDULES[how])
    assert [end.told for end in ends] == [[], []]
    expect_counts(tmp_path / "run.zarr")


def test_budgets_of_rows_and_of_snapshots__are_each_their_own(launch, tmp_path):
    steps = {"every": [0.2], "snapshots": [0.05, 0.02]}
    ends = launch("counting", ranks=2, folder=tmp_path, steps=200, pace=[0.002, 0.0], budgets=steps)
    assert [end.told for end in ends] == [[], []]
    run = expect_counts(tmp_path / "run.zarr", last=200)
    assert not any(run.attrs["wdyn"].get("lost", {}).values())
    assert run["statistics/weights"].sizes["step"] > 9  # more than the certain ones, and the last


def expect_counts(path, *, last=20):
    """Expect rows and snapshots that are whole, those of the first and the last step among them."""
    run = wdyn.open_run(path)
    rows = run["statistics/weights"].to_dataset()
    sizes = run["parameters"].to_dataset()["numel"]
    assert rows["step"].values[0] == 0
    assert rows["step"].values[-1] == last
    for name in rows["parameter"].values:
        one = rows.sel(parameter=name)
        np.testing.assert_array_equal(one["count"], sizes.sel(parameter=name), err_msg=name)
        np.testing.assert_array_equal(one["mean"], one["step"], err_msg=name)
    for array in run["weights"].children.values():
        values = array["value"]
        assert values["step"].values[0] == 0
        assert values["step"].values[-1] == last
        truth = values["step"].broadcast_like(values)
        np.testing.assert_array_equal(values, truth)
    assert wdyn.verify(path).is_whole
    return run


@pytest.mark.parametrize(
    ("what", "ranks"),
    [
        pytest.param("flush", [0], marks=pytest.mark.long),
        pytest.param("snapshot", [0], marks=pytest.mark.long),
        ("snapshot", [1]),
        ("snapshot", [0, 1]),
        pytest.param("row", [1], marks=pytest.mark.long),
    ],
)
def test_what_ranks_ask_for__never_breaks_the_run(what, ranks, launch, tmp_path):
    asks = {"ranks": ranks, "step": 7, "what": what}
    launch("counting", ranks=2, folder=tmp_path, steps=20, every=5, snapshots=5, asks=asks, pace=0.002)
    expect_counts(tmp_path / "run.zarr")
    if what == "snapshot" and ranks == [0, 1]:
        kept = wdyn.open_run(tmp_path / "run.zarr")["weights"].children
        assert all(7 in array["step"] for array in kept.values())


def test_flush__on_all_ranks_makes_all_visible(launch, tmp_path):
    asks = {"ranks": [0, 1], "step": 7, "what": "flush"}
    ends = launch("counting", ranks=2, folder=tmp_path, steps=20, asks=asks, pace=[0.002, 0.01])
    assert ends[0].value["answer"] == 7


def test_snapshot_that_one_rank_has_no_room_for__is_left_out_of_all(launch, tmp_path):
    """Its rows are kept, and what was dropped is counted and told."""
    ends = launch("counting", ranks=2, folder=tmp_path, steps=150, own={"1": {"queue_bytes": 3000}})
    run = wdyn.open_run(tmp_path / "run.zarr")
    means = wdyn.statistics(run)["mean"]
    np.testing.assert_array_equal(means, means["step"].broadcast_like(means))
    assert means.sizes["step"] == 151
    kept = {tuple(array["step"].values) for array in run["weights"].children.values()}
    assert len(kept) == 1
    for array in run["weights"].children.values():
        np.testing.assert_array_equal(array["value"], array["step"].broadcast_like(array["value"]))
    assert len(kept.pop()) + run.attrs["wdyn"]["lost"]["snapshots"] == 151
    assert ("dropped" in "".join(ends[1].told)) == (run.attrs["wdyn"]["lost"]["snapshots"] > 0)
