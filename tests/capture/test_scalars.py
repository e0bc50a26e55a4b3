"""Is what is logged kept at its step, under a safe name, without waiting?"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.scalars import ScalarLog


def test_take__gives_finished_steps_in_order_and_forgets_them() -> None:
    log = ScalarLog([])
    for step in (2, 0, 1):
        log.log(step, {"loss": step / 2})
    rows = log.take(before=2)
    assert [(row.step, float(row.values["loss"])) for row in rows] == [(0, 0.0), (1, 0.5)]
    assert log.take(before=2) == ()
    assert [row.step for row in log.take(before=3)] == [2]


def test_log__the_last_value_of_a_name_wins() -> None:
    log = ScalarLog([])
    log.log(0, {"loss": 1.0})
    log.log(0, {"loss": 2.0})
    assert float(log.take(before=1)[0].values["loss"]) == 2.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3.0), (np.float32(0.5), 0.5), (torch.tensor([2.5]), 2.5), (True, 1.0), (float("inf"), np.inf)],
)
def test_log__takes_numbers_of_many_kinds(value: object, expected: float) -> None:
    log = ScalarLog([])
    assert log.log(0, {"x": value}) == []
    assert float(log.take(before=1)[0].values["x"]) == expected


@pytest.mark.parametrize("value", ["text", None, torch.ones(2), torch.tensor(1j), [1, 2], 10**400])
def test_log__names_what_is_no_number_and_keeps_nan(value: object) -> None:
    log = ScalarLog([])
    assert log.log(0, {"x": value}) == ["x"]
    assert np.isnan(log.take(before=1)[0].values["x"])


def test_log__keeps_the_value_not_the_tensor() -> None:
    log, running = ScalarLog([]), torch.tensor(1.0)
    log.log(0, {"total": running})
    running += 5
    assert float(log.take(before=1)[0].values["total"]) == 1.0


@given(st.lists(st.text(max_size=80), min_size=1, max_size=12, unique=True))
def test_log__every_name_gets_a_safe_array_of_its_own(names: list[str]) -> None:
    log = ScalarLog([])
    log.log(0, {name: float(number) for number, name in enumerate(names)})
    row = log.take(before=1)[0]
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
    log.end_step(1, seconds=0.125, written=0.5, read_tensors=False)
    log.end_step(2, seconds=0.0, written=0.75, read_tensors=False)
    start, first, second = log.take(before=3)
    assert (first.values["write_seconds"], second.values["write_seconds"]) == (0.5, 0.25)
    assert np.isnan(start.values["lr"]).all()
    assert (first.values["lr"], first.values["weight_decay"]) == ([0.25], [0.5])
    assert first.values["capture_seconds"] == 0.125
    assert first.values["wall_time"] >= start.values["wall_time"] > 1e9


def test_is_long__after_many_steps() -> None:
    log = ScalarLog([])
    for step in range(600):
        log.log(step, {"x": 1.0})
    assert log.is_long
    log.take(before=600)
    assert not log.is_long
