"""Variables that are never set where a string uses them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from mailsrv.acl.model import (
    LOCAL_PHASES,
    MESSAGE_PHASES,
    PHASE_NAMES,
    SMTP_PHASES,
    WHOLE_PHASES,
    Acl,
)
from mailsrv.acl.modifiers import SetVariable
from mailsrv.commands.checks.finding import Finding
from mailsrv.commands.checks.usage import phases, roots
from mailsrv.config.model import Configuration
from mailsrv.config.options import OptionSet
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import AclPhase

Place = AclPhase | str  # an ACL's phase, or what else has strings
_ROUTER, _TRANSPORT, _LOGIN = "a router", "a transport", "an authenticator"
_RETRY, _REWRITING = "a retry rule", "a rewriting rule"
_ACLS: frozenset[Place] = frozenset(AclPhase)
_DELIVERY: frozenset[Place] = frozenset({_ROUTER, _TRANSPORT})
_SMTP: frozenset[Place] = frozenset(SMTP_PHASES)
_AFTER_CONNECT: frozenset[Place] = _SMTP - {AclPhase.CONNECT}
_RECIPIENT: frozenset[Place] = frozenset({AclPhase.RCPT, AclPhase.VRFY})
_WHOLE: frozenset[Place] = WHOLE_PHASES | _DELIVERY | {_REWRITING}
_ENVELOPE: frozenset[Place] = (
    MESSAGE_PHASES
    | _DELIVERY
    | {AclPhase.MAILAUTH, AclPhase.NOTQUIT, AclPhase.QUIT, AclPhase.VRFY, _REWRITING}
)
_NAMED = {
    "local_part domain": _RECIPIENT | _DELIVERY | {_REWRITING},
    "local_part_data domain_data original_local_part original_domain"
    " parent_domain parent_local_part local_part_prefix local_part_suffix"
    " local_part_prefix_v local_part_suffix_v":
        _RECIPIENT | _DELIVERY,
    "auth1 auth2 auth3 auth4": frozenset({_LOGIN}),
    "router_name home local_user_uid local_user_gid": _DELIVERY,
    "host host_port address_file address_pipe": _RECIPIENT | {_TRANSPORT},
    "transport_name tls_out_cipher tls_out_ver tls_out_peerdn tls_out_sni":
        frozenset({_TRANSPORT}),
    "message_body message_body_end message_headers message_headers_raw message_linecount"
    " message_body_size body_linecount body_zerocount reply_address received_count"
    " max_received_linelength":
        _WHOLE,
    "message_id message_exim_id":
        _WHOLE | {AclPhase.QUIT, AclPhase.NOTQUIT, AclPhase.NOT_SMTP_START},
    "recipients recipients_list": WHOLE_PHASES | {AclPhase.PREDATA, AclPhase.NOT_SMTP_START},
    "sender_address sender_address_domain sender_address_local_part return_path": _ENVELOPE,
    "rcpt_count rcpt_defer_count rcpt_fail_count recipients_count message_size":
        _ENVELOPE,
    "sender_helo_name authenticated_id sender_host_authenticated authenticated_sender":
        _AFTER_CONNECT | LOCAL_PHASES | _DELIVERY | {_LOGIN, _REWRITING},
    "sender_host_address sender_host_name sender_host_port sender_fullhost sender_rcvhost"
    " interface_address interface_port received_ip_address received_port":
        _ACLS | _DELIVERY | {_LOGIN, _REWRITING},
    "tls_in_cipher tls_in_cipher_std tls_in_ver tls_in_bits tls_in_sni tls_in_peerdn"
    " tls_in_peercert tls_in_certificate_verified tls_cipher tls_bits tls_sni tls_peerdn"
    " tls_certificate_verified":
        _AFTER_CONNECT - {AclPhase.STARTTLS} | _DELIVERY | {_LOGIN, _REWRITING},
    "dnslist_domain dnslist_matched dnslist_text dnslist_value sender_rate sender_rate_limit"
    " sender_rate_period acl_verify_message sender_verify_failure recipient_verify_failure"
    " acl_arg1 acl_arg2 acl_arg3 acl_arg4 acl_arg5 acl_arg6 acl_arg7 acl_arg8 acl_arg9 acl_narg":
        _ACLS,
    "smtp_command smtp_command_argument": _SMTP,
    "smtp_notquit_reason": frozenset({AclPhase.NOTQUIT}),
}  # fmt: skip
_SET_IN: dict[str, frozenset[Place]] = {
    name: places for names, places in _NAMED.items() for name in names.split()
}
# What scanners and verifiers of content would set.
_CONTENT = re.compile(r"(?:spam|malware|mime|dkim|dmarc|spf|regex)(?:_\w+|[0-9])\Z")
# What sets these within a string.
_GIVERS = {
    "item": re.compile(r"\b(?:forany|forall|filter|map|reduce|sort)(?:_json|_jsons)?[ \t]*\{"),
    "value": re.compile(
        r"\$\{(?:lookup|extract|listextract|reduce|certextract|run|env|acl|readsocket)\b"
        r"|\bacl[ \t]*\{\{"
    ),
}
# What sets these for strings that come after it; the word is somewhere, if it is used.
_NEEDS = {
    "dnslist_": re.compile(r"\bdnslists\b"),
    "sender_rate": re.compile(r"\bratelimit\b"),
    "acl_verify_message": re.compile(r"\bverify\b"),
    "prvscheck_": re.compile(r"\{prvscheck\b"),
    "srs_recipient": re.compile(r"\binbound_srs\b"),
    "runrc": re.compile(r"\{run\b"),
}
_ACL_VARIABLE = re.compile(r"acl_[cm]\w+\Z")
_ACL_CALL = re.compile(r"\$\{acl[ \t]*\{(\w+)\}[ \t]*\{|\bacl[ \t]*\{\{[ \t]*(\w+)[ \t]*\}[ \t]*\{")
_TLS_IN = re.compile(r"tls_(?!out_)\w+\Z")

_LITERAL = re.compile(r"\\N.*?(?:\\N|\Z)|\\.", re.DOTALL)
_USED = re.compile(
    r"\$([A-Za-z]\w*)|\$\{([A-Za-z]\w*)\}|\$\{([rbl]?h(?:eader)?_\w+)|\bdef:([A-Za-z]\w*)", re.ASCII
)
_ARGUMENTS = frozenset({*(f"acl_arg{number}" for number in range(1, 10)), "acl_narg"})
_HEADERS = ("h_", "rh_", "bh_", "lh_", "header_", "rheader_", "bheader_", "lheader_")
# Main options that are expanded for a connection, and the phase by which they are.
_AT_CONNECTION = ("smtp_banner", "smtp_active_hostname", "host_lookup", "host_reject_connection",
                  "smtp_accept_max_per_host", "smtp_accept_max_per_connection")  # fmt: skip
_AT_GREETING = ("message_size_limit", "auth_advertise_hosts", "chunking_advertise_hosts",
                "dsn_advertise_hosts", "pipelining_advertise_hosts", "tls_advertise_hosts",
                "smtputf8_advertise_hosts", "helo_verify_hosts",
                "helo_try_verify_hosts", "helo_accept_junk_hosts", "tls_certificate",
                "tls_privatekey", "tls_require_ciphers", "tls_verify_certificates",
                "tls_verify_hosts", "tls_try_verify_hosts")  # fmt: skip


def used(source: str) -> set[str]:
    """Return the names of the variables that a string uses."""
    text = _LITERAL.sub("", source)
    return {"".join(names) for names in _USED.findall(text)}


def find(configuration: Configuration) -> Iterator[Finding]:
    """Yield uses in ACLs, drivers, rules, and main options that are expanded for a connection."""
    known = dict(_SET_IN)
    for name in filter(_TLS_IN.match, _SET_IN):
        if _without_tls(configuration):
            known[name] = frozenset()
        elif configuration.main.tls_on_connect_ports:
            known[name] |= {AclPhase.CONNECT}
    missing = tuple(
        start
        for start, cause in _NEEDS.items()
        if not any(cause.search(line.text) for line in configuration.lines)
    )
    for template, places, place in _strings(configuration):
        for variable in sorted(used(template.source)):
            mend = "use it where it is known (specification 11.9)"
            allowed = _WHOLE if variable.startswith(_HEADERS) else known.get(variable)
            if _CONTENT.match(variable):
                why, mend = " (nothing looks into messages)", "a scanner behind mailsrv can tell"
            elif allowed is not None and not any(each in allowed for each in places):
                why = "" if allowed else " (there is no TLS)"
            elif variable.startswith(missing) or _lacks_giver(variable, template.source):
                why = " (nothing that sets it is here)"
            else:
                continue
            problem = f"${variable} is never set in {place}{why}: it is always empty"
            yield Finding(template.where, problem, mend)
    yield from _acl_variables(configuration)
    yield from _arguments(configuration)


def _lacks_giver(variable: str, source: str) -> bool:
    return variable in _GIVERS and not _GIVERS[variable].search(source)


def _acl_variables(configuration: Configuration) -> Iterator[Finding]:
    """What no ACL sets; files of ACLs that are named at run time may set anything."""
    acls = [*configuration.acls.acls.values(), *(acl for _, acl in roots(configuration))]
    items = [clause.item for acl in acls for each in acl.statements for clause in each.clauses]
    options = (getattr(configuration.main, phase.option, None) for phase in AclPhase)
    callers = [item.argument for item in items if item.name == "acl"]
    if any("/" in each.source for each in (*callers, *options) if isinstance(each, Template)):
        return
    known = {f"acl_{item.variable}" for item in items if isinstance(item, SetVariable)}
    for template, _, _ in _strings(configuration):
        for variable in sorted(used(template.source) - known):
            if _ACL_VARIABLE.match(variable):
                problem = f"${variable} is never set: it is always empty"
                yield Finding(template.where, problem, f"set {variable} = ... in an ACL before it")


def _arguments(configuration: Configuration) -> Iterator[Finding]:
    """What is given to an ACL that nothing calls with arguments."""
    called: set[str] = set()
    for item in configuration.acls.items():
        source = item.argument.source
        called.update(first or second for first, second in _ACL_CALL.findall(source))
        if item.name == "acl" and source.split()[1:]:
            if "$" in source.split()[0]:
                return
            called.add(source.split()[0])
    for acl, _ in _acls(configuration):
        for statement in acl.statements if acl.name not in called else ():
            for clause in statement.clauses:
                for template in clause.item.templates():
                    for variable in sorted(used(template.source) & _ARGUMENTS):
                        problem = f"${variable} is never set: nothing calls {acl.name} with values"
                        yield Finding(template.where, problem, f"acl = {acl.name} VALUE")


def _without_tls(configuration: Configuration) -> bool:
    main = configuration.main
    hosts = main.tls_advertise_hosts
    nobody = hosts is None or (isinstance(hosts, Template) and hosts.source.strip() == "")
    return nobody and not main.tls_on_connect_ports


def _strings(configuration: Configuration) -> Iterator[tuple[Template, Collection[Place], str]]:
    """Yield strings, where they are expanded, and the name of the place."""
    for acl, in_phases in _acls(configuration):
        name = " and ".join(sorted(PHASE_NAMES[phase] for phase in in_phases))
        for statement in acl.statements:
            for clause in statement.clauses:
                for template in clause.item.templates():
                    yield template, in_phases, f"the {name} ACL"
    main = configuration.main.values
    for options, phase in (
        (_AT_CONNECTION, AclPhase.CONNECT),
        (_AT_GREETING, AclPhase.HELO),
    ):
        for option in options:
            value = main.get(option)
            if isinstance(value, Template):
                yield value, {phase}, option
    for kind, place in (("router", _ROUTER), ("transport", _TRANSPORT), ("authenticator", _LOGIN)):
        for each in configuration.instances(kind):
            yield from _options(each, place)
    yield from _rules(configuration)


def _acls(configuration: Configuration) -> Iterator[tuple[Acl, set[AclPhase]]]:
    """Yield the named ACLs; inline text is expanded before it is read, and so has no variables."""
    where_used = phases(configuration)
    for name, acl in configuration.acls.acls.items():
        if where_used[name]:
            yield acl, where_used[name]


def _options(each: OptionSet, place: str) -> Iterator[tuple[Template, Collection[Place], str]]:
    for name, value in each.values.items():
        clients = place is _LOGIN and not name.startswith("server_")
        if isinstance(value, Template) and not clients and name != "server_mail_auth_condition":
            yield value, {place}, place


def _rules(configuration: Configuration) -> Iterator[tuple[Template, Collection[Place], str]]:
    for rule in getattr(configuration.retry, "rules", ()):
        for text in (rule.pattern, rule.senders or ""):
            yield compile_string(text, rule.where), {_RETRY}, _RETRY
    for rule in getattr(configuration.rewrite, "rules", ()):
        for template in (rule.pattern, rule.replacement):
            yield template, {_REWRITING}, _REWRITING
