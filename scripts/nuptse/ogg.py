"""Ogg files that are the same bytes for the same audio."""

from __future__ import annotations

import zlib

_HEADER = 27  # bytes before the table of segments
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_serial(data: bytes, serial: int) -> bytes:
    """Return an Ogg stream with another serial number: encoders draw one by chance.

    Format: RFC 3533, section 6

    Raises:
        ValueError: it is no Ogg stream.
    """
    pages, start = bytearray(data), 0
    while start < len(pages):
        if pages[start : start + 4] != b"OggS" or start + _HEADER > len(pages):
            raise ValueError(f"no Ogg page at byte {start}")
        segments = pages[start + _HEADER - 1]
        end = start + _HEADER + segments + sum(pages[start + _HEADER : start + _HEADER + segments])
        pages[start + 14 : start + 18] = serial.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)
        pages[start + 22 : start + 26] = checksum(bytes(pages[start:end])).to_bytes(4, "little")
        start = end
    return bytes(pages)


def checksum(page: bytes) -> int:
    """Return the CRC of a page whose own field is zero: polynomial 0x04c11db7, from 0, not reflected.

    ``zlib.crc32`` has the same polynomial, but reads and gives its bits in the other order and inverts both ends.
    """
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
