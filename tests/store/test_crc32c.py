import google_crc32c
import numpy as np
import pytest

from distsae.store.crc32c import TRAILER, crc32c, trailer_of


def test_bytes_and_writable_arrays():
    array = np.arange(100, dtype=np.uint8)
    assert crc32c(array) == crc32c(array.tobytes()) == google_crc32c.value(array.tobytes())
    assert crc32c(b"123456789") == 0xE3069283  # the published check value of CRC-32C
    assert array.flags.writeable


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_piece_by_piece(piece):
    data = np.arange(100, dtype=np.uint8)
    checksum = 0
    for start in range(0, len(data), piece):
        checksum = crc32c(data[start : start + piece], checksum)
    assert checksum == crc32c(data)


def test_the_trailer_is_little_endian():
    assert trailer_of(0xE3069283) == b"\x83\x92\x06\xe3"
    assert len(trailer_of(0)) == TRAILER


@pytest.mark.parametrize("payload", [b"", b"1", b"123456789", bytes(1000)])
def test_payload_and_trailer_together_have_the_same_checksum_for_every_payload(payload):
    """This is why the commit record of a chunk file keeps the crc32c of the payload."""
    assert crc32c(payload + trailer_of(crc32c(payload))) == 0x48674BC7
