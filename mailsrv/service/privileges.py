"""From root to the account that serves: what ``exim_user`` and ``exim_group`` mean.

Root binds ports and reads private keys; everything that touches network data
runs as this account, which cannot become root again.
"""

from __future__ import annotations

import os
import pwd
import resource
from dataclasses import dataclass

from mailsrv.errors import ConfigError

ROOT = 0
ENOUGH_FILES = 1 << 20
UMASK = 0o027


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group that the server runs as; ``name`` is "" for a number without a name."""

    uid: int
    gid: int
    name: str = ""


def account(uid: int | None, gid: int | None, wanted: str) -> Account:
    """Return the account to drop to.

    ``uid`` and ``gid`` are those of ``exim_user`` and ``exim_group``, None where
    not set; ``wanted`` is the user that a server without them runs as.

    :raises ConfigError: there is no such user, or it is root.
    """
    try:
        entry = pwd.getpwnam(wanted) if uid is None else pwd.getpwuid(uid)
    except KeyError:
        if uid is None or gid is None:
            raise ConfigError(
                f"started by root, mailsrv runs as the user {wanted or uid}, who does not exist",
                hint="make it with: adduser --system --group --no-create-home"
                f" {wanted or 'mailsrv'} - or name another with exim_user",
            ) from None
        found = Account(uid, gid)
    else:
        found = Account(entry.pw_uid, entry.pw_gid if gid is None else gid, entry.pw_name)
    if found.uid == ROOT:
        raise ConfigError("exim_user is root", hint="name an account without privileges")
    return found


def drop(to: Account) -> None:
    """Become ``to`` for good: real, effective and saved ids, and its groups.

    :raises OSError: not permitted; RuntimeError: root could be regained.
    """
    if to.name:
        os.initgroups(to.name, to.gid)
    else:
        os.setgroups([to.gid])
    os.setresgid(to.gid, to.gid, to.gid)
    os.setresuid(to.uid, to.uid, to.uid)
    if ROOT in os.getresuid():
        raise RuntimeError("privileges could not be dropped")


def raise_file_limit() -> int:
    """Raise the limit of open files as far as permitted, and return it.

    Each session and each kept connection is a file, so ``smtp_accept_max = 0``
    means "as many as this".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else hard
    if os.geteuid() == ROOT:
        wanted = hard = max(wanted, min(ENOUGH_FILES, _system_limit()))
    if wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return soft


def _system_limit() -> int:
    try:
        with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 65536


def make_folder(path: str, mode: int, owner: Account | None) -> None:
    """Make a folder of ours with its parents, owned by ``owner`` if root makes it.

    A folder that exists is left as its administrator made it.
    """
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path.rstrip("/"))
    if parent and not os.path.isdir(parent):
        os.makedirs(parent, 0o755, exist_ok=True)
    os.mkdir(path, mode)
    os.chmod(path, mode)  # whatever umask we were started with
    if owner is not None:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
