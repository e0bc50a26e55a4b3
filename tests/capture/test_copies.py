"""Are copies what the tensors held, whatever becomes of these?"""

import torch

from wdyn.capture.copies import Copies


def test_keep__holds_what_was_there() -> None:
    copies, one = Copies(), torch.arange(4.0)
    copies.keep({"a": one})
    one += 1
    assert copies.of({"a": one})["a"].tolist() == [0, 1, 2, 3]


def test_keep__uses_its_memory_again() -> None:
    copies, one = Copies(), torch.arange(4.0)
    copies.keep({"a": one})
    first = copies.of({"a": one})["a"].data_ptr()
    copies.keep({"a": one + 1})
    again = copies.of({"a": one})["a"]
    assert (again.data_ptr(), again.tolist()) == (first, [1, 2, 3, 4])


def test_keep__takes_other_shapes_and_dtypes_and_lets_go_of_what_is_gone() -> None:
    copies = Copies()
    copies.keep({"a": torch.zeros(4), "b": torch.zeros(4), "c": torch.zeros(1)})
    now = {"a": torch.ones(2, 2), "b": torch.ones(4, dtype=torch.float64)}
    copies.keep(now)
    held = copies.of({**now, "c": torch.zeros(1)})
    assert {name: (copy.shape, copy.dtype) for name, copy in held.items()} == {
        name: (one.shape, one.dtype) for name, one in now.items()
    }


def test_of__gives_none_of_another_shape() -> None:
    copies = Copies()
    copies.keep({"a": torch.zeros(4)})
    assert copies.of({"a": torch.zeros(5)}) == {}


def test_add__keeps_the_first_and_counts_its_bytes() -> None:
    copies = Copies()
    assert copies.add({"a": torch.zeros(4)}) == 16
    assert copies.add({"a": torch.ones(4), "b": torch.ones(2)}) == 8
    held = copies.of({"a": torch.ones(4), "b": torch.ones(2)})
    assert (held["a"].tolist(), held["b"].tolist()) == ([0] * 4, [1] * 2)
