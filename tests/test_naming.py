"""Are names stripped of wrappers, and turned into safe file names?"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.naming import canonical_name, canonical_names, closest, examples, slug


@pytest.mark.parametrize(
    "name",
    [
        "module.h.0.weight", "_orig_mod.h.0.weight", "module._orig_mod.h.0.weight", "_orig_mod.module.h.0.weight",
        "_fsdp_wrapped_module.h.0._fsdp_wrapped_module.weight", "h.0._checkpoint_wrapped_module.weight",
        "_forward_module.module.h.0.weight", "h.0.weight",
    ],
)  # fmt: skip
def test_canonical_name__strips_every_wrapper(name):
    assert canonical_name(name) == "h.0.weight"


@pytest.mark.parametrize("name", ["h.module.weight", "module", "_orig_mod", "encoder.module.0.bias", "weight"])
def test_canonical_name__keeps_the_words_of_the_user(name):
    assert canonical_name(name) == name


def test_canonical_names__keep_apart_what_would_become_one():
    assert canonical_names(["weight", "module.weight", "module.bias"]) == {
        "weight": "weight", "module.weight": "module.weight", "module.bias": "bias",
    }  # fmt: skip


paths = st.lists(st.sampled_from(["module", "_orig_mod", "h", "0", "weight"]), min_size=1, max_size=5).map(".".join)


@given(st.lists(paths, unique=True))
def test_canonical_names__are_as_many_as_the_names(names):
    assert len(set(canonical_names(names).values())) == len(names)


@given(st.text(), st.integers(0, 9999))
def test_slug__is_safe_on_any_system(name, number):
    assert re.fullmatch(r"[a-z0-9-]{4,45}", slug(name, number))


def test_closest__puts_the_likeliest_first():
    assert closest("attn.qvk", ["mlp.up", "attn.qkv", "attn.out"])[0] == "attn.qkv"


def test_examples__say_how_many_are_left_out():
    assert examples("abc") == "a, b, c"
    assert examples("abcde") == "a, b, c and 2 more"
