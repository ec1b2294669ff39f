"""The table of variables: a name, and a function of the scope (specification 11.9).

Values that a peer chose come back marked (:class:`Tainted`).  What is not
known is "".  Innermost come the scope's own ``values``; then what the
connection or the address carries by name; then this table.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from mailsrv import __version__
from mailsrv.expansion import bodies, times
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.headers import header_value, headers_of
from mailsrv.expansion.hostname import full_host, rcvhost, sender_host_name
from mailsrv.expansion.parse import NOT_BUILT
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.tree import Node, Variable, WaitingVariable
from mailsrv.mail import address as addresses
from mailsrv.mail.message import Message, Transaction
from mailsrv.mail.taint import Tainted

Function = Callable[[Scope], str]

VARIABLES: dict[str, Function] = {}
WAITING: dict[str, Callable[[Scope], Awaitable[str]]] = {}


def _mark(value: str) -> str:
    return Tainted(value) if value else ""


def _number(value: int | float) -> str:
    return str(int(value))


# --- origin and connection ----------------------------------------------------


def _origin(name: str, *, peer: bool = True) -> Function:
    """A field of the origin; numbers are "0" where Exim has an integer variable."""

    def function(scope: Scope) -> str:
        if scope.origin is None:
            return ""
        value = getattr(scope.origin, name)
        return _mark(str(value)) if peer else str(value)

    return function


def _origin_number(name: str) -> Function:
    def function(scope: Scope) -> str:
        return _number(getattr(scope.origin, name) if scope.origin is not None else 0)

    return function


def _port(name: str, unknown: str = "0") -> Function:
    def function(scope: Scope) -> str:
        value = getattr(scope.origin, name) if scope.origin is not None else 0
        return str(value) if value else unknown

    return function


def _connection(name: str, *, peer: bool = True) -> Function:
    def function(scope: Scope) -> str:
        value = getattr(scope.connection, name) if scope.connection is not None else ""
        return _mark(str(value)) if peer else str(value)

    return function


def _indexed(name: str, index: int) -> Function:
    """One of a tuple of the connection: ``auth`` or ``acl_args``."""

    def function(scope: Scope) -> str:
        values = getattr(scope.connection, name) if scope.connection is not None else ()
        return values[index] if index < len(values) else ""

    return function


def _authenticated_sender(scope: Scope) -> str:
    return _mark(scope.origin.authenticated_sender) if scope.origin is not None else ""


def _protocol(scope: Scope) -> str:
    return scope.origin.protocol if scope.origin is not None else ""


def _helo(scope: Scope) -> str:
    return _mark(scope.origin.helo_name) if scope.origin is not None else ""


def _verified(scope: Scope) -> str:
    return "1" if scope.origin is not None and scope.origin.tls_certificate_verified else "0"


def _command(scope: Scope) -> str:
    connection = scope.connection
    if connection is None or not connection.command:
        return ""
    return _mark(f"{connection.command} {connection.argument}".rstrip(" "))


def _failed(scope: Scope) -> str:
    return "1" if scope.connection is not None and scope.connection.host_lookup_failed else "0"


def _deferred(scope: Scope) -> str:
    return "1" if scope.connection is not None and scope.connection.host_lookup_deferred else "0"


def _authentication_failed(scope: Scope) -> str:
    return "1" if scope.connection is not None and scope.connection.authentication_failed else "0"


def _narg(scope: Scope) -> str:
    return _number(len(scope.connection.acl_args) if scope.connection is not None else 0)


def _active_hostname(scope: Scope) -> str:
    if scope.connection is not None and scope.connection.active_hostname:
        return scope.connection.active_hostname
    return scope.services.settings.get("primary_hostname", "")


# --- envelope and message ------------------------------------------------------


def _sender(scope: Scope) -> str:
    return _mark(scope.message.sender) if scope.message is not None else ""


def _sender_local_part(scope: Scope) -> str:
    return _mark(addresses.split(_sender(scope))[0])


def _sender_domain(scope: Scope) -> str:
    return _mark(addresses.split(_sender(scope))[1])


def _transaction(name: str) -> Function:
    """A number of the message being received."""

    def function(scope: Scope) -> str:
        message = scope.message
        return _number(getattr(message, name) if isinstance(message, Transaction) else 0)

    return function


def _message(name: str) -> Function:
    def function(scope: Scope) -> str:
        return str(getattr(scope.message, name)) if scope.message is not None else ""

    return function


def _message_number(name: str, unknown: int = 0) -> Function:
    def function(scope: Scope) -> str:
        return _number(getattr(scope.message, name) if scope.message is not None else unknown)

    return function


def _size(scope: Scope) -> str:
    message = scope.message
    if isinstance(message, Transaction) and not message.size:
        return _number(message.declared_size)
    return _number(message.size if message is not None else 0)


def _recipients(scope: Scope) -> str:
    if scope.message is None:
        return ""
    return _mark(", ".join(recipient.address for recipient in scope.message.recipients))


def _recipients_list(scope: Scope) -> str:
    if scope.message is None:
        return ""
    found = [recipient.address.replace(":", "::") for recipient in scope.message.recipients]
    return _mark(":".join(found))


def _recipients_count(scope: Scope) -> str:
    return _number(len(scope.message.recipients) if scope.message is not None else 0)


def _received_for(scope: Scope) -> str:
    recipients = scope.message.recipients if scope.message is not None else ()
    return _mark(recipients[0].address) if len(recipients) == 1 else ""


def _headers(scope: Scope) -> str:
    from mailsrv.expansion.rfc2047 import decode

    return _mark(decode(_headers_raw(scope)).removesuffix("\n"))


def _headers_raw(scope: Scope) -> str:
    return _mark("".join(header.text + "\n" for header in headers_of(scope)))


def _linecount(scope: Scope) -> str:
    message = scope.message
    if message is None or message.body is None:
        return "0"
    lines = sum(header.text.count("\n") + 1 for header in message.headers)
    return _number(lines + 1 + message.body.lines)


def _body_lines(scope: Scope) -> str:
    body = scope.message.body if scope.message is not None else None
    return _number(body.lines if body is not None else 0)


def _reply_address(scope: Scope) -> str:
    return header_value(scope, "Reply-To", "") or header_value(scope, "From", "")


def _age(scope: Scope) -> str:
    received = scope.message.received_at if scope.message is not None else 0.0
    return _number(max(0, scope.services.clock.seconds() - received) if received else 0)


def _received_count(scope: Scope) -> str:
    return _number(sum(header.called("Received") for header in headers_of(scope)))


def _received_time(scope: Scope) -> str:
    return _number(scope.message.received_at) if scope.message is not None else "0"


# --- the address that is routed --------------------------------------------------


def _address(name: str, *, peer: bool) -> Function:
    def function(scope: Scope) -> str:
        if scope.address is None:
            return ""
        value: str = getattr(scope.address, name)
        return _mark(value) if peer else value

    return function


def _original(part: int) -> Function:
    def function(scope: Scope) -> str:
        if scope.address is None:
            return ""
        return _mark(addresses.split(scope.address.recipient.address)[part])

    return function


def _parent(part: int) -> Function:
    def function(scope: Scope) -> str:
        parent = scope.address.parent if scope.address is not None else None
        return _mark(addresses.split(parent.address)[part]) if parent is not None else ""

    return function


def _place(*, pipe: bool) -> Function:
    """The pipe, or the file or directory, that a redirection names (22.10)."""

    def function(scope: Scope) -> str:
        address = scope.address
        if address is None or not address.place or address.address.startswith("|") != pipe:
            return ""
        return address.address

    return function


def _host(name: str) -> Function:
    """The first next hop of the address (transports set ``values`` to the one in hand)."""

    def function(scope: Scope) -> str:
        if scope.address is None or not scope.address.hosts:
            return ""
        return str(getattr(scope.address.hosts[0], name) or "")  # a port of 0 is not known

    return function


def _home(scope: Scope) -> str:
    return scope.home or (scope.address.home if scope.address is not None else "")


# --- settings ------------------------------------------------------------------


def _setting(name: str, default: str = "") -> Function:
    return lambda scope: scope.services.settings.get(name, default)


def _caller(name: str, own: Callable[[], int]) -> Callable[[Scope], str]:
    """The local user who submits; without one it is the process' own."""

    def value(scope: Scope) -> str:
        caller = scope.connection.caller if scope.connection is not None else None
        return str(own() if caller is None else getattr(caller, name))

    return value


def _version(scope: Scope) -> str:
    return __version__


def _load(scope: Scope) -> str:
    return _number(os.getloadavg()[0] * 1000)


def _empty(scope: Scope) -> str:
    return ""


def _zero(scope: Scope) -> str:
    return "0"


def _build() -> None:
    table: dict[str, Function] = {
        "acl_narg": _narg,
        "acl_verify_message": _connection("acl_verify_message"),
        "address_data": _address("address_data", peer=False),
        "authenticated_id": _origin("authenticated_id"),
        "authenticated_sender": _authenticated_sender,
        "authentication_failed": _authentication_failed,
        "body_linecount": _body_lines,
        "body_zerocount": bodies.zero_count,
        "domain": _address("domain", peer=True),
        "domain_data": _address("domain_data", peer=False),
        "home": _home,
        "host": _host("name"),
        "host_address": _host("address"),
        "host_port": lambda scope: _host("port")(scope) or "0",
        "host_lookup_deferred": _deferred,
        "host_lookup_failed": _failed,
        "interface_address": _origin("interface_address", peer=False),
        "interface_port": _port("interface_port", "-1"),
        "load_average": _load,
        "local_part": _address("local_part", peer=True),
        "address_file": _place(pipe=False),
        "address_pipe": _place(pipe=True),
        "local_part_data": _address("local_part_data", peer=False),
        "local_part_prefix": _address("prefix", peer=True),
        "local_part_prefix_v": _address("prefix_v", peer=True),
        "local_part_suffix": _address("suffix", peer=True),
        "local_part_suffix_v": _address("suffix_v", peer=True),
        "message_age": _age,
        "message_body": bodies.start,
        "message_body_end": bodies.end,
        "message_body_size": bodies.size,
        "message_exim_id": _message("id"),
        "message_id": _message("id"),
        "message_headers": _headers,
        "message_headers_raw": _headers_raw,
        "message_linecount": _linecount,
        "message_size": _size,
        "message_smtputf8": lambda scope: (
            "no" if scope.message is None or not scope.message.smtputf8 else "yes"
        ),
        "original_domain": _original(1),
        "original_local_part": _original(0),
        "parent_domain": _parent(1),
        "parent_local_part": _parent(0),
        "pid": lambda scope: str(scope.services.pid or os.getpid()),
        "rcpt_count": _transaction("recipients_seen"),
        "rcpt_defer_count": _transaction("recipients_deferred"),
        "rcpt_fail_count": _transaction("recipients_refused"),
        "received_count": _received_count,
        "received_for": _received_for,
        "received_ip_address": _origin("interface_address", peer=False),
        "received_port": _port("interface_port", "-1"),
        "received_protocol": _protocol,
        "received_time": _received_time,
        "recipients": _recipients,
        "recipients_list": _recipients_list,
        "recipients_count": _recipients_count,
        "reply_address": _reply_address,
        "return_path": _sender,
        "router_name": _address("router", peer=False),
        "sender_address": _sender,
        "sender_address_domain": _sender_domain,
        "sender_address_local_part": _sender_local_part,
        "sender_fullhost": full_host,
        "sender_helo_name": _helo,
        "sender_host_address": _origin("host_address"),
        "sender_host_authenticated": _origin("authenticator", peer=False),
        "sender_host_port": _port("host_port"),
        "sender_ident": _origin("ident"),
        "sender_rcvhost": rcvhost,
        "smtp_active_hostname": _active_hostname,
        "smtp_command": _command,
        "smtp_command_argument": _connection("argument"),
        "smtp_notquit_reason": _connection("notquit_reason", peer=False),
        "transport_name": _address("transport", peer=False),
        "version_number": _version,
        "exim_version": _version,
        "exim_uid": lambda scope: scope.services.settings.get("exim_uid", str(os.geteuid())),
        "exim_gid": lambda scope: scope.services.settings.get("exim_gid", str(os.getegid())),
        "caller_uid": _caller("uid", os.getuid),
        "caller_gid": _caller("gid", os.getgid),
        "originator_uid": _caller("uid", os.getuid),
        "originator_gid": _caller("gid", os.getgid),
        "callout_address": _empty,
    }
    for name in (
        "compile_date", "compile_number", "config_dir", "config_file", "exim_path",
        "localhost_number", "primary_hostname", "qualify_domain", "qualify_recipient",
        "spool_directory", "bounce_return_size_limit", "queue_name", "initial_cwd",
    ):  # fmt: skip
        table[name] = _setting(name)
    for disk in ("spool", "log"):
        table[f"{disk}_space"] = _room(disk, 0)
        table[f"{disk}_inodes"] = _room(disk, 1)
    table["return_size_limit"] = table["bounce_return_size_limit"]
    table |= {f"tod_{name}": function for name, function in times.VARIABLES.items()}
    for direction in ("tls_in_", "tls_"):  # the names without direction are the older ones
        table |= {
            f"{direction}bits": _origin_number("tls_bits"),
            f"{direction}certificate_verified": _verified,
            f"{direction}cipher": _origin("tls_cipher", peer=False),
            f"{direction}peerdn": _origin("tls_peer_dn"),
            f"{direction}sni": _origin("tls_sni"),
        }
    table["tls_in_peercert"] = lambda scope: (
        (scope.connection and scope.connection.peer_certificate) or ""
    )
    table["tls_in_ver"] = _origin("tls_version", peer=False)
    table["tls_in_cipher_std"] = _cipher_std
    for name in ("cipher", "cipher_std", "peerdn", "sni", "ver", "dane", "tlsa_usage"):
        table[f"tls_out_{name}"] = _empty
    table["tls_out_bits"] = table["tls_out_certificate_verified"] = _zero
    for index in range(1, 10):
        table[f"acl_arg{index}"] = _indexed("acl_args", index - 1)
    for index in range(1, 5):
        table[f"auth{index}"] = _indexed("auth", index - 1)
    # set only for a part of a string, a list match, an item or a delivery
    for name in (
        "value", "item", "host_data", "local_user_uid", "local_user_gid", "thisaddress",
        "bounce_recipient", "sending_ip_address", "sending_port",
        "sender_data", "sender_address_data", "sender_host_data", "local_part_verified",
        "self_hostname", "dnslist_domain", "dnslist_matched", "dnslist_text", "dnslist_value",
        "prvscheck_address", "prvscheck_keynum", "prvscheck_result", "runrc", "sender_rate",
        "sender_rate_limit", "sender_rate_period", "sender_verify_failure",
        "recipient_verify_failure", "recipient_data", "sender_helo_dnssec", "sender_host_dnssec",
        "smtp_command_history", "smtp_count_at_connection_start", "mailstore_basename",
        "warn_message_recipients", "warn_message_delay", "warnmsg_delay", "warnmsg_recipients",
        "regex_match_string", "verify_mode", "event_name", "event_data", "event_defer_errno",
        "lookup_dnssec_authenticated",
        "prdr_requested",
        "proxy_external_address", "proxy_external_port", "proxy_local_address",
        "proxy_local_port", "proxy_session", "queue_size",
        "max_received_linelength", "tls_in_resumption",
        "tls_out_resumption", "tls_in_ocsp", "tls_out_ocsp",

    ):  # fmt: skip
        table.setdefault(name, _empty)
    for index in range(10):
        table[f"regex{index}"] = _empty
    for value, names in _CONSTANTS.items():
        table |= dict.fromkeys(names.split(), _constant(value))
    VARIABLES.update(table)
    WAITING["sender_host_name"] = sender_host_name


def _room(disk: str, number: int) -> Function:
    """What is left on a disk: KiB, or inodes."""

    def function(scope: Scope) -> str:
        room = scope.services.room
        return str(room(disk)[number]) if room is not None else ""

    return function


def _constant(value: str) -> Function:
    return lambda scope: value


# The values of what is known only elsewhere: while content is scanned, signed or verified, in a
# transport, or on a proxied connection (specification 11.9: "otherwise empty").
_CONSTANTS = {
    "": """
        authenticated_fail_id csa_status headers_added ldap_dn local_scan_data
        malware_name mime_boundary mime_charset mime_content_description mime_content_disposition
        mime_content_id mime_content_transfer_encoding mime_content_type mime_decoded_filename
        mime_filename spam_action spam_bar spam_report spam_score spam_score_int
        spf_header_comment spf_received spf_result spf_smtp_comment srs_recipient
        tls_in_ourcert tls_out_ourcert tls_out_peercert
        dkim_algo dkim_canon_body dkim_canon_headers dkim_copiedheaders dkim_cur_signer
        dkim_domain dkim_headernames dkim_identity dkim_key_notes dkim_selector dkim_signers
        dkim_verify_reason dkim_verify_status
    """,
    "0": """
        av_failed inode localhost_number max_received_linelength mime_anomaly_level
        mime_content_size mime_is_coverletter mime_is_multipart mime_is_rfc822
        proxy_external_port proxy_local_port runrc smtp_count_at_connection_start tls_in_ocsp
        tls_in_resumption tls_out_ocsp tls_out_tlsa_usage dkim_created dkim_key_length
        dkim_key_nosubdomains dkim_key_testing
    """,
    "-1": "mime_part_count sending_port",
    "no": "prdr_requested proxy_session sender_helo_dnssec sender_host_dnssec spf_result_guessed "
    "tls_out_dane",
    "*": "dkim_key_granularity dkim_key_srvtype",
    "9999999999999": "dkim_bodylength dkim_expires",
    "4294967295": "local_user_uid local_user_gid",
}

# Exim's own that carry what mailsrv does not have.
_UNBUILT = (
    "bmi_", "demime_", "arc_", "dcc_",
)  # fmt: skip


def _cipher_std(scope: Scope) -> str:
    """The cipher's IANA name: the middle of ``TLS1.3:TLS_AES_256_GCM_SHA384:256``, if it is one."""
    parts = (scope.origin.tls_cipher if scope.origin is not None else "").split(":")
    return parts[1] if len(parts) > 1 and parts[1].startswith("TLS_") else ""


def variable(name: str, unknown: str) -> Node:
    """The node of a variable.

    :raises ExpansionError: ``unknown``, if there is no variable of this name.
    """
    if name.startswith("acl_"):
        return _acl_variable(name, unknown)
    if name.startswith("r_"):
        return Variable(name, lambda scope: _routing_variable(scope, name))
    if name in WAITING:
        return WaitingVariable(name, WAITING[name])
    function = VARIABLES.get(name)
    if function is not None:
        return Variable(name, function, carried=True)
    if name.startswith(_UNBUILT):
        raise ExpansionError(f"${name}: {NOT_BUILT}")
    raise ExpansionError(unknown)


def _routing_variable(scope: Scope, name: str) -> str:
    variables = scope.address.vars if scope.address is not None else {}
    return variables.get(name, "") or variables.get(name[2:], "")


def _acl_variable(name: str, unknown: str) -> Node:
    rest = name[5:]
    if name.startswith(("acl_c", "acl_m")) and (not rest or rest[0] in "0123456789_"):
        key = name[4:]
        where = name[4]
        return Variable(name, lambda scope: _acl_value(scope, where, key))
    if name in VARIABLES:
        return Variable(name, VARIABLES[name])
    if name.startswith(("acl_c", "acl_m")):
        hint = "6th character of a user-defined ACL variable must be a digit or underscore"
    else:
        hint = "user-defined ACL variables must start acl_c or acl_m"
    raise ExpansionError(f"{unknown} ({hint})")


def _acl_value(scope: Scope, where: str, key: str) -> str:
    if where == "c":
        found = scope.origin.acl_c.get(key) if scope.origin is not None else None
    else:
        message = scope.message
        held = isinstance(message, Message | Transaction)
        found = message.acl_m.get(key) if message is not None and held else None
    if found is None and scope.services.settings.get("strict_acl_vars") == "true":
        raise ExpansionError(f'unknown variable name "acl_{key}" (strict_acl_vars is set)')
    return found or ""


_build()
