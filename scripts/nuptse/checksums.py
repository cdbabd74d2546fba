"""Checksums that tell damage, at the speed of memory: XXH3 of 128 bits, as ``xxhsum -H128`` prints it.

Proof against accidents, not against malice: what comes from elsewhere is compared by SHA-256 (``nuptse.errors``).
"""

from __future__ import annotations

import os

import xxhash

_READ = 1 << 20


def xxh128_of(path: str | os.PathLike[str]) -> str:
    """Return the XXH3-128 of a file's bytes, 32 lower-case hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ):
            digest.update(block)
    return digest.hexdigest()
