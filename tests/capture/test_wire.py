"""Does a process read of another what that one wrote?"""

import itertools
import json

from wdyn.capture.pieces import Piece
from wdyn.capture.sharing import Held, Sharing, shared
from wdyn.capture.wire import from_plain, heard, to_plain, told


def held(shape, start, size, *, spread=True):
    return Held(shape, "torch.float32", Piece(start, size), spread)


def test_told__gives_another_process_the_same_divisions():
    rows = [held((10, 2), (a, 0), (b - a, 2)) for a, b in itertools.pairwise((0, 3, 5, 8, 10))]
    every = [{"w": one, "again": one, "b": held((3,), (0,), (3,), spread=False)} for one in rows]
    first = shared(every, rank=0)
    plain = json.loads(json.dumps(told(first)))
    assert heard(plain, rank=2, processes=4) == Sharing(2, 4, first.divisions)
    assert len(plain["divisions"]) == 2


def test_plain__gives_back_what_a_process_holds():
    tensors = {"a": held((3, 2), (1, 0), (2, 2)), "b": held((), (), (), spread=False)}
    assert from_plain(json.loads(json.dumps(to_plain(tensors)))) == tensors
