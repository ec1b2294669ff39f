"""Variables that are never set where a string uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailsrv.acl.model import MESSAGE_PHASES, PHASE_NAMES, WHOLE_PHASES
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.usage import phases
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.expansion.template import Template
from mailsrv.interfaces import AclPhase

_LITERAL = re.compile(r"\\N.*?(?:\\N|\Z)|\\.", re.DOTALL)
_USED = re.compile(r"\$\{?([A-Za-z][A-Za-z0-9_]*)|def:([A-Za-z][A-Za-z0-9_]*)")

_ADDRESS = frozenset({AclPhase.RCPT, AclPhase.VRFY})
_NEVER: frozenset[AclPhase] = frozenset()
_EARLY = frozenset({AclPhase.CONNECT})
_CONNECTED = frozenset(AclPhase) - _EARLY
# The phases in which a variable can have a value; those that are not here can have one anywhere.
_SET_IN: dict[str, frozenset[AclPhase]] = {
    **dict.fromkeys(
        ("local_part", "domain", "local_part_data", "domain_data", "original_local_part"), _ADDRESS
    ),
    **dict.fromkeys(("auth1", "auth2", "auth3", "auth4"), _NEVER),
    **dict.fromkeys(("host", "host_port", "address_file", "address_pipe"), _ADDRESS),
    **dict.fromkeys(
        ("message_body", "message_body_end", "message_headers", "recipients", "message_linecount"),
        WHOLE_PHASES,
    ),
    **dict.fromkeys(
        ("sender_address", "sender_address_domain", "sender_address_local_part"),
        MESSAGE_PHASES | {AclPhase.MAILAUTH, AclPhase.NOTQUIT, AclPhase.QUIT},
    ),
    **dict.fromkeys(("sender_helo_name", "authenticated_id"), _CONNECTED),
}
_HEADERS = ("h_", "rh_", "bh_", "lh_", "header_", "rheader_", "bheader_", "lheader_")
# Options of drivers that see no address, and main options that are expanded for no message.
_AT_CONNECTION = ("smtp_banner", "smtp_active_hostname", "message_size_limit", "tls_certificate",
                  "tls_privatekey", "tls_require_ciphers", "smtp_accept_max_per_host",
                  "smtp_accept_max_per_connection", "smtp_receive_timeout")  # fmt: skip


def used(source: str) -> set[str]:
    """Return the names of the variables that a string uses."""
    text = _LITERAL.sub("", source)
    return {first or second for first, second in _USED.findall(text)}


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield uses in ACLs, and in main options that are expanded as a client connects."""
    where_used = phases(configuration)
    for name, acl in configuration.acls.acls.items():
        in_phases = where_used[name]
        if not in_phases:
            continue
        for statement in acl.statements:
            for clause in statement.clauses:
                yield from _unset(clause.item.argument, in_phases)
    main = configuration.main
    for option in _AT_CONNECTION:
        value = main.values.get(option)
        if isinstance(value, Template):
            yield from _unset(value, {AclPhase.CONNECT}, option)
    yield from _auth_outside(configuration)


def _unset(template: Template, in_phases: set[AclPhase], option: str = "") -> Iterator[Finding]:
    for variable in sorted(used(template.source)):
        header = variable.startswith(_HEADERS)
        allowed = WHOLE_PHASES if header else _SET_IN.get(variable)
        if allowed is None or in_phases & allowed:
            continue
        place = option or " and ".join(sorted(PHASE_NAMES[phase] for phase in in_phases)) + " ACL"
        yield Finding(
            template.where,
            f"${variable} is never set in the {place}: it is always empty",
            "use it where it is known (specification 11.9)",
        )


def _auth_outside(configuration: Configuration) -> Iterator[Finding]:
    """``$auth1`` and its kin belong to authenticators."""
    sets: list[OptionSet] = [*configuration.routers, *configuration.transports.values()]
    for options in sets:
        for value in options.values.values():
            if not isinstance(value, Template):
                continue
            for variable in sorted(used(value.source) & {"auth1", "auth2", "auth3"}):
                yield Finding(
                    value.where,
                    f"${variable} is never set in a {options.kind}: it is always empty",
                    "server_set_id keeps a login as $authenticated_id",
                )
