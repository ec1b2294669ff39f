"""Under which system user a delivery would run (specification 23.2), and whether we can do it.

mailsrv delivers as the user that it runs as.  A configuration that asks for
another one is told so when it is read, where that is known then; otherwise the
delivery defers.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from typing import Any

from mailsrv.config.options import OptionSet
from mailsrv.config.types import User
from mailsrv.errors import ConfigError, TemporaryFailure

HINT = "set deliver_drop_privilege, or user to the server's own user"


def uid_of(name: str) -> int:
    """Return the number of a system user given by name or number.  May block.

    :raises TemporaryFailure: there is none.
    """
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        raise TemporaryFailure(reason=f"user {name!r} was not found") from None


def refuse_other_user(name: str, transport: str, never: frozenset[int]) -> None:
    """Refuse a local delivery as another user than the server's, or as one of ``never_users``.

    ``name`` is "" for the default, which is the server's own.  May block.

    :raises TemporaryFailure: with the reason.
    """
    own = os.geteuid()
    uid = uid_of(name) if name else own
    if uid in never and (name or own == 0):
        raise TemporaryFailure(
            reason=f"User {uid} set for {transport} transport is on the never_users list"
        )
    if uid != own:
        raise TemporaryFailure(
            reason=f"delivery as user {name} (uid {uid}) is not available: {HINT}"
        )


def problems(drivers: Iterable[OptionSet], own: int) -> list[ConfigError]:
    """Return an error for each router or transport that names another user than uid ``own``.

    For configurations without deliver_drop_privilege.
    """
    found = []
    for driver in drivers:
        user: Any = driver.values.get("user")
        if isinstance(user, User) and user.uid != own:
            found.append(
                ConfigError(
                    f"{driver.name} {driver.kind}: delivery as another system user "
                    f"({user.name}) is not available",
                    driver.places.get("user", driver.where),
                    HINT,
                )
            )
    return found
