"""The local user who submits a message (specification 5.2, 47): what the kernel says of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of this machine; ``full_name`` is of the password file, or given with ``-F``."""

    uid: int
    login: str
    full_name: str = ""
    trusted: bool = False  # may set any sender (trusted_users, trusted_groups)
    named: bool = False  # full_name was given with -F
    gid: int = -1
