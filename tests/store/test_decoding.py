"""Do the bytes of a chunk become its values, and damaged ones an error?"""

import struct

import numpy as np
import pytest
from numcodecs.zstd import Zstd

from wdyn.store import encoding, metadata
from wdyn.store.decoding import decode
from wdyn.store.layout import Layout


def layout(dtype, shape, compression=None, fill=-1):
    codecs = None
    if compression:
        little, crc = {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}
        codecs = [little, {"name": compression, "configuration": {}}, crc]
    node = metadata.array(shape=shape, chunk=shape, dims=("a",) * len(shape), dtype=dtype, fill=fill)
    return Layout.of({**node, "codecs": codecs} if codecs else node)


def checked(body):
    return np.frombuffer(body + encoding.checksum(body), dtype=np.uint8).copy()


def test_decode__undoes_strings():
    texts = ["", "a", "ü" * 300, "h.0.attn"]
    parts = [struct.pack("<I", len(texts)), *(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)]
    found = decode(checked(b"".join(parts)), layout("string", (4,), fill=""))
    assert found.tolist() == texts


def test_decode__refuses_strings_of_another_count_before_it_makes_room():
    with pytest.raises(ValueError, match="holds 4294967295 strings, and needs 4"):
        decode(checked(struct.pack("<I", 2**32 - 1)), layout("string", (4,), fill=""))


def test_decode__refuses_values_of_another_count():
    with pytest.raises(ValueError, match="holds 24 bytes of values, and needs 32"):
        decode(checked(bytes(24)), layout("int64", (4,)))
    with pytest.raises(ValueError, match=r"cannot be decompressed: .*too small"):
        decode(checked(Zstd().encode(np.zeros(10**6))), layout("float64", (4,), "zstd"))
    with pytest.raises(ValueError, match="cannot be decompressed"):
        decode(checked(b"no zstd"), layout("float64", (4,), "zstd"))


def test_decode__shows_what_the_bytes_do_not_reach_as_missing():
    found = decode(checked(Zstd().encode(np.arange(3))), layout("int64", (2, 3), "zstd"))
    assert found.tolist() == [[0, 1, 2], [-1, -1, -1]]
