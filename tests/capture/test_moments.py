"""Is what an optimizer holds found under its own names, and named so that no path breaks?"""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.moments import moments, quantity_name
from wdyn.schema import Quantity


def test_moments__are_what_is_shaped_like_the_parameter() -> None:
    one, other = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([one, other], lr=0.1)
    optimizer.state[one] |= {"like": torch.full((3,), 2.0), "factored": torch.ones(1), "count": 7, "text": "x"}
    optimizer.state[other] |= {"step": torch.tensor(4.0), "like": torch.tensor(5.0)}
    found = moments([optimizer], {"a": one, "b": other})
    assert {key: {name: value.tolist() for name, value in held.items()} for key, held in found.items()} == {
        "like": {"a": [2, 2, 2], "b": 5}
    }


def test_moments__of_a_parameter_without_state_are_none_and_stay_none() -> None:
    one = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([one])
    assert moments([optimizer], {"a": one}) == {}
    assert len(optimizer.state) == 0


@pytest.mark.parametrize("key", ["exp_avg", "momentum_buffer", "max_exp_avg_sq", "z"])
def test_quantity_name__of_a_plain_key_is_the_key(key: str) -> None:
    assert quantity_name(key) == key


@given(st.lists(st.text(min_size=1) | st.sampled_from([*Quantity, "K", "k", "a/b", "a b"]), unique=True, min_size=2))
def test_quantity_name__is_safe_unlike_every_other_and_no_quantity_of_wdyn(keys: list[str]) -> None:
    names = [quantity_name(key) for key in keys]
    assert len({name.lower() for name in names}) == len(keys)
    assert not set(names) & set(Quantity)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in names)
