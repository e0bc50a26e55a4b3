"""Is a tensor found again under another name, by its values and never by its name alone?"""

import torch

from wdyn.checkpoints.renaming import EQUAL, renames


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found(ours, theirs):
    return {
        name: (one.name, one.decided_by)
        for name, one in renames(ours, theirs, read_a=ours.__getitem__, read_b=theirs.__getitem__).items()
    }


def test_renames__pair_equal_values():
    one, other = drawn(4, 3), drawn(4, 3, seed=1)
    assert found({"a": one, "b": other}, {"x": other.clone(), "y": one.clone()}) == {
        "a": ("y", EQUAL),
        "b": ("x", EQUAL),
    }


def test_renames__pair_what_is_nearest_and_say_how_near():
    one, other = drawn(40, 30), drawn(40, 30, seed=1)
    told = found({"a": one, "b": other}, {"x": other + 0.1 * drawn(40, 30, seed=2), "y": one.bfloat16()})
    assert told["b"][0] == "x"
    assert told["b"][1].startswith("nearest values, 0.0")
    assert told["a"][0] == "y"


def test_renames__leave_strangers_and_other_shapes_alone():
    one = drawn(40, 30)
    assert found({"a": one}, {"x": drawn(40, 30, seed=1)}) == {}
    assert found({"a": one}, {"x": one.reshape(30, 40)}) == {}
    assert found({"a": torch.full((3,), torch.nan)}, {"x": torch.full((3,), 1.0)}) == {}


def test_renames__tell_equal_ones_apart_by_the_end_of_their_names():
    ours = {f"h.{at}.norm.weight": torch.ones(4) for at in range(3)}
    theirs = {f"model.h.{at}.norm.weight": torch.ones(4) for at in (2, 0, 1)}
    assert {a: b for a, (b, _) in found(ours, theirs).items()} == {name: f"model.{name}" for name in ours}


def test_renames__never_pair_what_is_empty_by_its_values():
    assert found({"a": torch.empty(0, 3)}, {"x": torch.empty(0, 3)}) == {}


def test_renames__give_each_name_once():
    one = drawn(5)
    assert list(found({"a": one, "b": one}, {"x": one})) == ["a"]


def test_renames__prefer_equal_values_to_near_ones():
    one = drawn(8, 8)
    near = one + 1e-6
    assert found({"a": one}, {"x": near, "y": one})["a"] == ("y", EQUAL)
