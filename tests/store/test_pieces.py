"""Does cutting a selection at the chunks give each position once, in its place?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.store.pieces import cut, lengths


@st.composite
def selections(draw):
    """A length, and a selection of an axis that long, of the kinds that xarray asks for."""
    length = draw(st.integers(1, 40))
    position = st.integers(0, length - 1)
    ranges = st.builds(slice, position, st.integers(0, length), st.integers(1, 5))
    positions = st.lists(position, max_size=12).map(lambda found: np.array(sorted(found), dtype=np.int64))
    return length, draw(st.one_of(position, ranges, positions))


@given(selections(), st.integers(1, 50))
def test_cut__gives_what_numpy_gives(selection, chunk):
    length, wanted = selection
    axis = np.arange(length)
    expected = np.atleast_1d(axis[wanted])
    (count,) = lengths([wanted], [length])
    found = np.full(count, -1)
    for piece in cut(wanted, length=length, chunk=chunk):
        held = np.arange(piece.chunk * chunk, (piece.chunk + 1) * chunk)
        found[piece.at] = held[piece.inside]
        assert piece.whole == np.array_equal(held[piece.inside], held)
    np.testing.assert_array_equal(found, expected)


def test_cut__names_each_chunk_once():
    assert [piece.chunk for piece in cut(np.array([0, 1, 7, 7, 8]), length=9, chunk=4)] == [0, 1, 2]


@pytest.mark.parametrize("wanted", [slice(3, 3), slice(5, 2), np.array([], dtype=np.int64)])
def test_cut__of_nothing_touches_no_chunk(wanted):
    assert cut(wanted, length=9, chunk=4) == []
    assert lengths([wanted], [9]) == (0,)
