"""Values that are always refused because a peer chose them (design, decision 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.variables import used
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.expansion.template import Template

PEERS = frozenset(
    (
        *("local_part", "domain", "sender_address", "sender_address_domain", "recipients"),
        *("sender_address_local_part", "sender_helo_name", "sender_host_name", "message_headers"),
        *("original_local_part", "original_domain", "authenticated_sender", "message_body"),
        *("auth1", "auth2", "auth3", "local_part_prefix", "local_part_suffix", "sender_ident"),
        *("parent_domain", "parent_local_part", "tls_in_sni", "tls_in_peerdn", "reply_address"),
    )
)
_FIRST = re.compile(r"\s*\$\{?([A-Za-z][A-Za-z0-9_]*)")
_QUERY = re.compile(r"\$\{lookup\s+(?:mysql|pgsql|sqlite|ldap|ldapm|ldapdn|redis)\b")
_QUOTED = re.compile(r"\$\{quote_\w+:[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_PATHS = {
    "appendfile": ("file", "directory"),
    "redirect": ("file", "include_directory"),
    "lmtp": ("socket", "command"),
    "pipe": ("command",),
    "queryprogram": ("command",),
    "autoreply": ("log", "once", "file"),
}
_MEND = "use $local_part_data or $domain_data, or a lookup's result"


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield paths and commands that begin with such a value, and unquoted queries."""
    for options in (*configuration.routers, *configuration.transports.values()):
        yield from _paths(options)
        for name, value in options.values.items():
            yield from _queries(value, name)
    for item in configuration.acls.items():
        yield from _queries(item.argument, item.name)
        if item.name == "acl":
            yield from _first(item.argument, "an ACL's name")
    for name, value in configuration.main.values.items():
        yield from _queries(value, name)
        if name.startswith("acl_") and isinstance(value, Template):
            yield from _first(value, "an ACL's name")


def _paths(options: OptionSet) -> Iterator[Finding]:
    for name in _PATHS.get(options.driver, ()):
        value = options.values.get(name)
        if isinstance(value, Template):
            what = "a command" if name == "command" else "a path"
            yield from _first(value, f"{what} ({name} of {options.kind} {options.name})")
            if name == "socket" and used(value.source) & PEERS and not _begins(value):
                yield Finding(value.where, f"{name} of {options.name} is refused as tainted", _MEND)


def _begins(value: Template) -> bool:
    found = _FIRST.match(value.source)
    return found is not None and (found[1] in PEERS or found[1].startswith(("h_", "header_")))


def _first(value: Template, what: str) -> Iterator[Finding]:
    if _begins(value):
        shown = sorted(used(value.source))[0]
        problem = f"{what} cannot begin with what a peer chose (${shown}): it is refused"
        yield Finding(value.where, problem, _MEND)


def _queries(value: object, name: str) -> Iterator[Finding]:
    if not isinstance(value, Template) or not _QUERY.search(value.source):
        return
    rest = _QUOTED.sub("", value.source)
    for found in _QUERY.finditer(rest):
        query = _braced(rest, found.end())
        bare = used(query) & PEERS
        if bare:
            kind = found[0].split()[-1]
            shown = ", ".join(f"${variable}" for variable in sorted(bare))
            yield Finding(
                value.where,
                f"{name}: {shown} stands in a {kind} query without being quoted: it is refused",
                f"${{quote_{kind}:{shown.split(',')[0]}}}",
            )


def _braced(text: str, start: int) -> str:
    """Return what stands in the braces that open after ``start``."""
    begin = text.find("{", start)
    depth = 0
    for at in range(max(begin, 0), len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin : at + 1]
    return text[max(begin, 0) :]
