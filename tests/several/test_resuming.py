"""Does a run of several processes go on in another attempt, also with another number of them?"""

import numpy as np

import wdyn


def test_blocks__follow_each_other_over_one_group(launch, whole, tmp_path):
    ends = launch("in_turns", ranks=2, folder=tmp_path, blocks=[3, 2, 1], what="all")
    assert all(end.value == [{"step": 3}, {"step": 5}, {"step": 6}] for end in ends)
    assert_counts(tmp_path / "run.zarr", whole, steps=6, attempts=3)
    assert all(end.told == [] for end in ends)


def test_another_number_of_ranks__goes_on(launch, whole, tmp_path):
    run, start = tmp_path / "run.zarr", 0
    for attempt, (ranks, steps) in enumerate([(4, 3), (2, 2), (1, 2), (3, 2)]):
        ends = launch(
            "counting", ranks=ranks, folder=tmp_path, steps=steps, start=float(start), resume=True, what="all"
        )
        start += steps
        assert all(end.told == [] for end in ends)
        assert_counts(run, whole, steps=start, attempts=attempt + 1)


def assert_counts(path, whole, *, steps, attempts):
    """Expect that the weights of each row tell its step, and that no row or update is missing."""
    assert whole(path) == list(range(steps + 1))
    run = wdyn.open_run(path)
    assert len(run.attrs["wdyn"]["attempts"]) == attempts
    means = wdyn.statistics(run)["mean"]
    for name in means["parameter"].values:
        np.testing.assert_array_equal(means.sel(parameter=name), means["step"])
    moved = wdyn.statistics(run, quantity="updates")["mean"].sel(step=means["step"][1:])
    np.testing.assert_array_equal(moved, np.ones(moved.shape))
    for step in means["step"].values:
        np.testing.assert_array_equal(wdyn.statistics(run, quantity="displacement")["mean"].sel(step=step), step)
