"""What the defaults choose, when the user said little."""

import pytest

from wdyn.capture.watched import snapshot_schedule


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
