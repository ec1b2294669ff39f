"""The accounts of this machine, for check_local_user: looked up in a thread, and remembered."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import IClock
from mailsrv.net.threads import IThreads

KNOWN = 60.0  # seconds that an account is remembered
UNKNOWN = 10.0  # seconds that it is remembered that there is none
MOST = 10_000  # answers remembered


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int
    home: str


class Accounts:
    """Looks accounts up; getpwnam may ask a server (NSS), so it runs in a thread."""

    def __init__(self, clock: IClock, threads: IThreads) -> None:
        self._clock = clock
        self._threads = threads
        self._known: dict[str, tuple[float, Account | None]] = {}

    async def find(self, name: str) -> Account | None:
        """Return an account, or None if there is none of that name.

        :raises TemporaryFailure: the password data cannot be read now.
        """
        now = self._clock.seconds()
        until, account = self._known.get(name, (0.0, None))
        if now < until:
            return account
        if not name or "\0" in name or len(name) > 256:
            return None
        account = await self._threads.run(_look_up, name)
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[name] = (now + (KNOWN if account else UNKNOWN), account)
        return account


def _look_up(name: str) -> Account | None:
    try:
        found = pwd.getpwnam(name.encode("latin-1").decode("utf-8"))
    except (KeyError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise TemporaryFailure(reason=f"password data of {name!r}: {error}") from error
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)
