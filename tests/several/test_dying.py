"""What is left of a run, and of the training, when one of the processes dies?

Each step adds 1 to every weight, so the weights of a row tell which step they are of. The ranks do not wait for each
other, so the others go on.
"""

import random
import signal

import numpy as np
import pytest

import wdyn
from several.starting import Kill

STEPS = 30
PACE = 0.01


def last_whole_step(path, whole):
    """Give the last step of a run whose rows are all seen to be of their steps."""
    steps = whole(path)
    assert steps == list(range(len(steps)))
    run = wdyn.open_run(path)
    means = wdyn.statistics(run)["mean"]
    for name in means["parameter"].values:
        np.testing.assert_array_equal(means.sel(parameter=name), means["step"], err_msg=name)
    return steps[-1]


@pytest.mark.kill
@pytest.mark.parametrize(("ranks", "dies"), [(2, 1), pytest.param(4, 2, marks=pytest.mark.long)])
def test_dead_rank__freezes_the_horizon_and_nothing_else(ranks, dies, launch, whole, quick, tmp_path):
    at = random.Random(dies).randrange(5, 20)
    leaves = {"rank": dies, "step": at, "how": "killed"}
    ends = launch(
        "counting", ranks=ranks, folder=tmp_path, steps=STEPS, pace=PACE, leaves=leaves, killed=[dies], patches=quick
    )
    assert ends[dies].code == -signal.SIGKILL
    for rank, end in enumerate(ends):
        if rank != dies:
            assert end.value["made"] == STEPS
            assert end.value["state"] == {"step": STEPS}
    assert 0 <= last_whole_step(tmp_path / "run.zarr", whole) <= at
    told = [message for message in ends[0].told if f"{dies}" in message]
    assert len(told) == 1, ends[0].told


@pytest.mark.kill
def test_dead_first_rank__leaves_the_run_whole_and_the_others_training(launch, whole, quick, tmp_path):
    leaves = {"rank": 0, "step": 12, "how": "killed"}
    ends = launch(
        "counting", ranks=3, folder=tmp_path, steps=STEPS, pace=PACE, leaves=leaves, killed=[0], patches=quick
    )
    assert ends[0].code == -signal.SIGKILL
    assert [end.value["made"] for end in ends[1:]] == [STEPS, STEPS]
    assert 0 <= last_whole_step(tmp_path / "run.zarr", whole) <= 12


@pytest.mark.kill
@pytest.mark.long
def test_run_of_a_dead_rank__is_taken_up(launch, whole, quick, tmp_path):
    leaves = {"rank": 1, "step": 7, "how": "killed"}
    launch("counting", ranks=2, folder=tmp_path, steps=10, leaves=leaves, pace=PACE, killed=[1], patches=quick)
    last = last_whole_step(tmp_path / "run.zarr", whole)
    ends = launch("counting", ranks=2, folder=tmp_path, steps=3, start=float(last), resume=True)
    assert [end.told for end in ends] == [[], []]
    assert last_whole_step(tmp_path / "run.zarr", whole) == last + 3


@pytest.mark.parametrize("how", ["ends", "raises"])
def test_rank_that_leaves_early__lets_the_others_go_on(how, launch, whole, quick, tmp_path):
    leaves = {"rank": 1, "step": 6, "how": how}
    ends = launch(
        "counting", ranks=2, folder=tmp_path, steps=STEPS, pace=PACE, leaves=leaves, killed=[1], patches=quick
    )
    assert ends[1].error == (["ZeroDivisionError", ""] if how == "raises" else None)
    assert ends[0].value["made"] == STEPS
    assert last_whole_step(tmp_path / "run.zarr", whole) == 6


def test_slow_rank__is_not_waited_for_by_the_loop_of_another(launch, whole, tmp_path):
    """The fast rank makes all its steps while the slow one makes a few; its end waits, and all rows are there."""
    ends = launch("counting", ranks=2, folder=tmp_path, steps=12, pace=[0.0, 0.05])
    assert ends[0].value["committed"][-1] < 12
    assert last_whole_step(tmp_path / "run.zarr", whole) == 12
    assert [end.told for end in ends] == [[], []]


@pytest.mark.kill
@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_kills_at_any_moment__leave_the_run_whole(seed, launch, whole, quick, tmp_path):
    chance = random.Random(seed)
    ranks = chance.choice([2, 3, 4])
    dies, after = chance.randrange(ranks), chance.uniform(0, 2)
    kill = Kill(dies, tmp_path / "entered", after)
    ends = launch(
        "counting", ranks=ranks, folder=tmp_path, steps=200, pace=PACE, kill=kill, killed=[dies], patches=quick
    )
    made = [end.value["made"] for rank, end in enumerate(ends) if rank != dies]
    assert made == [200] * len(made)
    last_whole_step(tmp_path / "run.zarr", whole)


@pytest.fixture
def quick():
    """What makes others give up a rank that gives nothing, soon; what all gave is published before that, as ever."""
    return {"wdyn.store.lateness.LATE_SECONDS": 2.0, "wdyn.store.background._PUBLISH_SECONDS": 0.3}
