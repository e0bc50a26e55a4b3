"""Is the root document of a run, byte for byte, what was written?

Chunks carry checksums of their own; the one document that tells of them all carries its own within it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from wdyn import schema
from wdyn.store.encoding import checksum

CHECKSUM: Final = "checksum"
"""Key of the root's attributes: CRC-32C of the document, computed while eight zeros stand in its place."""

_BLANK = "0" * 8
_SEAL = re.compile(rb'"checksum":"([0-9a-f]{8})"')


def with_room(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Give the attributes of a root with room for the checksum, before all that is told from outside."""
    own = attributes.get(schema.ATTRIBUTES)
    room = {CHECKSUM: _BLANK}
    return {**attributes, schema.ATTRIBUTES: {**room, **own, **room}} if own else {**attributes}


def seal(document: bytes) -> bytes:
    """Put its checksum into a document that has room for one."""
    return document.replace(f'"{CHECKSUM}":"{_BLANK}"'.encode(), b'"checksum":"%b"' % _of(document), 1)


def is_as_written(document: bytes) -> bool:
    """Say whether a document has the checksum that is told in it; one that tells none is not as it was written."""
    found = _SEAL.search(document)
    if found is None:
        return False
    return _of(document[: found.start(1)] + _BLANK.encode() + document[found.end(1) :]) == found[1]


def _of(document: bytes) -> bytes:
    (value,) = struct.unpack("<I", checksum(document))
    return b"%08x" % value
