"""Is shared memory found, and only shared memory?"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wdyn.capture.ties import shares_with, tied_to

DEVICES = ["cpu", "meta"]


@pytest.mark.parametrize("device", DEVICES)
def test_tied_to__names_the_first_that_shares(device):
    weight = torch.zeros(6, 8, device=device)
    ties = tied_to({"a": weight, "b": torch.zeros(6, 8, device=device), "c": weight.t(), "d": weight[2:4], "e": weight})
    assert ties == {"a": "", "b": "", "c": "a", "d": "a", "e": "a"}


@pytest.mark.parametrize("device", DEVICES)
def test_tied_to__slices_of_one_buffer_are_free_of_each_other(device):
    flat = torch.zeros(100, device=device)
    assert set(tied_to({"a": flat[:40], "b": flat[40:90], "c": flat[90:]}).values()) == {""}
    assert tied_to({"a": flat[:40], "b": flat[39:90]}) == {"a": "", "b": "a"}


@pytest.mark.parametrize("device", DEVICES)
def test_tied_to__views_between_each_other_share_nothing(device):
    matrix = torch.zeros(6, 8, device=device)
    assert set(tied_to({"left": matrix[:, :4], "right": matrix[:, 4:]}).values()) == {""}
    assert tied_to({"left": matrix[:, :4], "middle": matrix[:, 3:5]}) == {"left": "", "middle": "left"}
    assert set(tied_to({"even": matrix[::2], "odd": matrix[1::2]}).values()) == {""}


def test_tied_to__equal_values_are_no_tie():
    assert set(tied_to({"a": torch.ones(3), "b": torch.ones(3)}).values()) == {""}


def test_tied_to__empty_tensors_share_nothing():
    assert set(tied_to({"a": torch.zeros(0), "b": torch.zeros(0), "c": torch.zeros(())}).values()) == {""}


def test_tied_to__a_tie_may_break_and_come_back():
    left, right = nn.Linear(3, 3), nn.Linear(3, 3)
    right.weight = left.weight

    def names():
        return {"left": left.weight, "right": right.weight}

    assert tied_to(names())["right"] == "left"
    right.load_state_dict({name: tensor.clone() for name, tensor in right.state_dict().items()}, assign=True)
    assert tied_to(names())["right"] == ""
    right.weight.data = left.weight.data
    assert tied_to(names())["right"] == "left"


def test_shares_with__gives_itself_where_nothing_comes_before():
    weight = torch.zeros(2)
    assert shares_with({"a": weight, "b": torch.zeros(2), "c": weight.view(2, 1)}) == {"a": "a", "b": "b", "c": "a"}


slices = st.tuples(st.integers(0, 30), st.integers(1, 31), st.integers(1, 4)).filter(lambda s: s[0] < s[1])


@given(st.lists(slices, min_size=2, max_size=2))
def test_tied_to__agrees_with_the_elements_themselves(cuts):
    flat = torch.zeros(31)
    (a, b) = (slice(*cut) for cut in cuts)
    together = bool(set(range(31)[a]) & set(range(31)[b]))
    assert (tied_to({"a": flat[a], "b": flat[b]})["b"] == "a") == together
