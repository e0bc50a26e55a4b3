"""Is each block said once?"""

import numpy as np
import pytest

from wdyn.reports.outline import OUTSIDE, Member, outline, spans
from wdyn.schema import Parts, parts_to_json


def test_outline__says_each_block_once(parameters):
    before, block, after = outline(parameters(12))
    assert (before.title, block.title, after.title) == (OUTSIDE, "decoder, layers 0–11 of h", OUTSIDE)
    assert (block.count, len(block.members)) == (12, 5)
    assert Member("attn.c_attn", "qkv", "weight 8 × 24, bias 24", values=8 * 24 + 24) in block.members


def test_outline__does_not_grow_with_depth(parameters):
    assert [b.members for b in outline(parameters(12))] == [b.members for b in outline(parameters(96))]


def test_outline__points_from_a_tied_name_to_its_partner(parameters):
    *_, after = outline(parameters(1))
    assert after.members[0] == Member("lm_head", "unembedding", "weight 100 × 8", "shares the storage of wte.weight")


def test_outline__folds_what_is_tied_within_each_layer(parameter_table, parameter_row):
    rows = []
    for i in range(12):
        rows.append(parameter_row(f"h.{i}.up.weight", "h.up.weight", "mlp_up", i, (4, 4)))
        rows.append(parameter_row(f"h.{i}.b.weight", "h.b.weight", "mlp_up", i, (4, 4), tied_to=f"h.{i}.up.weight"))
    (block,) = outline(parameter_table(rows))
    assert [member.notes for member in block.members] == ["", "shares the storage of h.up.weight"]


def test_outline__sets_frozen_layers_apart(parameter_table, parameter_row):
    rows = [parameter_row(f"h.{i}.up.weight", "h.up.weight", "mlp_up", i, (4, 4), trainable=i > 7) for i in range(12)]
    assert [(b.count, b.members[0].notes) for b in outline(parameter_table(rows))] == [(8, "frozen"), (4, "")]


def test_outline__tells_what_is_frozen(parameters):
    before, *_ = outline(parameters(1))
    assert [member.notes for member in before.members] == ["", "frozen"]


def test_outline__keeps_layers_apart_that_lack_a_module(parameter_table, parameter_row):
    rows = [parameter_row(f"h.{i}.norm.weight", "h.norm.weight", "norm", i, (4,)) for i in range(6)]
    rows += [parameter_row(f"h.{i}.attn.weight", "h.attn.weight", "q", i, (4, 4)) for i in (1, 5)]
    assert [block.title for block in outline(parameter_table(rows))] == [
        "decoder, layers 0–5 of h",
        "decoder, layers 1, 5 of h",
    ]


def test_outline__is_bounded_when_names_do_not_repeat(parameter_table, parameter_row):
    rows = [parameter_row(f"m{i}.weight", f"m{i}.weight", "linear", -1, (i + 1,)) for i in range(148)]
    (block,) = outline(parameter_table(rows))
    assert len(block.members) == 41
    assert block.members[-1].name == "and 108 more"


def test_outline__takes_a_bare_parameter_and_a_scalar(parameter_table, parameter_row):
    (block,) = outline(parameter_table([parameter_row("scale", "scale", "other", -1, ())]))
    assert block.members == (Member("", "other", "scale scalar", values=1),)


def test_outline__counts_the_values_that_a_layer_holds_of_its_own(parameters):
    before, block, after = outline(parameters(12))
    per_layer = (8 + 8) + (8 * 24 + 24) + (8 * 8 + 8) + (8 * 32 + 32) + (32 * 8 + 8)
    assert (before.values, block.values) == (100 * 8 + 16 * 8, per_layer)
    assert after.values == 3  # the tied unembedding holds nothing of its own


def test_outline__names_only_a_dtype_that_is_unusual(parameter_table, parameter_row):
    rows = [parameter_row(f"h.{i}.up.weight", "h.up.weight", "mlp_up", i, (4, 4)) for i in range(3)]
    rows[2]["dtype"] = "int8"
    first, second = outline(parameter_table(rows))
    assert (first.members[0].tensors, first.count) == ("weight 4 × 4", 2)
    assert (second.members[0].tensors, second.count) == ("weight 4 × 4 int8", 1)


def test_outline__says_how_a_fused_weight_splits_or_that_it_is_unknown(parameter_table, parameter_row):
    known = parts_to_json(Parts(0, ("q", "k", "v"), (8, 4, 4), 1, "module"))
    rows = [parameter_row(f"h.{i}.qkv.weight", "h.qkv.weight", "qkv", i, (16, 4)) for i in range(4)]
    rows += [parameter_row(f"h.{i}.qkv.bias", "h.qkv.bias", "qkv", i, (16,)) for i in range(3)]
    for row in rows:
        row["parts"] = "" if row["layer"] == 3 else known
        row |= dict(zip(("heads", "kv_heads", "head_dim"), (4, 2, 2) if row["parts"] else (0, 0, 0), strict=True))
    first, second = outline(parameter_table(rows))
    assert [member.parts for member in first.members] == ["q 8, k 4, v 4; 4 heads of 2, 2 of k and v"]
    assert [member.parts for member in second.members] == ["parts unknown"]


def test_outline__takes_shapes_that_are_no_json(parameters):
    table = parameters(2)
    shapes = np.empty(table.sizes["parameter"], dtype=object)
    shapes[:] = [tuple(int(n) for n in text.strip("[]").split(",")) for text in table["shape"].values]
    assert outline(table.assign(shape=("parameter", shapes))) == outline(table)


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 7], "0–2, 7"), ([1, 5], "1, 5")])
def test_spans__writes_numbers_in_short(numbers, text):
    assert spans(numbers) == text
