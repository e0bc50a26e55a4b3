"""Is every piece of every parameter recorded by one process, and is a regular grid of pieces recognised?"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.arrays import plan_arrays
from wdyn.capture.pieces import Piece
from wdyn.capture.sharing import ALONE, Held, shared
from wdyn.errors import InvalidArgument
from wdyn.schema import Address, Kind, Role


def held(shape, start, size, *, dtype="torch.float32", spread=True):
    return Held(tuple(shape), dtype, Piece(tuple(start), tuple(size)), spread)


def rows(length, bounds, *, width=2):
    """What processes hold of a matrix of `length` rows that is cut at `bounds`."""
    return [{"w": held((length, width), (a, 0), (b - a, width))} for a, b in itertools.pairwise((0, *bounds, length))]


@pytest.mark.parametrize(
    ("length", "bounds", "grid"),
    [
        (8, (4,), (4, 2)),
        (7, (4,), (4, 2)),  # the last is shorter
        (6, (2, 4, 6), (2, 2)),  # the last is empty
        (10, (3, 5, 8), ()),  # two dimensions of a mesh on one uneven axis
        (5, (5,), ()),  # all of it in the first
    ],
)
def test_shared__recognises_a_regular_grid(length, bounds, grid):
    assert shared(rows(length, bounds), rank=0).grid("w") == grid


def test_shared__recognises_a_grid_along_two_axes():
    pieces = [((0, 0), (2, 3)), ((0, 3), (2, 2)), ((2, 0), (1, 3)), ((2, 3), (1, 2))]
    sharing = shared([{"w": held((3, 5), *piece)} for piece in pieces], rank=3)
    assert sharing.grid("w") == (2, 3)
    assert sharing.piece("w") == Piece((2, 3), (1, 2))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 3))
def test_shared__lets_the_lowest_process_speak_for_each_piece(lengths, copies):
    bounds = list(itertools.accumulate(lengths))
    total = bounds[-1]
    every = rows(total, bounds[:-1]) * copies
    speakers = [rank for rank in range(len(every)) if shared(every, rank=rank).speaks_for("w")]
    if total:
        assert speakers == [rank for rank, length in enumerate(lengths) if length]
        division = shared(every, rank=0).divisions["w"]
        assert all(len(others) == copies - 1 for others in division.replicas().values())
    else:
        assert speakers == [0]


def test_shared__leaves_what_is_whole_everywhere_to_the_first():
    every = [{"b": held((3,), (0,), (3,), spread=False)}] * 3
    assert [shared(every, rank=rank).speaks_for("b") for rank in range(3)] == [True, False, False]
    assert shared(every, rank=0).is_whole_in_first("b")
    assert shared(every, rank=0).divisions["b"].replicas() == {0: (1, 2)}


def test_shared__refuses_processes_with_different_parameters():
    with pytest.raises(InvalidArgument, match=r"Processes 0 and 1 hold different parameters, such as w, v.*alone=True"):
        shared([rows(4, (2,))[0], {"v": held((4, 2), (2, 0), (2, 2))}], rank=0)
    with pytest.raises(InvalidArgument, match="hold different parameters, such as w"):
        shared([{"w": held((4,), (0,), (2,))}, {"w": held((4,), (2,), (2,), dtype="torch.bfloat16")}], rank=0)


def test_shared__refuses_pieces_that_do_not_make_up_the_whole():
    with pytest.raises(InvalidArgument, match=r"pieces of w of shape \(8, 2\) hold 12 elements together"):
        shared([*rows(8, (2, 4))[:2], {"w": held((8, 2), (4, 0), (2, 2))}], rank=0)


@pytest.mark.parametrize(
    "pieces",
    [
        [((0, 0), (3, 2)), ((2, 0), (2, 2)), ((3, 0), (1, 2)), ((4, 0), (2, 2))],  # along an axis
        [((0, 0), (4, 1)), ((0, 1), (2, 1)), ((1, 1), (2, 1)), ((4, 0), (2, 2))],  # only of those that begin late
    ],
)
def test_shared__refuses_pieces_that_overlap_though_the_total_fits(pieces):
    with pytest.raises(InvalidArgument, match=r"hold 1[26] elements together, or overlap"):
        shared([{"w": held((6 if pieces[0][1] == (4, 1) else 8, 2), *piece)} for piece in pieces], rank=0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=5))
def test_shared__accepts_exactly_what_counts_each_element_once(cuts):
    """Against counting every element, for blocks along one axis that may lie anywhere in it."""
    distinct = dict.fromkeys(cuts)
    times = [0] * 6
    for start, size in distinct:
        for at in range(start, start + size):
            times[at] += 1
    length = max(start + size for start, size in distinct)
    every = [{"w": held((length, 2), (start, 0), (size, 2))} for start, size in cuts]
    if times[:length] == [1] * length:
        assert shared(every, rank=0).speaks_for("w")
    else:
        with pytest.raises(InvalidArgument, match="make up the whole"):
            shared(every, rank=0)


def test_alone__speaks_for_everything():
    assert ALONE.speaks_for("anything")
    assert not ALONE.is_shared
    assert ALONE.grid("anything") == ()


def test_plan_arrays__stacks_only_layers_that_are_divided_alike():
    def address(layer):
        return Address(f"h.{layer}.w", "h.w", Role.LINEAR, Kind.WEIGHT, "decoder", layer, (4, 2), ("a", "b"), "float32")

    def of(rank, first, size):
        return held((4, 2), (first, 0), (size, 2)) if rank is not None else None

    even, uneven = [of(0, 0, 2), of(1, 2, 2)], [of(0, 0, 3), of(1, 3, 1)]
    every = [{"h.0.w": even[at], "h.1.w": uneven[at], "h.2.w": even[at]} for at in range(2)]
    arrays = plan_arrays([address(layer) for layer in range(3)], division=shared(every, rank=0))
    assert {array.names: array.grid for array in arrays} == {("h.0.w", "h.2.w"): (2, 2), ("h.1.w",): (3, 2)}
