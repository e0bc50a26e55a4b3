"""Is what is logged kept at its step, under a safe name, without waiting?"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.scalars import ScalarLog
from wdyn.rows import Row


def taken(log: ScalarLog, *, before: int) -> list[Row]:
    """Take rows, one by one."""
    return [row for rows in log.take(before=before) for row in rows]


def test_take__gives_finished_steps_in_order_and_forgets_them() -> None:
    log = ScalarLog([])
    for step in (2, 0, 1):
        log.log(step, {"loss": step / 2})
    rows = taken(log, before=2)
    assert [(row.step, float(row.values["loss"])) for row in rows] == [(0, 0.0), (1, 0.5)]
    assert log.take(before=2) == ()
    assert [row.step for row in taken(log, before=3)] == [2]


def test_log__the_last_value_of_a_name_wins() -> None:
    log = ScalarLog([])
    log.log(0, {"loss": 1.0})
    log.log(0, {"loss": 2.0})
    assert float(taken(log, before=1)[0].values["loss"]) == 2.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (np.float32(0.5), 0.5), (torch.tensor([2.5]), 2.5), (True, 1.0), (float("inf"), np.inf)],
)
def test_log__takes_numbers_of_many_kinds(value: object, expected: float) -> None:
    log = ScalarLog([])
    assert log.log(0, {"x": value}) == []
    assert float(taken(log, before=1)[0].values["x"]) == expected


@pytest.mark.parametrize("value", ["text", None, torch.ones(2), torch.tensor(1j), [1, 2], 10**400])
def test_log__names_what_is_no_number_and_keeps_nan(value: object) -> None:
    log = ScalarLog([])
    assert log.log(0, {"x": value}) == ["x"]
    assert np.isnan(taken(log, before=1)[0].values["x"])


def test_log__keeps_the_value_not_the_tensor() -> None:
    log, running = ScalarLog([]), torch.tensor(1.0)
    log.log(0, {"total": running})
    running += 5
    assert float(taken(log, before=1)[0].values["total"]) == 1.0


@given(st.lists(st.text(max_size=80), min_size=1, max_size=12, unique=True))
def test_log__every_name_gets_a_safe_array_of_its_own(names: list[str]) -> None:
    log = ScalarLog([])
    log.log(0, {name: float(number) for number, name in enumerate(names)})
    row = taken(log, before=1)[0]
    true_names = {row.long_names.get(array, array): float(value) for array, value in row.values.items()}
    assert true_names == {name: float(number) for number, name in enumerate(names)}
    assert len({array.lower() for array in row.values}) == len(names)
    for array in row.values:
        assert array.isascii()
        assert array.replace("_", "").replace("-", "").isalnum()


def test_end_step__keeps_lr_weight_decay_time_and_cost() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.25, weight_decay=0.5)
    log = ScalarLog([optimizer])
    log.end_step(0, seconds=0.0, read_tensors=False, stepped=False)
    log.end_step(1, seconds=0.125, written=0.5, written_bytes=100, read_tensors=False)
    log.end_step(2, seconds=0.0, written=0.75, written_bytes=2**40, read_tensors=False)
    start, first, second = taken(log, before=3)
    assert [row.values["bytes_written"] for row in (start, first, second)] == [0, 100, 2**40 - 100]
    assert (first.values["write_seconds"], second.values["write_seconds"]) == (0.5, 0.25)
    assert np.isnan(start.values["lr"]).all()
    assert (first.values["lr"], first.values["weight_decay"]) == ([0.25], [0.5])
    assert first.values["capture_seconds"] == 0.125
    assert first.values["wall_time"] >= start.values["wall_time"] > 1e9


def test_end_step__keeps_betas_of_each_group() -> None:
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": parameters[:1], "betas": (0.5, 0.75)}, {"params": parameters[1:]}])
    log = ScalarLog([optimizer])
    log.end_step(0, seconds=0.0, read_tensors=False, stepped=False)
    optimizer.param_groups[1]["betas"] = (0.25, 0.999)
    log.end_step(1, seconds=0.0, read_tensors=False)
    start, first = taken(log, before=2)
    assert np.isnan(start.values["beta1"]).all()
    assert start.values["beta1"].shape == (2,)
    np.testing.assert_array_equal(first.values["beta1"], [0.5, 0.25])
    np.testing.assert_array_equal(first.values["beta2"], [0.75, 0.999])
    assert "momentum" not in first.values


def test_end_step__keeps_the_loss_scale_that_a_fused_optimizer_carries() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    log = ScalarLog([optimizer])
    scale = optimizer.grad_scale = torch.tensor(1024.0)
    log.end_step(1, seconds=0.0, read_tensors=False)
    scale /= 2
    log.end_step(2, seconds=0.0, read_tensors=False)
    del optimizer.grad_scale  # as GradScaler does after the step
    log.end_step(3, seconds=0.0, read_tensors=False)
    np.testing.assert_array_equal([row.values["loss_scale"] for row in taken(log, before=4)], [1024, 512, np.nan])


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def spent(self, seconds: float) -> None:
        """Nothing is spent here."""

    def heard(self, name: str, value: float) -> None:
        self.told.append((name, value))


def test_log__tells_listeners_each_number_and_reads_no_device_for_them() -> None:
    one, two = Heard(), Heard()
    log = ScalarLog([], listeners=(one, two))
    log.log(0, {"a/b": torch.tensor(2.5), "loss": 1})
    log.log(1, {"loss": torch.ones((), device="meta"), "note": "text"})
    log.log(1, {"loss": float("inf")})
    assert one.told == two.told == [("a/b", 2.5), ("loss", 1.0), ("loss", float("inf"))]


def test_is_long__after_many_steps() -> None:
    log = ScalarLog([])
    for step in range(600):
        log.log(step, {"x": 1.0})
    assert log.is_long
    log.take(before=600)
    assert not log.is_long
