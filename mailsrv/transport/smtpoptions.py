"""The options of the ``smtp`` transport (specification 30.4)."""

from __future__ import annotations

from mailsrv.config.options import option
from mailsrv.config.types import (
    BOOL_OR_EXPANDED,
    BOOLEAN,
    DOMAIN_LIST,
    EXPANDED,
    HOST_LIST,
    INTEGER,
    STRING,
    STRING_LIST,
    TIME,
)
from mailsrv.transport.transport import Transport

_AS_THEY_ARE = "names of hosts are looked up as they stand"
_ALWAYS_ASKED = "name servers are always asked whether they validated"
_UNMARKED = "packets are sent as the system marks them"
_OPENSSL = "it is for GnuTLS alone"
_NOT_RESUMED = "TLS sessions are not resumed: connections are kept instead"
_ONE_BY_ONE = "connections are kept, so that a first round trip saved is little"
_ONE_REPLY = "SMTP gives one reply for all recipients of a message"
_NO_SIGNING = "nothing is signed, and what dkim_domain asks to sign is deferred"
_NO_OCSP = "OCSP is not asked for"
_OUTLOOK = (
    "${if and {{match{$host}{.outlook.com\\$}} {match{$item}{\\N^250-([\\w.]+)\\s\\N}}} {$1}}"
)


class SmtpOptions(Transport):
    """What may be set; ``transports/smtp.py`` obeys it."""

    address_retry_include_sender = option(
        BOOLEAN, default=True, help="a recipient refused for now waits for this sender alone"
    )
    allow_localhost = option(BOOLEAN, default=False, help="deliver to hosts that are this host")
    authenticated_sender = option(EXPANDED, help="AUTH= of MAIL where we have logged in")
    authenticated_sender_force = option(
        BOOLEAN, default=False, help="send authenticated_sender without a login, too"
    )
    command_timeout = option(TIME, default=300, help="time for the greeting and each reply")
    connect_timeout = option(TIME, default=300, help="time for a connection")
    connection_max_messages = option(INTEGER, default=500, help="messages on one connection")
    data_timeout = option(TIME, default=300, help="time in which octets of a message must move")
    delay_after_cutoff = option(
        BOOLEAN, default=True, help="hosts that fail for long are not tried for each new message"
    )
    dane_require_tls_ciphers = option(
        EXPANDED, help="ciphers where DANE holds", no_effect="DANE is not built"
    )
    dkim_canon = option(EXPANDED, help="DKIM: canonicalization", no_effect=_NO_SIGNING)
    dkim_domain = option(EXPANDED, help="DKIM: domains that sign", unbuilt=True)
    dkim_hash = option(
        EXPANDED, "sha256", help="DKIM: hash of the signature", no_effect=_NO_SIGNING
    )
    dkim_identity = option(EXPANDED, help="DKIM: the AUID", no_effect=_NO_SIGNING)
    dkim_private_key = option(EXPANDED, help="DKIM: the key, or its file", no_effect=_NO_SIGNING)
    dkim_selector = option(EXPANDED, help="DKIM: names of keys", no_effect=_NO_SIGNING)
    dkim_sign_headers = option(EXPANDED, help="DKIM: fields to sign", no_effect=_NO_SIGNING)
    dkim_strict = option(EXPANDED, help="DKIM: defer what cannot be signed", no_effect=_NO_SIGNING)
    dkim_timestamps = option(
        EXPANDED, help="DKIM: seconds that a signature holds", no_effect=_NO_SIGNING
    )
    dns_qualify_single = option(
        BOOLEAN, default=True, help="complete host names without a dot", no_effect=_AS_THEY_ARE
    )
    dns_search_parents = option(
        BOOLEAN, default=False, help="look for hosts in parent domains, too", no_effect=_AS_THEY_ARE
    )
    dnssec_request_domains = option(
        DOMAIN_LIST, "*", help="domains whose DNSSEC status is asked for", no_effect=_ALWAYS_ASKED
    )
    dnssec_require_domains = option(
        DOMAIN_LIST, help="names in hosts whose addresses must be DNSSEC-validated"
    )
    dscp = option(EXPANDED, help="class of service of outgoing packets", no_effect=_UNMARKED)
    fallback_hosts = option(STRING_LIST, help="hosts to try when no other could be used")
    final_timeout = option(TIME, default=600, help="time for the reply to the end of data")
    gethostbyname = option(
        BOOLEAN,
        default=False,
        help="look hosts up as the system does",
        no_effect="hosts are looked up in the hosts file first in any case",
    )
    helo_data = option(EXPANDED, "$primary_hostname", help="our name in EHLO")
    host = option(STRING_LIST, help="taken as hosts, with a warning", ours=True)
    host_name_extract = option(
        EXPANDED, _OUTLOOK, help="name of the server behind a load balancer", no_effect=_NOT_RESUMED
    )
    hosts = option(STRING_LIST, help="hosts for addresses that have none of their router")
    hosts_avoid_esmtp = option(HOST_LIST, help="hosts to greet with HELO")
    hosts_avoid_pipelining = option(HOST_LIST, help="hosts to send one command at a time")
    hosts_avoid_tls = option(HOST_LIST, help="hosts to talk to in clear")
    hosts_max_try = option(INTEGER, default=5, help="addresses of hosts tried in one delivery")
    hosts_max_try_hardlimit = option(INTEGER, default=50, help="the same, whatever their MX values")
    hosts_nopass_tls = option(HOST_LIST, help="hosts for one message on a TLS connection")
    hosts_noproxy_tls = option(
        HOST_LIST,
        help="hosts whose TLS connections no other process uses",
        no_effect="a connection stays in its process",
    )
    hosts_override = option(BOOLEAN, default=False, help="use hosts instead of the router's")
    hosts_pipe_connect = option(
        HOST_LIST, help="hosts that take commands before the greeting", no_effect=_ONE_BY_ONE
    )
    hosts_randomize = option(BOOLEAN, default=False, help="try the hosts in random order")
    hosts_request_ocsp = option(
        HOST_LIST, "*", help="hosts to ask for an OCSP status", no_effect=_NO_OCSP
    )
    hosts_require_alpn = option(HOST_LIST, help="hosts that must agree to tls_alpn")
    hosts_require_auth = option(HOST_LIST, help="hosts that get mail only after a login")
    hosts_require_dane = option(HOST_LIST, help="hosts that must have DANE", unbuilt=True)
    hosts_require_ocsp = option(HOST_LIST, help="hosts that must give an OCSP status", unbuilt=True)
    hosts_require_tls = option(HOST_LIST, help="hosts that get mail only over TLS")
    hosts_try_auth = option(HOST_LIST, help="hosts to log in to if they offer it")
    hosts_try_chunking = option(HOST_LIST, "*", help="hosts to send BDAT if they offer it")
    hosts_try_dane = option(
        HOST_LIST,
        "*",
        help="hosts to authenticate with DANE if the DNS allows it",
        no_effect="there is no DANE yet: TLS is used as without it",
    )
    hosts_try_fastopen = option(
        HOST_LIST, "*", help="hosts to try TCP Fast Open with", no_effect=_ONE_BY_ONE
    )
    hosts_try_prdr = option(
        HOST_LIST, "*", help="hosts to ask for a reply for each recipient", no_effect=_ONE_REPLY
    )
    hosts_verify_avoid_tls = option(
        HOST_LIST,
        help="hosts that callouts talk to in clear",
        no_effect="a callout uses TLS as a delivery does",
    )
    interface = option(STRING_LIST, help="local IP addresses to connect from")
    keepalive = option(BOOLEAN, default=True, help="set SO_KEEPALIVE")
    lmtp_ignore_quota = option(BOOLEAN, default=False, help="IGNOREQUOTA on RCPT with LMTP")
    max_rcpt = option(INTEGER, default=100, help="recipients in one transaction; 0 = no limit")
    message_linelength_limit = option(
        INTEGER, default=998, help="longest line that is sent, in octets; longer ones bounce"
    )
    multi_domain = option(BOOL_OR_EXPANDED, default=True, help="several domains in one transaction")
    port = option(EXPANDED, help="port, or its name; default smtp, or lmtp")
    protocol = option(STRING, default="smtp", help="smtp, smtps or lmtp")
    retry_include_ip_address = option(
        BOOL_OR_EXPANDED, default=True, help="each address of a host has its retry times"
    )
    retry_use_local_part = option(
        BOOLEAN,
        default=False,
        help="a delivery that fails delays the local part",
        no_effect="the hints of a remote transport are those of its hosts",
    )
    serialize_hosts = option(HOST_LIST, help="hosts for one connection at a time")
    size_addition = option(INTEGER, default=1024, help="added to SIZE=; negative: no SIZE=")
    socks_proxy = option(EXPANDED, help="a SOCKS proxy to connect through", unbuilt=True)
    tls_alpn = option(EXPANDED, help="protocol names to offer in the handshake (ALPN)")
    tls_certificate = option(EXPANDED, help="file of our own certificate")
    tls_crl = option(EXPANDED, help="file of certificate revocation lists")
    tls_dh_min_bits = option(
        INTEGER, default=1024, help="smallest Diffie-Hellman prime", no_effect=_OPENSSL
    )
    tls_privatekey = option(EXPANDED, help="file of its key, if that is another one")
    tls_require_ciphers = option(EXPANDED, help="ciphers that are allowed, as OpenSSL takes them")
    tls_resumption_hosts = option(
        HOST_LIST, help="hosts whose TLS sessions are resumed", no_effect=_NOT_RESUMED
    )
    tls_sni = option(EXPANDED, help="name that TLS asks the server for")
    tls_tempfail_tryclear = option(
        BOOLEAN, default=True, help="send in clear if TLS fails and is not required"
    )
    tls_try_verify_hosts = option(HOST_LIST, "*", help="hosts whose certificate is tried only")
    tls_verify_cert_hostnames = option(
        HOST_LIST, "*", help="hosts whose certificate must bear their name to be verified"
    )
    tls_verify_certificates = option(
        EXPANDED, "system", help="authorities: a file, a folder, or system"
    )
    tls_verify_hosts = option(HOST_LIST, help="hosts whose certificate must be verified")
    utf8_downconvert = option(
        EXPANDED, "-1", help="make addresses ASCII before they are sent", unbuilt=True
    )
