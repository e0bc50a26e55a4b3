"""Is it known which chunks were never written, across a resume too?"""

from hypothesis import given
from hypothesis import strategies as st

from wdyn.store.written import UNWRITTEN, Written, ranges

CHUNKS = st.lists(st.booleans(), max_size=20)


@given(st.lists(CHUNKS, min_size=1, max_size=3))
def test_written__tells_what_was_not_and_takes_it_up_again(columns):
    count = max(map(len, columns))
    written = Written()
    for at, chunks in enumerate(columns):
        for number, wrote in enumerate(chunks):
            if wrote:
                written.add(number, at=at)
                written.add(number, at=at)  # the unfinished chunk is written again and again
    gaps = written.gaps(count=count, across=len(columns))
    attributes = {UNWRITTEN: gaps} if gaps else {}
    for at, chunks in enumerate(columns):
        found = {n for a, b in ranges(attributes, count=count, at=at) for n in range(a, b)}
        assert found == {number for number, wrote in enumerate(chunks) if wrote}
        assert found == {number for number in range(count) if written.has(number, at=at)}
    assert Written.restored(attributes, count=count, across=len(columns)).gaps(count=count, across=len(columns)) == gaps


def test_written__says_nothing_where_nothing_is_missing():
    written = Written()
    for number in range(3):
        written.add(number)
    assert written.gaps(count=3, across=1) == ()
    assert written.gaps(count=4, across=1) == (((3, 4),),)
    assert written.gaps(count=3, across=2) == ((), ((0, 3),))


def test_ranges__of_any_length_take_no_time():
    assert ranges({}, count=10**18, at=0) == ((0, 10**18),)
