"""``passwd``: the system's users (specification 9.4).

The data are the fields of the password file after the name, separated by colons; a star
stands for the password.
"""

from __future__ import annotations

from mailsrv.errors import TemporaryFailure
from mailsrv.lookup._files import Threads, in_thread


def _search(name: str) -> str | None:
    import pwd

    if not name or "\0" in name:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    except OSError as error:
        raise TemporaryFailure(reason=f"passwd lookup of {name}: {error.strerror}") from None
    fields = ("*", entry.pw_uid, entry.pw_gid, entry.pw_gecos, entry.pw_dir)
    return ":".join(str(field) for field in (*fields, entry.pw_shell))


class Lookup:
    """``passwd`` lookups: name services may be slow, so in a thread."""

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find a user (ILookup)."""
        return await in_thread(self._threads, _search, key)
