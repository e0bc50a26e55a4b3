"""Are the arguments of `watch` read, and what do the defaults choose when the user said little?"""

import pytest

from wdyn.capture.watched import check_compression, quantities, snapshot_schedule
from wdyn.errors import InvalidArgument
from wdyn.schema import Extra, Quantity


def test_quantities__reads_one_several_and_all() -> None:
    assert quantities("weights") == (Quantity.WEIGHTS,)
    assert quantities(["moments", "updates", "moments"]) == (Extra.MOMENTS, Quantity.UPDATES)
    assert set(quantities("all")) == set(quantities(["all"])) == {*Quantity, *Extra}
    assert quantities(()) == ()


def test_quantities__refuses_an_unknown_name_and_lists_those_that_are() -> None:
    everything = "weights, updates, gradients, displacement, moments, update_cosine, predicted_update, or 'all'"
    with pytest.raises(InvalidArgument, match=f"what='moment': did you mean 'moments'.*some of {everything}"):
        quantities(["weights", "moment"])
    with pytest.raises(InvalidArgument, match=f"what=3: Needed are some of {everything}"):
        quantities([3])


def test_check_compression__knows_two_ways() -> None:
    assert check_compression(None) is None
    assert check_compression("fast") == "fast"
    with pytest.raises(InvalidArgument, match=r"compression='zstd': needed is None, .* raw, or 'fast'.*bitshuffle"):
        check_compression("zstd")


def steps(size: int, limit: int, last: int = 1_000_000) -> list[int]:
    told: list[str] = []
    schedule = snapshot_schedule(size, disk_limit=limit, tell=told.append)
    candidates = {ratio**power for ratio in range(2, 1001) for power in range(21) if ratio**power <= last}
    return sorted(step for step in candidates | {0} if schedule(step))


def test_snapshot_schedule__is_powers_of_two_where_there_is_room() -> None:
    assert steps(1, 10**9)[:6] == [0, 1, 2, 4, 8, 16]


@pytest.mark.parametrize("fitting", [4, 5, 8, 12, 20])
def test_snapshot_schedule__fits_a_million_steps_into_the_disk_limit(fitting: int) -> None:
    taken = steps(100, 100 * fitting, last=999_999)
    assert len({*taken, 999_999}) <= fitting
    assert len(taken) >= min(fitting - 2, 3)


def test_snapshot_schedule__of_what_never_fits_is_never_and_told() -> None:
    told: list[str] = []
    assert snapshot_schedule(10**10, disk_limit=10**10, tell=told.append).never
    assert "one takes 10.0 GB" in told[0]
