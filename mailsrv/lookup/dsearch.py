"""``dsearch``: a name in a folder (specification 9.3); the result is the name, not marked."""

from __future__ import annotations

import os
import stat

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import Threads, in_thread, unusable

_FILTERS = {
    "file": stat.S_ISREG,
    "dir": stat.S_ISDIR,
}


def _search(folder: str, key: str, options: frozenset[str]) -> str | None:
    if "/" in key:
        raise TemporaryFailure(
            reason=f'lookup of "{key}" gave DEFER: key for dsearch lookup contains a slash: {key}'
        )
    if not key or "\0" in key or (key in (".", "..") and "filter=subdir" in options):
        return None
    try:
        os.stat(folder)
    except OSError as error:
        raise unusable(folder, "directory search", error) from None
    path = os.path.join(folder, key)
    follow = "follow" in options
    try:
        status = os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(path, "directory search", error) from None
    wanted = next((o.partition("=")[2] for o in options if o.startswith("filter=")), "")
    test = _FILTERS.get("dir" if wanted == "subdir" else wanted)
    if test is not None and not test(status.st_mode):
        return None
    return path if "ret=full" in options else key


class Lookup:
    """``dsearch`` lookups."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a name in a folder (ILookup)."""
        chosen = frozenset(options.split(",")) if options else frozenset()
        return await in_thread(self._threads, _search, file, key, chosen)
