"""``log_selector``: which optional items and lines are logged (specification 53.15)."""

from __future__ import annotations

import difflib
import re

from mailsrv.errors import ConfigError

DEFAULT = frozenset(
    {
        "acl_warn_skipped",
        "connection_reject",
        "delay_delivery",
        "dkim",
        "dnslist_defer",
        "etrn",
        "host_lookup_failed",
        "lost_incoming_connection",
        "msg_id",
        "queue_run",
        "rejected_header",
        "retry_defer",
        "sender_verify_fail",
        "size_reject",
        "skip_delivery",
        "smtp_confirmation",
        "tls_certificate_verified",
        "tls_cipher",
    }
)

ALL = DEFAULT | {
    "8bitmime",
    "address_rewrite",
    "all_parents",
    "arguments",
    "deliver_time",
    "delivery_size",
    "dkim_verbose",
    "dnssec",
    "ident_timeout",
    "incoming_interface",
    "incoming_port",
    "millisec",
    "msg_id_created",
    "outgoing_interface",
    "outgoing_port",
    "pid",
    "pipelining",
    "proxy",
    "queue_time",
    "queue_time_exclusive",
    "queue_time_overall",
    "receive_time",
    "received_recipients",
    "received_sender",
    "return_path_on_delivery",
    "sender_on_delivery",
    "smtp_connection",
    "smtp_incomplete_transaction",
    "smtp_mailauth",
    "smtp_no_mail",
    "smtp_protocol_error",
    "smtp_syntax_error",
    "subject",
    "tls_peerdn",
    "tls_resumption",
    "tls_sni",
    "unknown_in_list",
}

# The names may stand together or apart: "+all -pid" and "+all-pid" are the same.
_ITEM = re.compile(r"[ \t\n]*([+-])([a-z0-9_]+)", re.ASCII)


def parse(text: str) -> frozenset[str]:
    """Return the selectors in force for a value of ``log_selector``; "" gives the default.

    :raises ConfigError: for a name that is none, or one without a sign.
    """
    chosen = set(DEFAULT)
    position, end = 0, len(text.rstrip(" \t\n"))
    while position < end:
        match = _ITEM.match(text, position)
        if match is None:
            raise ConfigError(
                f"malformed log_selector setting: + or - expected but found "
                f'"{text[position:].strip(" ")}"'
            )
        sign, name = match.groups()
        if name != "all" and name not in ALL:
            near = difflib.get_close_matches(name, sorted(ALL), 1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ConfigError(f"unknown log_selector setting: {sign}{name}", hint=hint)
        names = ALL if name == "all" else {name}
        chosen = chosen | names if sign == "+" else chosen - names
        position = match.end()
    return frozenset(chosen)
