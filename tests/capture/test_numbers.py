"""Do the numbers of pieces, sent from process to process and joined, give those of the whole?"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdyn import schema
from wdyn.capture import relations
from wdyn.capture.fragments import fragments
from wdyn.capture.measuring import Layout, Shown, measured
from wdyn.capture.numbers import Numbers, from_bytes, joined, number_rows, to_bytes
from wdyn.capture.partition import Cut, Part, Partition
from wdyn.capture.pieces import Piece
from wdyn.capture.relations import Relations
from wdyn.rows import Counts
from wdyn.schema import Extra, Quantity, Role

HALVES = Partition(((Cut(0, 6, 0, 3),), (Cut(0, 6, 3, 3),)), (Part("q", Role.Q, (0,)), Part("k", Role.K, (1,))))
LAYOUT = Layout(Shown({0: "w", 1: "b", 2: "w"}, 4), Shown({0: "w[q]", 1: "w[k]"}, 2))


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(6, 5, generator=generator)
    w[1, 2] = torch.nan
    return {"w": w, "b": torch.randn(4, generator=generator) + 100}


def numbers_of(before, after, *, pieces=None):
    """Measure weights and updates, whole or within pieces."""
    pieces = pieces or {name: Piece((0,) * one.dim(), tuple(one.shape)) for name, one in after.items()}
    cuts = fragments({"w": HALVES}, pieces)
    after = {name: piece.of(after[name]) for name, piece in pieces.items()}
    before = {name: piece.of(before[name]) for name, piece in pieces.items()}
    told = Relations([], [Extra.UPDATE_COSINE], tell=lambda message: None)
    return Numbers(
        {Quantity.WEIGHTS: measured(after, cuts), Quantity.UPDATES: measured(after, cuts, minus=before)},
        {"exp_avg": measured(before, cuts)},
        told.sums(3, after, before),
        dict.fromkeys(pieces, 1),
    )


def flat(rows):
    return {
        (row.group, name): value.dense() if isinstance(value, Counts) else value
        for row in rows
        for name, value in row.values.items()
    }


@given(st.integers(0, 6), st.integers(0, 4))
def test_joined__pieces_give_the_rows_of_the_whole(cut, other):
    before, after = tensors(0), tensors(1)
    first = {"w": Piece((0, 0), (cut, 5)), "b": Piece((0,), (other,))}
    second = {"w": Piece((cut, 0), (6 - cut, 5)), "b": Piece((other,), (4 - other,))}
    sent = [from_bytes(to_bytes(numbers_of(before, after, pieces=pieces))) for pieces in (first, second)]
    found = flat(number_rows(3, joined(sent), LAYOUT))
    expected = flat(number_rows(3, numbers_of(before, after), LAYOUT))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value.dtype.kind == "i":
            np.testing.assert_array_equal(found[key], value, err_msg=str(key))
        else:
            np.testing.assert_allclose(found[key], value, rtol=1e-11, atol=1e-14, err_msg=str(key))


def test_joined__takes_each_parameter_from_whom_has_it():
    before, after = tensors(0), tensors(1)
    whole = {name: Piece((0,) * one.dim(), tuple(one.shape)) for name, one in after.items()}
    several = [numbers_of(before, after, pieces={name: whole[name]}) for name in ("b", "w")]
    found, expected = joined(several), numbers_of(before, after)
    rows = flat(number_rows(3, found, LAYOUT))
    for key, value in flat(number_rows(3, expected, LAYOUT)).items():
        np.testing.assert_array_equal(rows[key], value, err_msg=str(key))


def test_number_rows__agree_with_numpy():
    before, after = tensors(0), tensors(1)
    rows = flat(number_rows(3, numbers_of(before, after), LAYOUT))
    b0, b1 = before["b"].double().numpy(), after["b"].double().numpy()
    ratio = np.linalg.norm(b1 - b0) / np.linalg.norm(b0)
    assert rows[schema.RELATIONS, schema.UPDATE_RATIO][1] == pytest.approx(ratio, rel=1e-12)
    assert np.isnan(rows[schema.RELATIONS, schema.UPDATE_RATIO][[0, 2, 3]]).all()  # w holds a NaN, 3 shows nothing
    assert rows["statistics/updates", "mean"][1] == pytest.approx((b1 - b0).mean(), rel=1e-12)
    assert rows["statistics/weights", "nans"].tolist() == [1, 0, 1, -1]


def test_from_bytes__gives_back_numbers_of_nothing():
    empty = from_bytes(to_bytes(Numbers()))
    assert not empty.quantities
    assert empty.relations is None
    assert empty.fingerprints == {}


def test_added__keeps_steps_between_updates_as_they_are():
    one = relations.Sums(("a", "b"), {"gap": np.array([2.0, 2.0]), "weights": np.ones((2, 2))})
    other = relations.Sums(("b", "c"), {"gap": np.array([2.0, 2.0]), "weights": np.ones((2, 2))})
    total = relations.added([one, other])
    assert total.names == ("a", "b", "c")
    np.testing.assert_array_equal(total.of["gap"], [2, 2, 2])
    np.testing.assert_array_equal(total.of["weights"][:, 0], [1, 2, 1])
