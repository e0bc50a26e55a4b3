"""Does `select` of `watch` find what is meant, and say what there is where it finds nothing?"""

from collections.abc import Collection

import pytest
from torch import nn

from loops import Tiny
from wdyn.capture.anatomy import addresses
from wdyn.capture.choosing import Select, wanted_by
from wdyn.errors import InvalidArgument
from wdyn.schema import Address


@pytest.fixture
def known() -> Collection[Address]:
    return addresses(Tiny(layers=4))


def chosen(select: Select, known: Collection[Address]) -> list[str]:
    wanted = wanted_by(select, known)
    return [address.name for address in known if wanted(address)]


def test_wanted_by__none_and_an_empty_mapping_are_everything(known: Collection[Address]) -> None:
    assert chosen(None, known) == chosen({}, known) == [address.name for address in known]


def test_wanted_by__names_and_patterns(known: Collection[Address]) -> None:
    assert chosen("tok.weight", known) == ["tok.weight"]
    assert chosen(["tok.*", "*.3.attn.proj.bias"], known) == ["tok.weight", "blocks.3.attn.proj.bias"]


def test_wanted_by__a_name_may_have_the_letters_of_a_pattern() -> None:
    model = nn.Module()
    for name in ("a[0]", "a0"):
        model.register_parameter(name, nn.Parameter(nn.init.ones_(nn.Linear(1, 1).weight)))
    assert chosen("a[0]", addresses(model)) == ["a[0]", "a0"]


def test_wanted_by__a_role_finds_fused_weights_that_have_it(known: Collection[Address]) -> None:
    fused = [f"blocks.{layer}.attn.qkv.{kind}" for layer in range(4) for kind in ("weight", "bias")]
    assert chosen({"role": "q"}, known) == chosen({"role": "qkv"}, known) == fused
    assert chosen({"role": ["k", "o"], "kind": "weight", "layer": 2}, known) == [
        "blocks.2.attn.qkv.weight",
        "blocks.2.attn.proj.weight",
    ]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (1, [1]),
        ([0, 3], [0, 3]),
        (range(1, 3), [1, 2]),
        (range(2, 50), [2, 3]),
        (slice(2), [0, 1]),
        (slice(-2, None), [2, 3]),
        (slice(None, None, 2), [0, 2]),
    ],
)
def test_wanted_by__layers_as_numbers_ranges_and_slices(
    layer: object, expected: list[int], known: Collection[Address]
) -> None:
    found = chosen({"layer": layer, "path": "*.qkv.weight"}, known)
    assert found == [f"blocks.{number}.attn.qkv.weight" for number in expected]


def test_wanted_by__layer_minus_one_is_outside_blocks(known: Collection[Address]) -> None:
    assert chosen({"layer": -1}, known) == ["tok.weight", "head.weight"]


def test_wanted_by__all_keys_must_fit(known: Collection[Address]) -> None:
    assert chosen({"stack": "decoder", "name": "*.attn.*", "kind": "bias", "layer": 0}, known) == [
        "blocks.0.attn.qkv.bias",
        "blocks.0.attn.proj.bias",
    ]


def test_wanted_by__takes_a_function(known: Collection[Address]) -> None:
    assert chosen(lambda address: address.numel == 88, known) == ["tok.weight", "head.weight"]


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("tok.wieght", r"select='tok\.wieght' matches no parameter\. Closest: tok\.weight"),
        (["tok.*", "zzz*"], r"select='zzz\*' matches no parameter"),
        (5, "select=5 matches no parameter"),
        ({"role": ["q", "query"]}, r"role='query' matches no parameter\. This model has role: .*norm.*q, k, v"),
        ({"layer": 9}, "layer=9 matches no parameter.*has layer: -1, 0, 1, 2, 3"),
        ({"layer": range(9, 12)}, r"select=\{'layer': range.* matches no parameter\. This model has role: .*layer: -1"),
        ({"stack": "encoder"}, "stack='encoder' matches no parameter.*stack: .*decoder"),
        ({"kind": "weights"}, "kind='weights' matches no parameter.*kind: weight, bias"),
        ({"path": "blocks.attn.qvk.weight"}, r"path=.*Closest: blocks\.attn\.qkv\.weight"),
        ({"rolle": "q"}, "has the key 'rolle'; needed are some of role, layer, stack, kind, path, name"),
        ({"role": "q", "layer": -1}, r"matches no parameter\. This model has role: .*; layer: .*; stack: .*; kind: "),
    ],
)
def test_wanted_by__what_matches_nothing_is_refused_with_what_there_is(
    select: Select, message: str, known: Collection[Address]
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        wanted_by(select, known)


def test_wanted_by__a_function_that_wants_nothing_is_refused(known: Collection[Address]) -> None:
    with pytest.raises(InvalidArgument, match=r"matches no parameter\. This model has role: "):
        wanted_by(lambda address: False, known)
