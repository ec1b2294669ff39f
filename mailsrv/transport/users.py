"""Under which system user a delivery would run (specification 23.2), and whether we can do it.

mailsrv delivers as the user that it runs as; started by root, it has a process that
can become others (``privileged``).  Where it has none, a configuration that asks for
another user is told so when it is read, where that is known then; otherwise the
delivery defers.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mailsrv.config.options import OptionSet
from mailsrv.config.types import User
from mailsrv.errors import ConfigError, TemporaryFailure

_KINDS = ("", "file_", "pipe_", "directory_", "reply_")
HINT = "start mailsrv as root, set deliver_drop_privilege, or user to the server's own user"


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


@dataclass(frozen=True, slots=True)
class RunAs:
    """Another system user, as whom a local delivery runs in a process of its own.

    ``group`` is "" for the user's own; ``supplementary`` is ``initgroups``.
    """

    user: str
    group: str = ""
    supplementary: bool = False


def is_other_user(
    name: str, transport: str, never: frozenset[int], *, privileged: bool = False
) -> bool:
    """Tell whether a local delivery runs as another user than the server's.  May block.

    ``name`` is "" for the default, which is the server's own; ``privileged``
    tells whether there is a process that can become another.

    :raises TemporaryFailure: it cannot, or the user is one of ``never_users``.
    """
    own = os.geteuid()
    uid = uid_of(name) if name else own
    if uid in never and (name or own == 0):
        raise TemporaryFailure(
            reason=f"User {uid} set for {transport} transport is on the never_users list"
        )
    if uid != own and not privileged:
        raise TemporaryFailure(
            reason=f"delivery as user {name} (uid {uid}) is not available: {HINT}"
        )
    return uid != own


def problems(
    routers: Iterable[OptionSet], transports: Mapping[str, OptionSet], own: int | None
) -> list[ConfigError]:
    """Return an error for each router or transport that needs another user than uid ``own``.

    For configurations without deliver_drop_privilege.  ``own`` is None where the
    server's user is not known.  What is expanded for each delivery is told then.
    """
    found = [_named(transport, own) for transport in transports.values()]
    for router in routers:
        if router.values.get("verify_only"):
            continue
        chosen = [transports[name] for name in named_transports(router) if name in transports]
        if chosen and not any(_open(transport) for transport in chosen):
            continue
        found.append(_named(router, own))
        if router.values.get("check_local_user"):
            found += [_recipients_user(router, each) for each in chosen if _open(each)]
    return [error for error in found if error is not None]


def named_transports(router: OptionSet, *, places: bool = False) -> list[str]:
    """Return the transports that a router names, as they stand in the file.

    ``places``: those alone whose paths and commands come from redirections.
    """
    kinds = _KINDS[1:] if places else _KINDS
    values = (router.values.get(f"{kind}transport") for kind in kinds)
    return [value.source for value in values if value is not None]


def _open(transport: OptionSet) -> bool:
    """Tell whether a router chooses as whom a transport writes (specification 23.2)."""
    return bool(getattr(transport, "needs_user", False)) and transport.values.get("user") is None


def _named(driver: OptionSet, own: int | None) -> ConfigError | None:
    user: Any = driver.values.get("user")
    if own is None or not isinstance(user, User) or user.uid == own:
        return None
    problem = (
        f"{driver.name} {driver.kind}: delivery as another system user ({user.name}) "
        "is not available"
    )
    return ConfigError(problem, driver.places.get("user", driver.where), HINT)


def _recipients_user(router: OptionSet, transport: OptionSet) -> ConfigError | None:
    if router.values.get("user") is not None:
        return None
    problem = (
        f"{router.name} router: with check_local_user, {transport.name} transport delivers as "
        "the recipient's system user, which is not available"
    )
    return ConfigError(problem, router.places.get("check_local_user", router.where), HINT)
