"""What the privileged process may be asked for: only what the configuration names.

It is worked out from the configuration before root is dropped, so that whoever
takes over a serving process gains no user and no folder beyond it.
"""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from grp import getgrnam
from typing import Any

from mailsrv.config.options import OptionSet
from mailsrv.config.types import Group, User
from mailsrv.transport.users import named_transports

ROOT = 0
_SIMPLE_VARIABLE = re.compile(r"\$(?:\w+|\{\w+\})", re.ASCII)
_SIMPLE = re.compile(rf"(?:[^$\\{{}}]|{_SIMPLE_VARIABLE.pattern})*", re.ASCII)


class Refused(Exception):
    """The configuration does not provide for what was asked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one transport may do.

    ``users`` are the uids that the configuration names; None: it chooses an
    account for each delivery.  ``below`` is the beginning of its path that is
    fixed, ``end`` its end, "" if there is none; ``in_home``: the path begins
    with the home directory of the user; ``kind`` is what it does: ``file``
    (append to a mailbox), ``maildir``, ``command`` (run) or ``list`` (read
    redirections, a router).  ``groups`` are the gids that the configuration
    names beside those of the account; None: it chooses one for each delivery.
    """

    users: tuple[int, ...] | None
    below: str = ""
    in_home: bool = False
    kind: str = "file"
    end: str = ""
    groups: tuple[int, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules by transport, and the uids as which nothing is ever delivered."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    never: tuple[int, ...] = (ROOT,)

    def account(
        self, transport: str, user: str, path: str, *, kind: str = "file"
    ) -> pwd.struct_passwd:
        """Return the account of a delivery.  May block.

        :raises Refused: with the reason.
        """
        rule = self.rules.get(transport)
        if rule is None:
            raise Refused(f"{transport} transport delivers as no other user")
        if rule.kind != kind:
            raise Refused(f"{transport}: a {kind} was asked for, and it is a {rule.kind}")
        try:
            found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except (KeyError, ValueError, OverflowError):
            raise Refused(f"user {user!r} was not found") from None
        if found.pw_uid == ROOT or found.pw_uid in self.never:
            raise Refused(
                f"User {found.pw_uid} set for {transport} transport is on the never_users list"
            )
        if rule.users is not None and found.pw_uid not in rule.users:
            raise Refused(f"{transport} transport does not deliver as user {user}")
        base = f"{found.pw_dir.rstrip('/')}/" if rule.in_home else rule.below
        if (base and not _is_below(path, base)) or not os.path.normpath(path).endswith(rule.end):
            raise Refused(f"{transport} transport does not write to {path}")
        return found

    def group(self, transport: str, group: str, account: pwd.struct_passwd) -> int:
        """Return the gid of a delivery by ``account``; "" is its own.  May block.

        :raises Refused: with the reason.
        """
        if not group:
            return account.pw_gid
        try:
            gid = int(group) if group.isdecimal() else getgrnam(group).gr_gid
        except (KeyError, ValueError):
            raise Refused(f"group {group!r} was not found") from None
        allowed = self.rules[transport].groups
        own = os.getgrouplist(account.pw_name, account.pw_gid)
        if gid == 0 and account.pw_gid != 0:
            raise Refused("no delivery runs with root's group")
        if allowed is not None and gid not in {*own, *allowed}:
            raise Refused(f"{transport} transport does not deliver with group {group}")
        return gid

    def packed(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def unpacked(cls, text: str) -> Policy:
        """Return what :meth:`packed` made a text of."""
        values = json.loads(text)
        rules = {
            name: Rule(
                None if rule["users"] is None else tuple(rule["users"]),
                rule["below"],
                rule["in_home"],
                rule["kind"],
                rule["end"],
                None if rule["groups"] is None else tuple(rule["groups"]),
            )
            for name, rule in values["rules"].items()
        }
        return cls(rules, tuple(values["never"]))


def _is_below(path: str, base: str) -> bool:
    """Tell whether a path without ``..`` begins with ``base``, which may end inside a component."""
    if not path.startswith("/") or ".." in path.split("/"):
        return False
    return f"{os.path.normpath(path)}/".startswith(base)


def policy_for(
    routers: Iterable[OptionSet],
    transports: Mapping[str, OptionSet],
    never: Iterable[int],
    own: int | None,
) -> Policy | None:
    """Return the policy of a configuration; None if it delivers as uid ``own`` alone."""
    rules = {}
    choosing = list(routers)
    free = {name for router in choosing for name in named_transports(router, places=True)}
    for name, transport in transports.items():
        if not getattr(transport, "needs_user", False):
            continue
        users = _users(name, transport, choosing)
        if users is not None and not set(users) - {own}:
            continue
        kind = "maildir" if transport.values.get("maildir_format") else "file"
        if transport.driver == "pipe":
            kind = "command"
        groups = _groups([transport, *choosing])
        if name in free:
            rules[name] = Rule(users, kind=kind, groups=groups)
        elif kind == "command":
            rules[name] = Rule(users, _program(transport), kind=kind, groups=groups)
        else:
            source = _place(transport)
            below, in_home = _beginning(source, transport)
            rules[name] = Rule(users, below, in_home, kind, _end(source), groups)
    for router in choosing:
        users = _reads_as(router)
        if users is None or set(users) - {own}:
            rules |= _list_rules(router, users)
    return Policy(rules, tuple(sorted({ROOT, *never}))) if rules else None


def _users(name: str, transport: OptionSet, routers: list[OptionSet]) -> tuple[int, ...] | None:
    """Return the uids that a transport may be run as; None: any that routing finds."""
    own: Any = transport.values.get("user")
    if own is not None:
        return (own.uid,) if isinstance(own, User) and own.uid is not None else None
    uids = set()
    for router in routers:
        chosen = named_transports(router)
        if name not in chosen and not any("$" in source for source in chosen):
            continue
        user: Any = router.values.get("user")
        if isinstance(user, User) and user.uid is not None:
            uids.add(user.uid)
        elif user is not None or router.values.get("check_local_user"):
            return None
    return tuple(sorted(uids))


def _groups(drivers: Iterable[OptionSet]) -> tuple[int, ...] | None:
    """Return the gids that drivers name; None: one is expanded for each delivery."""
    named = [driver.values.get("group") for driver in drivers]
    gids = [each.gid if isinstance(each, Group) else None for each in named if each is not None]
    known = tuple(sorted({gid for gid in gids if gid is not None}))
    return known if len(known) == len(set(gids)) else None


def list_rule(router: str, *, included: bool = False) -> str:
    """Return the name of the rule for the lists of a router: no transport's has a blank in it.

    ``included``: those that ``:include:`` names.
    """
    return f"router {router}{' include' if included else ''}"


def _list_rules(router: OptionSet, users: tuple[int, ...] | None) -> dict[str, Rule]:
    """Return what a router may read: its own file, and what that may include."""
    source = getattr(router.values.get("file"), "source", "")
    own = Rule(users, _fixed(source), False, "list", _end(source))
    rules = {list_rule(router.name): own}
    if not router.values.get("forbid_include"):
        folder: Any = router.values.get("include_directory")
        below = f"{os.path.normpath(folder)}/" if folder else ""
        rules[list_rule(router.name, included=True)] = Rule(users, below, kind="list")
    return rules


def _reads_as(router: OptionSet) -> tuple[int, ...] | None:
    """Return the uids as which a router reads redirections; None: any; (): it reads none."""
    if router.driver != "redirect" or router.values.get("file") is None:
        return ()
    user: Any = router.values.get("user")
    if isinstance(user, User) and user.uid is not None:
        return (user.uid,)
    return None if user is not None or router.values.get("check_local_user") else ()


def _program(transport: OptionSet) -> str:
    """Return the program that a pipe transport runs; "" if that is not fixed."""
    source = getattr(transport.values.get("command"), "source", "") or ""
    words = source.split()
    if transport.values.get("use_shell") or not words or not words[0].startswith("/"):
        return ""
    return "" if set(words[0]) & set("$\\\"'") else f"{os.path.normpath(words[0])}/"


def _place(transport: OptionSet) -> str:
    """Return the path of a transport, as it stands in the file."""
    option: Any = transport.values.get("file") or transport.values.get("directory")
    return getattr(option, "source", "") or ""


def _beginning(source: str, transport: OptionSet) -> tuple[str, bool]:
    """Return the fixed beginning of a path, and whether it is the user's home."""
    if source.startswith(("$home/", "${home}/")) and not transport.values.get("home_directory"):
        return "", True
    return _fixed(source), False


def _fixed(source: str) -> str:
    """Return the fixed beginning of an absolute path."""
    fixed = source.partition("$")[0].partition("\\")[0]
    return fixed if fixed.startswith("/") else ""


def _end(source: str) -> str:
    """Return the fixed end of a path that has variables in it, and nothing else to expand."""
    if not _SIMPLE.fullmatch(source):
        return ""
    end = _SIMPLE_VARIABLE.split(source)[-1].rstrip("/")
    return end if os.path.normpath(f"/x{end}") == f"/x{end}" else ""
