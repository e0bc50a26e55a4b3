"""Do the parts that pieces of a weight hold make up the parts of the whole, each element once?"""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn.capture.fragments import fragments
from wdyn.capture.partition import partition
from wdyn.capture.pieces import Piece
from wdyn.schema import FAN_IN, FAN_OUT, Address, Kind, Parts, Role


def fused(rows, *, sizes, repeats, columns=3):
    names = ("q", "k", "v")[: len(sizes)]
    return Address(
        "attn.qkv.weight",
        "attn.qkv.weight",
        Role.QKV,
        Kind.WEIGHT,
        "decoder",
        0,
        (rows, columns),
        (FAN_OUT, FAN_IN),
        "float32",
        parts=Parts(0, names, sizes, repeats),
        heads=2,
        kv_heads=2,
    )


@st.composite
def cut_weights(draw):
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=3)))
    repeats = draw(st.integers(1, 4))
    rows = sum(sizes) * repeats
    cuts = sorted(draw(st.sets(st.integers(0, rows), max_size=4)) | {0, rows})
    column = draw(st.integers(0, 3))
    return sizes, repeats, rows, cuts, column


@given(cut_weights(), st.booleans())
def test_fragments__of_all_pieces_hold_each_element_of_each_part_once(weight, heads):
    sizes, repeats, rows, cuts, column = weight
    cut = partition(fused(rows, sizes=sizes, repeats=repeats), heads=heads)
    whole = torch.arange(rows * 3).reshape(rows, 3)
    found = {part.name: [] for part in cut.parts}
    covered = []
    for first, behind in itertools.pairwise(cuts):
        for left, right in ((0, column), (column, 3)):  # divided along both axes
            held = Piece((first, left), (behind - first, right - left))
            local = fragments({"w": cut}, {"w": held})["w"]
            views = list(local.views(held.of(whole)))
            covered += [number for view in views for number in view.flatten().tolist()]
            for part in local.parts:
                found[part.name] += [number for at in part.cells for number in views[at].flatten().tolist()]
    assert sorted(covered) == list(range(rows * 3))
    cells = list(cut.views(whole))
    for part in cut.parts:
        expected = [number for at in part.cells for number in cells[at].flatten().tolist()]
        assert sorted(found[part.name]) == sorted(expected)


def test_fragments__are_views_of_what_the_process_holds():
    cut = partition(fused(12, sizes=(2, 2, 2), repeats=2), heads=False)
    held = torch.zeros(5, 3)
    for view in fragments({"w": cut}, {"w": Piece((4, 0), (5, 3))})["w"].views(held):
        view += 1
    np.testing.assert_array_equal(held, np.ones((5, 3)))


def test_fragments__leaves_out_what_the_process_does_not_hold():
    cut = partition(fused(12, sizes=(2, 2, 2), repeats=2), heads=False)
    assert fragments({"w": cut}, {}) == {}
    parts = fragments({"w": cut}, {"w": Piece((0, 0), (2, 3))})["w"].parts
    assert {part.name: len(part.cells) for part in parts} == {"q": 1, "k": 0, "v": 0}
