"""What lookups in files share: a cache by identity of the file, threads for big ones, errors.

A file that is replaced by renaming gives the old or the new content, never a
mixture: it is read whole through one descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mailsrv.errors import TemporaryFailure

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")
Threads = Callable[..., Awaitable[Any]]
Identity = tuple[int, int, int, int]

_BIG = 256 * 1024  # octets from which reading and parsing is a thread's work
_MOST_FILES = 100


def identity(status: os.stat_result) -> Identity:
    """What changes when a file is written or replaced."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def unusable(path: str, what: str, error: OSError) -> TemporaryFailure:
    """The failure of a file that cannot be used, in Exim's words."""
    reason = error.strerror or str(error)
    return TemporaryFailure(reason=f"failed to open {path} for {what}: {reason}")


async def in_thread(threads: Threads | None, function: Callable[..., T], *arguments: object) -> T:
    """Run what blocks in a thread, or here if there are none."""
    if threads is None:
        return function(*arguments)
    result: T = await threads(function, *arguments)
    return result


class FileCache(Generic[T]):
    """Parsed files by path; a changed file is parsed anew.

    ``parse`` takes the file's octets.  The least recently used files are
    forgotten when there are too many.
    """

    def __init__(
        self, parse: Callable[[bytes], T], what: str, threads: Threads | None = None
    ) -> None:
        self._parse = parse
        self._what = what
        self._threads = threads
        self._files: dict[str, tuple[Identity, T]] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}  # for files that are being loaded

    async def get(self, path: str) -> T:
        """The parsed file; at once if it is known and has not changed.

        :raises TemporaryFailure: it cannot be read.
        """
        if not path.startswith("/"):
            raise TemporaryFailure(
                reason=f"failed to open {path} for {self._what}: not an absolute path"
            )
        while True:
            try:
                status = os.stat(path)
            except OSError as error:
                raise unusable(path, self._what, error) from None
            known = self._files.pop(path, None)
            if known is not None and known[0] == identity(status):
                self._files[path] = known
                return known[1]
            if status.st_size <= _BIG:
                return self._keep(path, self._load(path))
            if path not in self._waiting:
                return self._keep(path, await self._load_for_all(path))
            await self._loaded(path)

    def _keep(self, path: str, loaded: tuple[Identity, T]) -> T:
        self._files[path] = loaded
        while len(self._files) > _MOST_FILES:
            del self._files[next(iter(self._files))]
        return loaded[1]

    async def _load_for_all(self, path: str) -> tuple[Identity, T]:
        """Load a big file once, however many lookups come for it meanwhile."""
        self._waiting[path] = []
        try:
            loaded = await in_thread(self._threads, self._load, path)
            self._files[path] = loaded
            return loaded
        finally:
            for waiting in self._waiting.pop(path):
                if not waiting.called:
                    waiting.callback(None)

    async def _loaded(self, path: str) -> None:
        """Return when another lookup's load of the file has ended, well or not."""
        from twisted.internet.defer import Deferred

        ended: Deferred[None] = Deferred()
        self._waiting[path].append(ended)
        await ended

    def _load(self, path: str) -> tuple[Identity, T]:
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                content = file.read()
        except OSError as error:
            raise unusable(path, self._what, error) from None
        return identity(status), self._parse(content)
