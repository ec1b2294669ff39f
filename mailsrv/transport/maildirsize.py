"""How full a Maildir is (specification 26.7): the sizes and the number of its files.  It blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from mailsrv.expansion.regex import compile_regex

DIRECTORIES = r"^(?:cur|new|\..*)$"  # those that count, at any depth


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a Maildir: octets and files (0 = none), and how they are counted.

    ``size_regex`` takes a file's size from its name; ``inclusive``: the
    message to come counts, too.
    """

    size: int = 0
    count: int = 0
    inclusive: bool = True
    size_regex: str = ""
    directory_regex: str = DIRECTORIES
    directory: str = ""  # what is counted, "" = the Maildir itself

    def exceeded(self, maildir: str, size: int) -> bool:
        """Tell whether a message of ``size`` octets has no room.

        :raises OSError: the Maildir cannot be read.
        """
        if not self.size and not self.count:
            return False
        octets = files = 0
        for path, name in _files(self.directory or maildir, self.directory_regex):
            files += 1
            octets += self._size(path, name)
        more = (size, 1) if self.inclusive else (0, 0)
        over = octets + more[0] > self.size, files + more[1] > self.count
        if not self.inclusive:
            over = octets >= self.size, files >= self.count
        return bool((self.size and over[0]) or (self.count and over[1]))

    def _size(self, path: str, name: str) -> int:
        if self.size_regex:
            found = compile_regex(self.size_regex).search(name)
            if found is not None and found[1].isdigit():
                return int(found[1])
        with suppress(FileNotFoundError):
            return os.stat(path).st_size
        return 0


def _files(folder: str, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield path and name of the files in directories that match, at any depth."""
    wanted = compile_regex(pattern)
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False) or not wanted.search(entry.name):
            continue
        with suppress(FileNotFoundError):
            for inner in os.scandir(entry.path):
                if inner.is_file(follow_symlinks=False):
                    yield inner.path, inner.name
        yield from _files(entry.path, pattern)
