"""The preconditions of a router, in the order of specification 3.12."""

from __future__ import annotations

import os
import stat as stat_module

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import match_address, match_domain, match_local_part, split_list
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.template import compile_string
from mailsrv.mail import address as names
from mailsrv.mail.case import lower
from mailsrv.mail.routed import RoutedAddress
from mailsrv.mail.taint import like
from mailsrv.routing.router import Context, Router

_FALSE = ("", "0", "no", "false")


async def met(router: Router, address: RoutedAddress, context: Context) -> RoutedAddress | None:
    """Return the address as the router sees it, or None if the router is to be skipped.

    :raises TemporaryFailure: a precondition cannot be decided.
    """
    if router.has_made(address):
        return None
    seen = without_affixes(router, address)
    if seen is None or not router.used_for(context.verify, context.asked):
        return None
    for option, check in _CHECKS:
        if getattr(router, option) in (None, False):
            continue
        if not await check(router, seen, context):
            return None
    return seen


# --- affixes -------------------------------------------------------------------


def without_affixes(router: Router, address: RoutedAddress) -> RoutedAddress | None:
    """Return a copy for the router: its case, its affixes taken off; None if one is missing."""
    full = names.unquoted(names.split(address.address)[0])
    if not router.caseful_local_part:
        full = like(lower(full), full)
    prefix, prefix_v = _prefix(full, router.local_part_prefix or "")
    if not prefix and router.local_part_prefix and not router.local_part_prefix_optional:
        return None
    rest = full[len(prefix) :]
    backwards = _prefix(rest[::-1], (router.local_part_suffix or "")[::-1], reverse=True)
    suffix, suffix_v = (each[::-1] for each in backwards)
    if not suffix and router.local_part_suffix and not router.local_part_suffix_optional:
        return None
    local_part = rest[: len(rest) - len(suffix)]
    seen = address.copy()
    seen.local_part = like(local_part, full)
    seen.prefix = like(prefix, full)
    seen.suffix = like(suffix, full)
    seen.prefix_v = like(prefix_v, full)
    seen.suffix_v = like(suffix_v, full)
    return seen


def _prefix(text: str, choices: str, *, reverse: bool = False) -> tuple[str, str]:
    """Return the first of the listed prefixes that ``text`` has, and what an asterisk stands for.

    ``*x`` takes all up to the last x.  The affixes are compared without regard to case.
    """
    items = split_list(choices[::-1] if reverse else choices) if choices else []
    for item in items:
        wanted = lower(item[::-1] if reverse else item)
        if wanted.startswith("*"):
            at = lower(text).rfind(wanted[1:])
            if at >= 0:
                return text[: at + len(wanted) - 1], text[:at]
        elif wanted and lower(text).startswith(wanted):
            return text[: len(wanted)], ""
    return "", ""


# --- the others ----------------------------------------------------------------


async def _domains(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.domains is not None, "it is asked for"
    found = await match_domain(router.domains, address.domain, context.scope(address, router.name))
    if found is not None:
        address.domain_data = found.data
    return found is not None


async def _local_parts(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.local_parts is not None, "it is asked for"
    scope = context.scope(address, router.name)
    found = await match_local_part(
        router.local_parts, address.local_part, scope, caseful=router.caseful_local_part
    )
    if found is not None:
        address.local_part_data = found.data
    return found is not None


async def _local_user(router: Router, address: RoutedAddress, context: Context) -> bool:
    account = await context.facilities.accounts.find(str(address.local_part))
    if account is None:
        return False
    address.local_part_data = account.name
    address.home = account.home
    address.user = account.name
    context.values["local_user_uid"] = str(account.uid)
    context.values["local_user_gid"] = str(account.gid)
    return True


async def _home(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.router_home_directory is not None, "it is asked for"
    try:
        address.home = await router.router_home_directory.expand(
            context.scope(address, router.name)
        )
    except ForcedFailure:
        pass
    return True


async def _senders(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.senders is not None, "it is asked for"
    scope = context.scope(address, router.name)
    return await match_address(router.senders, context.sender, scope) is not None


async def _condition(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.condition is not None, "it is asked for"
    try:
        text = await router.condition.expand(context.scope(address, router.name))
    except ForcedFailure:
        return False
    return text.lower() not in _FALSE


async def _files(router: Router, address: RoutedAddress, context: Context) -> bool:
    assert router.require_files is not None, "it is asked for"
    scope = context.scope(address, router.name)
    as_user = ""
    for item in split_list(router.require_files.source):
        try:
            value = await compile_string(item).expand(scope)
        except ForcedFailure:
            continue
        text = value.strip(" \t\n")
        if text and "/" not in text:
            as_user = text
            user = text.partition(",")[0].strip(" \t")
            if not user.isdecimal() and await context.facilities.accounts.find(user) is None:
                raise TemporaryFailure(reason=f'user "{user}" for require_files not found')
        elif text:
            as_path(value, "require_files")
            if not await context.facilities.threads.run(_file_is_so, text, as_user, router):
                return False
    return True


def _file_is_so(item: str, as_user: str, router: Router) -> bool:
    """Tell whether ``[+][!]path`` holds.  Blocks.

    With a user before it, who may see what we may not, a router that reads a
    file as that user is let find out itself.

    :raises TemporaryFailure: it cannot be known.
    """
    path = item.lstrip("+! \t")
    marks = item[: len(item) - len(path)]
    if not path.startswith("/"):
        raise TemporaryFailure(reason=f"require_files: {path!r} is not an absolute path")
    try:
        exists = stat_module.S_IFMT(os.stat(path.encode("latin-1")).st_mode) != 0
    except (FileNotFoundError, NotADirectoryError):
        exists = False
    except (OSError, ValueError) as error:
        denied = isinstance(error, PermissionError)
        if denied and as_user and "!" not in marks and router.values.get("file") is not None:
            return True
        if denied and as_user:
            raise TemporaryFailure(
                reason=f"require_files: checking {path} for a user ({as_user}) is not available"
            ) from error
        if not ("+" in marks and denied):
            raise TemporaryFailure(reason=f"require_files: {path}: {error}") from error
        exists = False
    return exists != ("!" in marks)


# In the order of 3.12: the option that asks for a check, and the check.
_CHECKS = (
    ("domains", _domains),
    ("local_parts", _local_parts),
    ("check_local_user", _local_user),
    ("router_home_directory", _home),
    ("senders", _senders),
    ("require_files", _files),
    ("condition", _condition),
)
