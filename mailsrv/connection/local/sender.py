"""Who submits, and as whom they may (specification 5.2 ``-f``, 47, 48.11)."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from mailsrv.config.main import MainOptions
from mailsrv.connection.parts import Parts
from mailsrv.expansion.lists import match_address
from mailsrv.expansion.regex import compile_regex
from mailsrv.expansion.scope import Scope
from mailsrv.mail.caller import Caller
from mailsrv.mail.connection import Connection
from mailsrv.mail.taint import Tainted


def groups_of(login: str, gid: int) -> tuple[int, ...]:
    """The groups of a user; may wait for a directory service, so it is asked on a thread."""
    try:
        return tuple(os.getgrouplist(login, gid))
    except OSError:
        return (gid, *(group.gr_gid for group in grp.getgrall() if login in group.gr_mem))


def look_up(uid: int) -> pwd.struct_passwd | None:
    """The entry of a user in the password file; None if there is none."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def is_trusted(settings: MainOptions, uid: int, groups: Iterable[int]) -> bool:
    """Tell whether a user may set any sender: root, the server's own, and those configured."""
    if uid in (0, os.geteuid()):
        return True
    users = {user.uid for user in settings.trusted_users or ()}
    trusted = {group.gid for group in settings.trusted_groups or ()} - {None}
    return uid in users or not trusted.isdisjoint(groups)


async def caller_of(parts: Parts, uid: int, gid: int, name: str | None) -> Caller | None:
    """Return who the kernel says is at the other end; None: no such user, and no name for them.

    ``name`` is the full name given with ``-F``.

    :raises TemporaryFailure: unknown_login or gecos_name cannot be expanded now.
    """
    settings = parts.settings
    entry = await parts.services.in_thread(look_up, uid)
    if entry is not None:
        login, full = _octets(entry.pw_name), _octets(entry.pw_gecos)
        more = await parts.services.in_thread(groups_of, entry.pw_name, entry.pw_gid)
        groups: tuple[int, ...] = (gid, *more)
        if name is None:
            full = await _full_name(parts, full, login)
    else:
        login, groups = "", (gid,)
        if settings.unknown_login is not None:
            scope = Scope(parts.services).within({"caller_uid": str(uid)})
            login = await settings.unknown_login.expand(scope)
        full = settings.unknown_username or ""
        if not login:
            return None
    trusted, named = is_trusted(settings, uid, groups), name is not None
    return Caller(uid, login, full if name is None else name, trusted, named, gid)


async def _full_name(parts: Parts, gecos: str, login: str) -> str:
    """The user's name in a gecos field (gecos_pattern, gecos_name); ``&`` is the login name."""
    settings = parts.settings
    if settings.gecos_pattern and settings.gecos_name is not None:
        found = compile_regex(settings.gecos_pattern).search(gecos)
        if found is None:
            return gecos
        numbers = (found[0], *(group or "" for group in found.groups()))
        return await settings.gecos_name.expand(Scope(parts.services).within({}, numbers))
    return gecos.partition(",")[0].replace("&", login[:1].upper() + login[1:])


def _octets(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def own_address(settings: MainOptions, caller: Caller) -> str:
    """The address of a local user."""
    return f"{caller.login}@{settings.qualify_domain}"


async def permitted(
    parts: Parts, connection: Connection, wanted: str | None, *, smtp: bool = False
) -> str:
    """Return the envelope's sender: what the caller wants, if they may, or their own address.

    ``wanted`` is "" for the null sender, which anybody may set with ``-f`` (but not
    with MAIL), None for no wish.

    :raises TemporaryFailure: untrusted_set_sender cannot be evaluated now.
    """
    caller, settings = connection.caller, parts.settings
    assert caller is not None, "asked for local users alone"
    if wanted is None or (smtp and not wanted and not caller.trusted):
        return own_address(settings, caller)
    if not wanted or caller.trusted:
        return wanted
    allowed = settings.untrusted_set_sender
    if allowed is not None:
        scope = parts.scope(connection)
        if await match_address(allowed, Tainted(wanted), scope) is not None:
            return wanted
    return own_address(settings, caller)
