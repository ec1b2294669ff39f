"""Values that are always refused because a peer chose them (design, decision 3).

Each string is tried with such values, in a world where lookups find nothing and in
one where they find something; queries are read, too, whatever branch they are in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from mailsrv.acl.model import PHASE_NAMES
from mailsrv.commands.checks.braces import argument
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.outside import Outside
from mailsrv.commands.checks.usage import phases
from mailsrv.commands.checks.variables import used
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.config.references import LIST_CONDITIONS, LIST_TYPES
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.lists import match_address, match_domain, match_host, match_local_part
from mailsrv.expansion.paths import as_path
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.expansion.tree import drive
from mailsrv.interfaces import AclPhase
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Transaction
from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.transport.commandline import ADDRESSES, PIPE, split

PEERS = frozenset(
    (
        *("local_part", "domain", "sender_address", "sender_address_domain", "recipients"),
        *("sender_address_local_part", "sender_helo_name", "sender_host_name", "message_headers"),
        *("original_local_part", "original_domain", "authenticated_sender", "message_body"),
        *("auth1", "auth2", "auth3", "local_part_prefix", "local_part_suffix", "sender_ident"),
        *("local_part_prefix_v", "local_part_suffix_v"),
        *("parent_domain", "parent_local_part", "tls_in_sni", "tls_in_peerdn", "reply_address"),
    )
)
_LOGIN = ("auth1", "auth2", "auth3")
_HEADER = ("h_", "rh_", "bh_", "lh_", "header_", "rheader_", "bheader_", "lheader_")
_FIELD = re.compile(r"[$:]\{?[rbl]?h(?:eader)?_([!-9;-z|~]+)")
_COMMANDS = ("pipe", "lmtp", "queryprogram")
_QUERY = re.compile(r"\$\{lookup\s+(?:mysql|pgsql|sqlite|ldap|ldapm|ldapdn|redis)\b")
_QUOTED = re.compile(r"(?:\$\{quote_\w+|pass=\$\{quote):[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_PATHS = {
    "appendfile": ("file", "directory"),
    "redirect": ("file", "include_directory"),
    "lmtp": ("socket",),
    "autoreply": ("log", "once", "file"),
}
_KEYS = ("tls_certificate", "tls_privatekey", "tls_verify_certificates", "tls_dhparam", "tls_crl")
_NO_REGEX = "regular expression error"
_PLACES = {"|": "the pipe", "/": "the file", ":include:": "the included file"}
_MEND = "use $local_part_data or $domain_data, or a lookup's result"


class _Found:
    """Provides ``ILookup``: whatever is asked for is there."""

    async def find(self, file: str, key: str, options: str = "") -> str | None:
        """Find."""
        return "found"


async def _call(name: str, arguments: tuple[str, ...], scope: Scope) -> object:
    """Run no ACL, but look at its name.

    :raises TemporaryFailure: it is a peer's.
    :raises TypeError: it is not.
    """
    if is_tainted(name):
        raise TemporaryFailure(reason=f"tainted name of an ACL: '{name}'")
    raise TypeError("no ACL runs for a check")


async def _refuse(*what: object) -> object:
    """Run nothing, and read no file.

    :raises TypeError: always.
    """
    raise TypeError("nothing is done for a check")


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield what is refused in drivers, ACLs and the names of ACLs."""
    in_delivery = _scopes(configuration, AclPhase.RCPT)
    for options in (*configuration.routers, *configuration.transports.values()):
        yield from _paths(options, in_delivery)
        yield from _command(options, "transport_filter", in_delivery)
        if options.driver in _COMMANDS:
            yield from _command(options, "command", in_delivery)
        if options.driver == "redirect":
            yield from _redirection(options, in_delivery)
        for name, value in options.values.items():
            if isinstance(value, Template):
                yield from _tried(value, name, in_delivery)
                kind = LIST_TYPES.get(id(type(options).options()[name].type))
                yield from _matched(kind, value, name, in_delivery)
    at_login = tuple(
        scope.within(dict.fromkeys(_LOGIN, Tainted("peer")))
        for scope in _scopes(configuration, AclPhase.AUTH)
    )
    for each in configuration.authenticators:
        for name, value in each.values.items():
            if isinstance(value, Template) and name.startswith("server_"):
                yield from _tried(value, name, at_login)
    for acl_name, in_phases in phases(configuration).items():
        for phase in sorted(in_phases, key=PHASE_NAMES.__getitem__)[:1]:
            scopes = _scopes(configuration, phase)
            for statement in configuration.acls.acls[acl_name].statements:
                for clause in statement.clauses:
                    item = clause.item
                    yield from _tried(item.argument, item.name, scopes)
                    kind = LIST_CONDITIONS.get(item.name)
                    yield from _matched(kind, item.argument, item.name, scopes)
                    name = item.argument.source.split()[:1]
                    if item.name == "acl" and not (name and name[0] in configuration.acls.acls):
                        yield from _acl_name(item.argument, scopes)
    for phase in AclPhase:
        option = getattr(configuration.main, phase.option, None)
        if isinstance(option, Template):
            yield from _acl_name(option, _scopes(configuration, phase))
    greeted = _scopes(configuration, AclPhase.HELO)
    for name, value in configuration.main.values.items():
        yield from _queries(value, name)
        if name in _KEYS and isinstance(value, Template):
            yield from _path(value, name, f"a path ({name})", greeted)


def _scopes(configuration: Configuration, phase: AclPhase) -> tuple[Scope, Scope]:
    """Return what strings see where lookups find nothing, and where they find something."""
    scope = Outside(configuration, phase=phase).scope()
    _fill(scope, configuration)
    services = replace(scope.services, threads=_refuse, acl=_call)
    full = replace(services, lookup=lambda name: _Found())
    return replace(scope, services=services), replace(scope, services=full)


def _fill(scope: Scope, configuration: Configuration) -> None:
    """Give the peer's message the header fields that the configuration asks for, and the rest."""
    if scope.origin is not None:
        scope.origin.tls_sni = scope.origin.ident = scope.origin.tls_peer_dn = Tainted("peer")
    if isinstance(scope.message, Transaction):
        names = {name for line in configuration.lines for name in _FIELD.findall(line.text)}
        scope.message.headers = [Header(f"{name}: peer") for name in sorted(names)]
        scope.message.body = InlineBody(b"peer\r\n")


def _expanded(template: Template, scopes: tuple[Scope, ...]) -> Iterator[str]:
    """Yield what a string can come to.

    :raises TemporaryFailure: it is refused, and says so.
    """
    if template.constant is not None or template.error is not None:
        return
    for scope in scopes:
        try:
            yield drive(template.expand(scope))
        except TypeError:
            continue
        except TemporaryFailure as failure:
            if "tainted" in failure.reason or failure.reason.startswith(_NO_REGEX):
                raise


def _tried(template: Template, name: str, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    queries = list(_queries(template, name))
    yield from queries
    try:
        list(_expanded(template, scopes))
    except TemporaryFailure as failure:
        if failure.reason.startswith(_NO_REGEX):
            yield Finding(template.where, f"{name}: {failure.reason}", "mend the expression")
        elif not queries:
            yield Finding(template.where, f"{name}: {failure.reason}: it is refused", _MEND)


def _matched(
    kind: str | None, template: Template, name: str, scopes: tuple[Scope, ...]
) -> Iterator[Finding]:
    """A list that is expanded may have a lookup in it whose file a peer names."""
    if kind is None or template.constant is not None or ";" not in template.source:
        return
    for scope in scopes:
        try:
            _match(kind, template, scope)
        except TypeError:
            continue
        except TemporaryFailure as failure:
            if "tainted" in failure.reason:
                yield Finding(template.where, f"{name}: {failure.reason}: it is refused", _MEND)
                return


def _match(kind: str, template: Template, scope: Scope) -> None:
    """Look for the peer, or for its recipient, in a list.

    :raises TemporaryFailure: it cannot be told.
    :raises TypeError: it would have to wait.
    """
    address = scope.address.address if scope.address is not None else "peer@peer.example"
    if kind == "host":
        assert scope.origin is not None
        drive(match_host(template, scope.origin, scope))
    elif kind == "domain":
        drive(match_domain(template, address.rpartition("@")[2], scope))
    elif kind == "address":
        drive(match_address(template, address, scope))
    else:
        drive(match_local_part(template, address.rpartition("@")[0], scope))


def _acl_name(template: Template, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    try:
        refused = any(is_tainted(text) for text in _expanded(template, scopes))
    except TemporaryFailure:
        return  # told of by _tried
    if refused:
        yield from _refused(template, "the name or text of an ACL cannot hold")


def _refused(template: Template, what: str) -> Iterator[Finding]:
    peers = sorted(
        name for name in used(template.source) if name in PEERS or name.startswith(_HEADER)
    )
    shown = f" (${peers[0]})" if peers else ""
    yield Finding(template.where, f"{what} what a peer chose{shown}: it is refused", _MEND)


def _paths(options: OptionSet, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    for name in _PATHS.get(options.driver, ()):
        value = options.values.get(name)
        if not isinstance(value, Template):
            continue
        if name == "socket" and used(value.source) & PEERS:
            yield Finding(value.where, f"{name} of {options.name} is refused as tainted", _MEND)
            continue
        what = f"a path ({name} of {options.kind} {options.name})"
        yield from _path(value, name, what, scopes)


def _path(value: Template, name: str, what: str, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    try:
        for text in _expanded(value, scopes):
            as_path(text, name)
            if is_tainted(text) and not text.startswith("/"):
                yield from _refused(value, f"{what} cannot begin with")
                return
    except TemporaryFailure as failure:
        if "file name" in failure.reason:
            yield from _refused(value, f"{what} cannot begin with, or be made of,")


def _redirection(router: OptionSet, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    """A pipe, a file or an included file that a redirection names may not be a peer's."""
    data = router.values.get("data")
    if not isinstance(data, Template):
        return
    try:
        texts = list(_expanded(data, scopes))
    except TemporaryFailure:
        return  # told of by _tried
    for start, what in _PLACES.items():
        if any(is_tainted(text) and text.lstrip(' "').startswith(start) for text in texts):
            yield from _refused(data, f"{what} of router {router.name} cannot hold")


def _command(options: OptionSet, name: str, scopes: tuple[Scope, ...]) -> Iterator[Finding]:
    """The arguments of a command are expanded one by one, and none may be a peer's."""
    value = options.values.get(name)
    if not isinstance(value, Template):
        return
    whole = bool(options.values.get("use_shell"))
    for word in [value.source] if whole else split(value.source):
        if word == ADDRESSES or word in PIPE:
            continue
        template = compile_string(word, value.where)
        try:
            if any(is_tainted(text) for text in _expanded(template, scopes)):
                what = f"the {name} of {options.kind} {options.name} cannot hold"
                yield from _refused(template, what)
                return
        except TemporaryFailure:
            return


def _queries(value: object, name: str) -> Iterator[Finding]:
    if not isinstance(value, Template) or not _QUERY.search(value.source):
        return
    rest = _QUOTED.sub("", value.source)
    for found in _QUERY.finditer(rest):
        query = argument(rest, found.end())
        bare = used(query) & PEERS
        if bare:
            kind = found[0].split()[-1]
            shown = ", ".join(f"${variable}" for variable in sorted(bare))
            yield Finding(
                value.where,
                f"{name}: {shown} stands in a {kind} query without being quoted: it is refused",
                f"${{quote_{kind}:{shown.split(',')[0]}}}",
            )
