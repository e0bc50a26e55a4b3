"""Does every changed bit of a root document show?"""

import json

from hypothesis import given
from hypothesis import strategies as st

from wdyn.store.sealing import is_as_written, seal, with_room

WORDS = st.text(max_size=12) | st.just('"checksum":"00000000"') | st.just("checksum")
ATTRIBUTES = st.fixed_dictionaries({"wdyn": st.dictionaries(WORDS, WORDS, min_size=1, max_size=4)})


@given(ATTRIBUTES, st.data())
def test_seal__fits_what_was_written_and_no_other_bytes(attributes, data):
    document = seal(json.dumps({"attributes": with_room(attributes)}, separators=(",", ":")).encode())
    assert is_as_written(document)
    assert {**json.loads(document)["attributes"]["wdyn"], "checksum": 0} == {**attributes["wdyn"], "checksum": 0}
    bit = data.draw(st.integers(0, 8 * len(document) - 1))
    changed = bytearray(document)
    changed[bit // 8] ^= 1 << bit % 8
    assert not is_as_written(bytes(changed))


def test_seal__of_a_document_that_has_none():
    assert not is_as_written(b'{"attributes":{"wdyn":{"format":1}}}')
    assert with_room({"other": 1}) == {"other": 1}
