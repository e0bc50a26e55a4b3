"""What cannot be recorded together: is it refused by name and with the reason, on every rank, and never a hang?"""

import pytest

import wdyn

REFUSED = {
    "stages": ("InvalidArgument", ["stage0", "pipeline"]),
    "other shapes": ("InvalidArgument", ["odd"]),
    "older fsdp": ("InvalidArgument", ["FullyShardedDataParallel", "fully_shard"]),
    "deepspeed engine": ("InvalidArgument", ["DeepSpeed"]),
    "zero parameters": ("InvalidArgument", ["ZeRO"]),
    "scattered": ("InvalidArgument", ["fused"]),
    "other arguments": ("InvalidArgument", ["what=", "is weights in process 0", "updates"]),
    "other schedules": ("InvalidArgument", ["every=", "every(2) in process 0", "every(3) in process 1"]),
    "other snapshots": ("InvalidArgument", ["snapshots=", "at(1) in process 0", "named in process 1"]),
    "other selections": ("InvalidArgument", ["select=", "all but rows", "all but few"]),
    "other places": ("InvalidArgument", ["to=", "run.zarr in process 0", "other.zarr in process 1"]),
    "spike": ("InvalidArgument", ["spike('loss', factor=2)", "what one process sees"]),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_recorded__is_refused_on_every_rank(how, launch, tmp_path):
    error, words = REFUSED[how]
    ends = launch("refused", ranks=2, folder=tmp_path, how=how)
    assert not (tmp_path / "run.zarr").exists()
    for end in ends:
        assert end.value[0] == error, end.value
        assert all(word in end.value[1] for word in words), end.value[1]


def test_existing_run__is_refused_on_every_rank(launch, tmp_path):
    launch("in_turns", ranks=2, folder=tmp_path, blocks=[1])
    ends = launch("refused", ranks=2, folder=tmp_path, how="spread")
    assert [end.value[0] for end in ends] == ["RunExists", "RunExists"]
    assert all("resume=True" in end.value[1] for end in ends)
    assert wdyn.verify(tmp_path / "run.zarr").is_whole


def test_missing_run__is_refused_on_every_rank(launch, tmp_path):
    ends = launch("refused", ranks=2, folder=tmp_path, how="spread", resume=5)
    assert [end.value[0] for end in ends] == ["NotARun", "NotARun"]
    assert all("run.zarr" in end.value[1] for end in ends)


def test_place_that_cannot_be_written__is_told_on_every_rank(launch, tmp_path):
    (tmp_path / "run.zarr").write_text("a file")
    ends = launch("refused", ranks=2, folder=tmp_path, how="spread")
    assert [end.value[0] for end in ends] == ["InvalidArgument", "InvalidArgument"]
    assert all("is no run" in end.value[1] for end in ends)


def test_block_that_only_some_enter__is_given_up(launch, soon, tmp_path):
    ends = launch("refused", ranks=2, folder=tmp_path, how="only some", patches=soon)
    assert ends[0].value[0] == "CannotRecord"
    assert "process 1 did not" in ends[0].value[1]
    assert ends[1].value[0] == ""
    assert not (tmp_path / "run.zarr" / "zarr.json").exists()


@pytest.fixture
def soon():
    """What makes ranks wait for each other at the beginning no longer than this."""
    return {"wdyn.capture.meeting.MEET_SECONDS": 2.0}
