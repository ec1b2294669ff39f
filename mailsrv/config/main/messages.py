"""Messages and addresses: headers, bounces, warnings, verification (chapter 14)."""

from __future__ import annotations

from mailsrv.config.main.reasons import NO_DKIM, NO_FROM_LINE, OWN_SPOOL, UNUSED
from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    ADDRESS,
    ADDRESS_LIST,
    BOOLEAN,
    DOMAIN_LIST,
    EXPANDED,
    INTEGER,
    SIZE,
    STRING,
    STRING_LIST,
    TIME,
    TIME_LIST,
)

_DELAY_WARNING_CONDITION = (
    "${if or {{ !eq{$h_list-id:$h_list-post:$h_list-subscribe:}{} }{ match{"
    "$h_precedence:}{(?i)bulk|list|junk} }{ match{$h_auto-submitted:}{(?i)a"
    "uto-generated|auto-replied} }} {no}{yes}}"
)

_RECEIVED_HEADER_TEXT = (
    "Received: ${if def:sender_rcvhost {from $sender_rcvhost\n\t}{${if def:se"
    "nder_ident {from ${quote_local_part:$sender_ident} }}${if def:sender_h"
    "elo_name {(helo=$sender_helo_name)\n\t}}}}by $primary_hostname ${if def:"
    "received_protocol {with $received_protocol }}${if def:tls_in_ver      "
    "  { ($tls_in_ver)}}${if def:tls_in_cipher_std { tls $tls_in_cipher_std"
    "\n\t}}(mailsrv $version_number)\n\t${if def:sender_address {(envelope-from <$"
    "sender_address>)\n\t}}id $message_exim_id${if def:received_for {\n\tfor $r"
    "eceived_for}}"
)

_UUCP_FROM_PATTERN = (
    "^From\\s+(\\S+)\\s+(?:[a-zA-Z]{3},?\\s+)?(?:[a-zA-Z]{3}\\s+\\d?\\d|\\d?\\d\\s+[a"
    "-zA-Z]{3}\\s+\\d\\d(?:\\d\\d)?)\\s+\\d\\d?:\\d\\d?"
)


class MessageOptions(OptionSet):
    """Messages and addresses: headers, bounces, warnings, verification (chapter 14)."""

    allow_domain_literals = option(
        BOOLEAN, False, help="take addresses of the form user@[192.0.2.1]"
    )
    allow_utf8_domains = option(
        BOOLEAN,
        False,
        help="look up domains with octets above 127",
        no_effect="such domains are taken with SMTPUTF8 alone",
    )
    bounce_message_file = option(EXPANDED, help="file of the texts of bounces")
    bounce_message_text = option(STRING, help="text that is added to bounces")
    bounce_return_body = option(BOOLEAN, True, help="return the body in bounces")
    bounce_return_linesize_limit = option(
        INTEGER, 998, help="longest line of a body that is returned"
    )
    bounce_return_message = option(BOOLEAN, True, help="return the message in bounces")
    bounce_return_size_limit = option(
        SIZE, 102400, help="octets of the message that a bounce returns at most"
    )
    bounce_sender_authentication = option(STRING, help="AUTH parameter of bounces")
    callout_domain_negative_expire = option(
        TIME,
        10800,
        help="how long a refusal of all of a domain is remembered",
    )
    callout_domain_positive_expire = option(
        TIME,
        604800,
        help="how long the acceptance of a domain is remembered",
    )
    callout_negative_expire = option(
        TIME,
        7200,
        help="how long the refusal of an address is remembered",
    )
    callout_positive_expire = option(
        TIME,
        86400,
        help="how long the acceptance of an address is remembered",
    )
    callout_random_local_part = option(
        EXPANDED,
        "$primary_hostname-$tod_epoch-testing",
        help="local part for a random callout",
    )
    check_rfc2047_length = option(
        BOOLEAN, True, help="refuse to decode encoded words that are too long"
    )
    delay_warning = option(TIME_LIST, (86400,), help="when the sender is told of a delay")
    delay_warning_condition = option(
        EXPANDED, _DELAY_WARNING_CONDITION, help="whether a message is worth a delay warning"
    )
    delivery_date_remove = option(
        BOOLEAN, True, help="remove Delivery-date: from incoming messages"
    )
    dkim_verify_hashes = option(
        STRING, "sha256:sha512", help="hashes that a DKIM signature may use", no_effect=NO_DKIM
    )
    dkim_verify_keytypes = option(
        STRING, "ed25519:rsa", help="keys that a DKIM signature may use", no_effect=NO_DKIM
    )
    dkim_verify_min_keysizes = option(
        STRING, "rsa=1024 ed25519=250", help="smallest keys of DKIM signatures", no_effect=NO_DKIM
    )
    dkim_verify_minimal = option(
        BOOLEAN, False, help="stop at the first good DKIM signature", no_effect=NO_DKIM
    )
    dkim_verify_signers = option(
        DOMAIN_LIST, "$dkim_signers", help="DKIM signers that are verified", no_effect=NO_DKIM
    )
    drop_cr = option(BOOLEAN, False, help="has no effect in Exim, either", no_effect=UNUSED)
    dsn_from = option(
        EXPANDED,
        "Mail Delivery System <Mailer-Daemon@$qualify_domain>",
        help="From: of bounces and warnings",
    )
    envelope_to_remove = option(BOOLEAN, True, help="remove Envelope-to: from incoming messages")
    errors_copy = option(STRING_LIST, help="who receives copies of bounces for an address")
    errors_reply_to = option(ADDRESS, help="Reply-To: of bounces and warnings")
    extract_addresses_remove_arguments = option(
        BOOLEAN,
        True,
        help="what -t does with addresses of the command line",
    )
    freeze_tell = option(STRING, help="addresses that are told of frozen messages")
    header_line_maxsize = option(
        INTEGER, 0, help="longest header line that is accepted; 0 is no limit"
    )
    header_maxsize = option(INTEGER, 1048576, help="largest header that is accepted")
    headers_charset = option(
        STRING, "UTF-8", help="character set into which $h_ variables are decoded"
    )
    ignore_bounce_errors_after = option(
        TIME, 6048000, help="when a bounce that cannot be delivered is thrown away"
    )
    ignore_fromline_local = option(
        BOOLEAN,
        False,
        help="drop a From line before the header of a local message",
        no_effect=NO_FROM_LINE,
    )
    local_from_check = option(
        BOOLEAN,
        True,
        help="add Sender: if From: of a local message is not its author",
    )
    local_from_prefix = option(
        STRING, help="prefixes that the local part of From: may have without a Sender:"
    )
    local_from_suffix = option(
        STRING, help="suffixes that the local part of From: may have without a Sender:"
    )
    local_sender_retain = option(BOOLEAN, False, help="leave Sender: in local messages")
    localhost_number = option(
        EXPANDED, help="number of this host in message ids", no_effect=OWN_SPOOL
    )
    message_body_newlines = option(BOOLEAN, False, help="keep line ends in $message_body")
    message_body_visible = option(INTEGER, 500, help="octets of the body in $message_body")
    message_id_header_domain = option(EXPANDED, help="domain of Message-Id: lines that are added")
    message_id_header_text = option(EXPANDED, help="text in Message-Id: lines that are added")
    print_topbitchars = option(BOOLEAN, False, help="characters above 127 count as printing")
    qualify_domain = option(
        STRING, help="domain that is added to addresses without one; by default primary_hostname"
    )
    qualify_recipient = option(
        STRING, help="domain that is added to recipients without one; by default qualify_domain"
    )
    received_header_text = option(
        EXPANDED, _RECEIVED_HEADER_TEXT, help="the Received: line that is added"
    )
    received_headers_max = option(
        INTEGER, 30, help="Received: lines from which on a message is in a loop"
    )
    return_path_remove = option(BOOLEAN, True, help="remove Return-path: from incoming messages")
    spf_guess = option(
        STRING, "v=spf1 a/24 mx/24 ptr ?all", help="SPF record for a guess", no_effect=NO_DKIM
    )
    spf_smtp_comment_template = option(
        STRING,
        "Please%_see%_http://www.open-spf.org/Why",
        help="explanation of an SPF failure",
        no_effect=NO_DKIM,
    )
    strip_excess_angle_brackets = option(
        BOOLEAN, False, help="take <<user@domain>> for <user@domain>"
    )
    strip_trailing_dot = option(BOOLEAN, False, help="take domain. for domain")
    unknown_login = option(EXPANDED, help="login name of an unknown uid")
    unknown_username = option(STRING, help="user name of an unknown uid")
    untrusted_set_sender = option(ADDRESS_LIST, help="senders that untrusted users may set")
    uucp_from_pattern = option(
        STRING,
        _UUCP_FROM_PATTERN,
        help="form of a From line before the header",
    )
    uucp_from_sender = option(EXPANDED, "$1", help="sender in a From line before the header")
    warn_message_file = option(EXPANDED, help="file of the texts of delay warnings")
