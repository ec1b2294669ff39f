"""Constant databases (D. J. Bernstein's cdb): two reads of 8 octets and the record."""

from __future__ import annotations

import os
import struct

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import Threads, in_thread, unusable

_PAIR = struct.Struct("<LL")


def cdb_hash(key: bytes) -> int:
    """cdb's hash: from 5381, times 33, exclusive or with each octet, in 32 bits."""
    value = 5381
    for octet in key:
        value = ((value * 33) & 0xFFFFFFFF) ^ octet
    return value


def _pair(descriptor: int, offset: int) -> tuple[int, int]:
    raw = os.pread(descriptor, 8, offset)
    if len(raw) < 8:
        raise EOFError
    first, second = _PAIR.unpack(raw)
    return first, second


def _search(descriptor: int, key: bytes) -> bytes | None:
    value = cdb_hash(key)
    table, slots = _pair(descriptor, (value & 255) * 8)
    for step in range(slots):
        slot = ((value >> 8) + step) % slots
        stored, offset = _pair(descriptor, table + slot * 8)
        if not offset:
            return None
        if stored != value:
            continue
        key_length, data_length = _pair(descriptor, offset)
        if key_length != len(key) or os.pread(descriptor, key_length, offset + 8) != key:
            continue
        data = os.pread(descriptor, data_length, offset + 8 + key_length)
        if len(data) < data_length:
            raise EOFError
        return data
    return None


def fetch(path: str, key: bytes) -> bytes | None:
    """Read the first record of a key.

    :raises TemporaryFailure: the file cannot be read, or is damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _search(descriptor, key)
        finally:
            os.close(descriptor)
    except EOFError:
        raise TemporaryFailure(reason=f"cdb: {path} too short for cdb") from None
    except OSError as error:
        raise unusable(path, "cdb lookup", error) from None


class Lookup:
    """``cdb`` lookups."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a key (ILookup)."""
        raw = await in_thread(self._threads, fetch, file, key.encode("latin-1"))
        return None if raw is None else raw.decode("latin-1")
