"""Does what a signal asks for wait until what it interrupted is whole again?"""

from wdyn.capture.turn import Turn


def test_turn__does_at_its_outermost_end_what_was_asked_for_inside():
    turn, done = Turn(), []
    with turn:
        assert turn.is_taken
        with turn:
            turn.at_end(lambda: done.append(1))
            turn.at_end(lambda: done.append(2))
        assert done == []
    assert done == [1, 2]
    assert not turn.is_taken
    turn.at_end(lambda: done.append(3))
    assert done == [1, 2, 3]


def test_turn__that_an_error_ends_is_over():
    turn, done = Turn(), []
    try:
        with turn:
            turn.at_end(lambda: done.append(1))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert done == [1]
