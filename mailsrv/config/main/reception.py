"""Reception: ports, hosts, SMTP, TLS and what is advertised (chapter 14)."""

from __future__ import annotations

from mailsrv.config.main.reasons import (
    NO_FROM_LINE,
    NO_IDENT,
    NO_QUEUE_RUNS,
    NO_TLS_FEATURE,
    OWN_PROCESSES,
    OWN_RESOLVER,
    SAME_WORDS,
    UNUSED,
)
from mailsrv.config.options import OptionSet, option
from mailsrv.config.types import (
    BARE_NEWLINE,
    BOOLEAN,
    DOMAIN_LIST,
    EXPANDED,
    EXPANDED_SIZE,
    EXPANDED_TIME,
    FIXED,
    GROUP,
    HOST_LIST,
    INTEGER,
    OCTAL,
    PACING,
    STRING,
    TIME,
)


class ReceptionOptions(OptionSet):
    """Reception: ports, hosts, SMTP, TLS and what is advertised (chapter 14)."""

    accept_8bitmime = option(BOOLEAN, True, help="offer 8BITMIME")
    acl_not_smtp = option(EXPANDED, help="ACL for messages that do not come over SMTP")
    acl_not_smtp_start = option(
        EXPANDED,
        help="ACL at the start of a message that does not come over SMTP",
    )
    acl_not_smtp_mime = option(
        EXPANDED, help="ACL for each MIME part of such a message", unbuilt=True
    )
    acl_smtp_auth = option(EXPANDED, help="ACL for AUTH")
    acl_smtp_connect = option(EXPANDED, help="ACL for a new connection")
    acl_smtp_data = option(EXPANDED, help="ACL after a message is received")
    acl_smtp_dkim = option(EXPANDED, help="ACL for each DKIM signature", unbuilt=True)
    acl_smtp_etrn = option(EXPANDED, help="ACL for ETRN")
    acl_smtp_expn = option(EXPANDED, help="ACL for EXPN")
    acl_smtp_helo = option(EXPANDED, help="ACL for HELO and EHLO")
    acl_smtp_mail = option(EXPANDED, help="ACL for MAIL")
    acl_smtp_mailauth = option(EXPANDED, help="ACL for the AUTH parameter of MAIL")
    acl_smtp_mime = option(EXPANDED, help="ACL for each MIME part of a message", unbuilt=True)
    acl_smtp_notquit = option(EXPANDED, help="ACL for a connection that ends without QUIT")
    acl_smtp_predata = option(EXPANDED, help="ACL for DATA, before the message")
    acl_smtp_quit = option(EXPANDED, help="ACL for QUIT")
    acl_smtp_rcpt = option(EXPANDED, help="ACL for RCPT")
    acl_smtp_starttls = option(EXPANDED, help="ACL for STARTTLS")
    acl_smtp_vrfy = option(EXPANDED, help="ACL for VRFY")
    auth_advertise_hosts = option(HOST_LIST, "*", help="hosts that are offered AUTH")
    chunking_advertise_hosts = option(HOST_LIST, "*", help="hosts that are offered CHUNKING")
    daemon_smtp_ports = option(
        STRING, "smtp", help="ports to listen on, unless local_interfaces names them"
    )
    daemon_startup_retries = option(
        INTEGER, 9, help="attempts to bind a port that is in use", no_effect=OWN_PROCESSES
    )
    daemon_startup_sleep = option(
        TIME, 30, help="time between two attempts to bind", no_effect=OWN_PROCESSES
    )
    dsn_advertise_hosts = option(HOST_LIST, help="hosts that are offered DSN")
    extra_local_interfaces = option(
        STRING, help="addresses that count as this host's, without listening on them"
    )
    gnutls_allow_auto_pkcs11 = option(
        BOOLEAN, False, help="let GnuTLS load PKCS11 modules", no_effect=UNUSED
    )
    gnutls_compat_mode = option(
        BOOLEAN, False, help="GnuTLS's way with old clients", no_effect=UNUSED
    )
    helo_accept_junk_hosts = option(
        HOST_LIST, help="hosts whose HELO names are not checked for syntax"
    )
    helo_allow_chars = option(STRING, help="further characters that a HELO name may have")
    helo_lookup_domains = option(
        DOMAIN_LIST, "@ : @[]", help="HELO names for which the host's name is looked up"
    )
    helo_try_verify_hosts = option(
        HOST_LIST, help="hosts whose HELO name is verified, without consequence"
    )
    helo_verify_hosts = option(HOST_LIST, help="hosts whose HELO name must verify")
    host_lookup = option(HOST_LIST, help="hosts whose name is looked up at connection")
    host_lookup_order = option(
        STRING, "bydns:byaddr", help="where host names are looked up", no_effect=OWN_RESOLVER
    )
    host_reject_connection = option(HOST_LIST, help="hosts that are refused as they connect")
    hosts_connection_nolog = option(HOST_LIST, help="hosts whose connections are not logged")
    hosts_proxy = option(
        HOST_LIST, help="proxies that name the client with the PROXY protocol", unbuilt=True
    )
    hosts_require_helo = option(
        HOST_LIST, "*", help="hosts that must send HELO or EHLO before MAIL"
    )
    lmtp_ports = option(
        STRING, help="ports on which LMTP is spoken, beside those of daemon_smtp_ports", ours=True
    )
    lmtp_socket_group = option(GROUP, help="group of the Unix sockets of lmtp_sockets", ours=True)
    lmtp_socket_mode = option(
        OCTAL, 0o660, help="mode of the Unix sockets of lmtp_sockets", ours=True
    )
    lmtp_sockets = option(STRING, help="paths of Unix sockets on which LMTP is spoken", ours=True)
    local_interfaces = option(
        STRING, "<; ::0 ; 0.0.0.0", help="addresses to listen on, with ports if wanted"
    )
    hosts_require_alpn = option(
        HOST_LIST, help="hosts that must offer ALPN", no_effect=NO_TLS_FEATURE
    )
    ignore_fromline_hosts = option(
        HOST_LIST, help="hosts that may send a From line before the header", no_effect=NO_FROM_LINE
    )
    percent_hack_domains = option(
        DOMAIN_LIST, help="domains in whose local parts a % stands for an @"
    )
    smtp_check_spool_space = option(
        BOOLEAN, True, help="check the spool's disk for the SIZE of a message"
    )
    smtp_etrn_command = option(EXPANDED, help="command that ETRN runs", no_effect=NO_QUEUE_RUNS)
    smtp_etrn_serialize = option(
        BOOLEAN, True, help="run one ETRN command at a time", no_effect=NO_QUEUE_RUNS
    )
    smtp_ratelimit_hosts = option(HOST_LIST, help="hosts whose commands are slowed down")
    smtp_ratelimit_mail = option(PACING, help="from which MAIL on, and how long, a client waits")
    smtp_ratelimit_rcpt = option(PACING, help="from which RCPT on, and how long, a client waits")
    message_size_limit = option(
        EXPANDED_SIZE, "50M", help="largest message that is accepted; 0 is no limit"
    )
    openssl_options = option(STRING, help="options of OpenSSL")
    pipelining_advertise_hosts = option(HOST_LIST, "*", help="hosts that are offered PIPELINING")
    pipelining_connect_advertise_hosts = option(
        HOST_LIST, "*", help="hosts that are offered PIPE_CONNECT", no_effect=UNUSED
    )
    prdr_enable = option(BOOLEAN, False, help="offer PRDR", no_effect=UNUSED)
    acl_smtp_data_prdr = option(
        EXPANDED, "accept", help="ACL for each recipient after the message", no_effect=UNUSED
    )
    proxy_protocol_timeout = option(TIME, 3, help="time-out of the PROXY header", no_effect=UNUSED)
    receive_timeout = option(
        TIME, 0, help="time-out of a message that does not come over SMTP", no_effect=UNUSED
    )
    recipient_unqualified_hosts = option(
        HOST_LIST, help="hosts that may send recipients without domain"
    )
    recipients_max = option(INTEGER, 50000, help="recipients of one message; 0 is no limit")
    recipients_max_reject = option(
        BOOLEAN, False, help="refuse the whole message if it has more recipients"
    )
    rfc1413_hosts = option(
        HOST_LIST, "@[]", help="hosts that are asked for an ident", no_effect=NO_IDENT
    )
    rfc1413_query_timeout = option(
        TIME, 0, help="time-out of the ident query; 0 asks none", no_effect=NO_IDENT
    )
    sender_unqualified_hosts = option(HOST_LIST, help="hosts that may send a sender without domain")
    smtp_accept_keepalive = option(BOOLEAN, True, help="set keepalive on incoming connections")
    smtp_accept_max = option(
        INTEGER, 0, help="simultaneous incoming connections; 0 is as many as files can be open"
    )
    smtp_accept_max_nonmail = option(
        INTEGER, 10, help="commands that belong to no message before the connection is dropped"
    )
    smtp_accept_max_nonmail_hosts = option(
        HOST_LIST, "*", help="hosts to which smtp_accept_max_nonmail applies"
    )
    smtp_accept_max_per_connection = option(
        EXPANDED_SIZE, "1000", help="messages in one connection"
    )
    smtp_accept_max_per_host = option(EXPANDED_SIZE, help="simultaneous connections of one host")
    smtp_accept_queue = option(
        INTEGER,
        0,
        help="connections from which on messages are only queued",
        no_effect=OWN_PROCESSES,
    )
    smtp_accept_queue_per_connection = option(
        INTEGER,
        10,
        help="messages of a connection from which on they are only queued",
        no_effect=OWN_PROCESSES,
    )
    smtp_accept_reserve = option(
        INTEGER, 0, help="connections that are kept for smtp_reserve_hosts"
    )
    smtp_active_hostname = option(
        EXPANDED, help="name in the greeting and in replies, for each connection"
    )
    smtp_backlog_monitor = option(
        INTEGER, 0, help="listen backlog above which a line is logged", no_effect=OWN_PROCESSES
    )
    smtp_banner = option(
        EXPANDED,
        "$smtp_active_hostname ESMTP mailsrv $version_number $tod_full",
        help="the greeting",
    )
    smtp_bare_newline = option(
        BARE_NEWLINE,
        "reject",
        help="a message with a bare CR, LF or NUL: reject it, or mend it to CRLF without NUL",
        ours=True,
    )
    smtp_connect_backlog = option(
        INTEGER, 20, help="length of the kernel's queue of new connections"
    )
    smtp_enforce_sync = option(BOOLEAN, True, help="refuse clients that send before they may")
    smtp_load_reserve = option(
        FIXED, help="system load above which only smtp_reserve_hosts may connect"
    )
    smtp_max_synprot_errors = option(
        INTEGER, 3, help="syntax or protocol errors before the connection is dropped"
    )
    smtp_max_unknown_commands = option(
        INTEGER, 3, help="unknown commands before the connection is dropped"
    )
    smtp_receive_timeout = option(
        EXPANDED_TIME, "5m", help="longest wait for a command or for data"
    )
    smtp_reserve_hosts = option(HOST_LIST, help="hosts for which connections are kept free")
    smtp_return_error_details = option(
        BOOLEAN, False, help="tell the client more of why it is refused", no_effect=SAME_WORDS
    )
    smtputf8_advertise_hosts = option(HOST_LIST, "*", help="hosts that are offered SMTPUTF8")
    tcp_nodelay = option(BOOLEAN, True, help="set TCP_NODELAY on incoming connections")
    tls_advertise_hosts = option(HOST_LIST, "*", help="hosts that are offered STARTTLS")
    tls_alpn = option(
        STRING, "smtp:esmtp", help="names for ALPN that are accepted", no_effect=NO_TLS_FEATURE
    )
    tls_certificate = option(EXPANDED, help="file of the certificate and its chain")
    tls_dh_max_bits = option(
        INTEGER, 2236, help="largest Diffie-Hellman prime that is offered", no_effect=NO_TLS_FEATURE
    )
    tls_crl = option(EXPANDED, help="file of certificate revocation lists")
    tls_dhparam = option(EXPANDED, help="Diffie-Hellman parameters")
    tls_eccurve = option(EXPANDED, "auto", help="elliptic curve")
    tls_ocsp_file = option(
        EXPANDED, help="file of the OCSP proof that is sent along", no_effect=NO_TLS_FEATURE
    )
    tls_on_connect_ports = option(STRING, help="ports on which TLS starts at once")
    tls_privatekey = option(EXPANDED, help="file of the private key; by default tls_certificate")
    tls_remember_esmtp = option(
        BOOLEAN, False, help="remember EHLO across STARTTLS", no_effect=NO_TLS_FEATURE
    )
    tls_require_ciphers = option(EXPANDED, help="ciphers that may be used, as OpenSSL writes them")
    tls_resumption_hosts = option(
        HOST_LIST, help="hosts that may resume a session", no_effect=NO_TLS_FEATURE
    )
    tls_try_verify_hosts = option(HOST_LIST, help="hosts that are asked for a certificate")
    tls_verify_certificates = option(
        EXPANDED, "system", help="certificates that clients are verified against"
    )
    tls_verify_hosts = option(HOST_LIST, help="hosts that must have a valid certificate")
