"""What is known of one SMTP connection while it lasts, for ACLs and expansion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailsrv.mail.caller import Caller
from mailsrv.mail.message import Submission, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted


class PeerCertificate(Tainted):
    """A certificate that a peer showed in its handshake, as PEM."""

    __slots__ = ()


@dataclass(slots=True)
class Connection:
    """The state of a connection; its protocol owns it, ACLs read it and leave their effects.

    ``transaction`` is None outside a message.  ``command`` is the command in
    hand (``$smtp_command``), ``argument`` its argument as it came.
    """

    origin: Origin
    active_hostname: str = ""  # $smtp_active_hostname
    transaction: Transaction | None = None
    command: str = ""
    argument: str = ""
    helo_seen: bool = False
    esmtp: bool = False
    tls_on_connect: bool = False
    lmtp: bool = False  # the client speaks LMTP (RFC 2033)
    caller: Caller | None = None  # the local user at the other end; None for a host
    only_queued: bool = False  # the caller wants that (-odq)
    host_lookup_done: bool = False
    host_lookup_failed: bool = False  # $host_lookup_failed
    host_lookup_deferred: bool = False  # $host_lookup_deferred
    auth: tuple[str, ...] = ()  # $auth1, $auth2, $auth3 of the AUTH in hand
    authentication_failed: bool = False
    mechanism: str = ""  # the one of the last AUTH
    peer_certificate: PeerCertificate | None = None  # $tls_in_peercert
    messages_received: int = 0
    # effects of ACLs that last for the connection
    submission: Submission | None = None
    queue_only: bool = False
    enforce_sync: bool | None = None  # control = [no_]enforce_sync
    no_pipelining: bool = False  # control = no_pipelining
    auth_unadvertised: bool = False  # control = allow_auth_unadvertised
    one_line_replies: bool = False  # control = no_multiline_responses
    rates: dict[str, float] = field(default_factory=dict)  # measured for ratelimit per_conn
    notquit_reason: str = ""  # $smtp_notquit_reason
    # set while one ACL runs, for expansion
    acl_phase: str = ""  # value of the AclPhase
    acl_args: tuple[str, ...] = ()  # $acl_arg1..9
    acl_verify_message: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  # further values, by variable name
