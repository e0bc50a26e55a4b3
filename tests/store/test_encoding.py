"""Are chunks the bytes that Zarr specifies, checksums included?"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdyn.store import encoding


def reference_crc32c(data):
    """CRC-32C bit by bit, from its polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


@given(st.binary(max_size=64))
def test_checksum__is_crc32c(data):
    assert encoding.checksum(data) == reference_crc32c(data)


def test_checksum__is_the_published_one_of_digits():
    assert encoding.checksum(b"123456789") == (0xE3069283).to_bytes(4, "little")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i8", ">i8", "?", "<c8", "u1"])
def test_chunk__is_little_endian_in_c_order(dtype):
    values = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    data = b"".join(encoding.chunk(values))
    assert data[:-4] == values.astype(values.dtype.newbyteorder("<")).tobytes("C")
    assert data[-4:] == reference_crc32c(data[:-4])


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i8"])
def test_small_chunk__comes_back(dtype):
    values = np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype))
    back = encoding.decode_small_chunk(b"".join(encoding.small_chunk(values)), dtype=values.dtype)
    np.testing.assert_array_equal(back, values.reshape(-1))


def test_small_chunk__is_small_where_nothing_is_recorded_yet():
    data = b"".join(encoding.small_chunk(np.full((512, 100), np.nan)))
    assert len(data) < 1000


@given(st.data())
def test_decode_small_chunk__finds_every_flipped_bit(draw):
    data = bytearray(b"".join(encoding.small_chunk(np.arange(3, dtype="<f8"))))
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum does not fit"):
        encoding.decode_small_chunk(bytes(data), dtype="<f8")


def test_decode_small_chunk__refuses_a_file_that_was_cut():
    with pytest.raises(ValueError, match="checksum does not fit"):
        encoding.decode_small_chunk(b"", dtype="<f8")
