"""Connection counts that all workers of a server share (design, decision 12).

A file in memory has a row for each worker, written by that worker alone, so
there is no lock: a limit asks for the sum of all rows.  Where a worker died,
the supervisor empties its row.

A row begins with the number of connections.  Then come buckets of places for
hosts: a digest of the address and a count.  A host whose bucket is full is
counted by its own worker only.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from struct import Struct

from mailsrv.connection.limits import ConnectionCounts

BUCKETS = 2048
PLACES = 8  # in a bucket
DIGEST = 12
_COUNT = Struct("=I")
_PLACE = DIGEST + _COUNT.size
_BUCKET = PLACES * _PLACE
_HEAD = 64
_EMPTY = bytes(DIGEST)
ROW = (_HEAD + BUCKETS * _BUCKET + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE


def make_counts(workers: int) -> int:
    """Return the descriptor of a file for that many workers.

    :raises OSError: there is no memory.
    """
    descriptor = os.memfd_create("mailsrv-connections", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, workers * ROW)
    return descriptor


def reset(descriptor: int, worker: int) -> None:
    """Forget what a worker counted that is no more."""
    os.pwrite(descriptor, bytes(ROW), worker * ROW)


class SharedCounts:
    """Provides ``IConnectionCounts``: those of one worker, and the sums over all."""

    def __init__(self, descriptor: int, worker: int) -> None:
        size = os.fstat(descriptor).st_size
        self._map = mmap.mmap(descriptor, size)
        self._own = ConnectionCounts()
        self._row = worker * ROW
        self._others = [row for row in range(0, size, ROW) if row != self._row]

    def enter(self, address: str) -> tuple[int, int]:
        """Count a connection; return the server's number of them, and that of its host's."""
        total, of_host = self._own.enter(address)
        digest = _digest(address)
        self._set(digest, of_host)
        _COUNT.pack_into(self._map, self._row, total)
        for row in self._others:
            total += _COUNT.unpack_from(self._map, row)[0]
            place = self._find(row, digest)
            if place >= 0:
                of_host += _COUNT.unpack_from(self._map, place + DIGEST)[0]
        return total, of_host

    def leave(self, address: str) -> None:
        """Forget a connection."""
        self._own.leave(address)
        self._set(_digest(address), self._own.of_host(address))
        _COUNT.pack_into(self._map, self._row, self._own.total)

    def _set(self, digest: bytes, count: int) -> None:
        """Write the count of a host in our row."""
        place = self._find(self._row, digest)
        if place < 0:
            place = self._find(self._row, _EMPTY, _bucket(digest))
            if place < 0:
                return
            self._map[place : place + DIGEST] = digest
        _COUNT.pack_into(self._map, place + DIGEST, count)
        if not count:
            self._map[place : place + DIGEST] = _EMPTY

    def _find(self, row: int, digest: bytes, bucket: int | None = None) -> int:
        """Return where a digest is; -1 = nowhere."""
        start = row + _HEAD + (_bucket(digest) if bucket is None else bucket) * _BUCKET
        place = self._map.find(digest, start, start + _BUCKET)
        while place >= 0 and (place - start) % _PLACE:
            place = self._map.find(digest, place + 1, start + _BUCKET)
        return place


def _digest(address: str) -> bytes:
    digest = blake2b(address.encode("latin-1", "replace"), digest_size=DIGEST).digest()
    return digest if digest != _EMPTY else b"\1" * DIGEST


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:4], "big") % BUCKETS
