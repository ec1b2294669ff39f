"""An address on its way through routers and transports, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter

from mailsrv.mail.message import Recipient
from mailsrv.mail.status import Status


@dataclass(frozen=True, slots=True)
class Host:
    """A next hop: its name in the configuration or DNS, an address once it is known, a port."""

    name: str
    address: str = ""  # IP address, or the path of a Unix socket; "" = still to be looked up
    port: int = 0  # 0 = the transport's default
    preference: int = 0  # lower is tried first; equal ones in random order
    authenticated_dns: bool = False  # the answer was DNSSEC-validated
    mx: bool = False  # an MX or SRV record named it
    by_name: bool = False  # the retry hints know it by its name alone

    def at(self, port: int) -> Host:
        """Return the same with a port."""
        return Host(
            self.name,
            self.address,
            port,
            self.preference,
            self.authenticated_dns,
            self.mx,
            self.by_name,
        )


@dataclass(slots=True)
class RoutedAddress:
    """An address that is being routed, then delivered ($local_part, $domain, $address_data ...)."""

    recipient: Recipient  # of the envelope, from which this address descends
    address: str
    local_part: str  # unquoted, lower case unless caseful_local_part, without affixes
    domain: str  # lower case
    parent: RoutedAddress | None = None
    prefix: str = ""
    suffix: str = ""
    prefix_v: str = ""  # what the asterisk of a prefix stands for
    suffix_v: str = ""
    local_part_data: str = ""
    domain_data: str = ""
    address_data: str = ""
    errors_to: str | None = None
    headers_add: list[str] = field(default_factory=list)
    headers_remove: list[str] = field(default_factory=list)
    router: str = ""
    transport: str = ""  # name of the transport that is to deliver it
    hosts: tuple[Host, ...] = ()
    unusable: tuple[Host, ...] = ()  # hosts that were found without an address
    fallback_hosts: tuple[Host, ...] = ()  # to be tried when no other could be used
    home: str = ""
    user: str = ""  # system user that delivers it, if routing chose one
    group: str = ""  # and the group, if not the user's own
    initgroups: bool = False
    directory: str = ""  # transport_current_directory
    dsn_lasthop: bool = False
    quiet: bool = False  # disable_logging
    vars: Mapping[str, str] = field(default_factory=dict)  # $r_…
    renamed: tuple[tuple[str, str], ...] = ()  # domains in the header, and what becomes of each
    # Of an address that a redirection gave (chapter 22):
    place: bool = False  # a pipe, file or directory: ``address`` is its text, the rest its parent's
    hidden: bool = False  # hide_child_in_errmsg
    number: int = 0  # where the lists have it, among all that the recipient became
    copies: int = 0  # how many unseen routers took a copy of it, this one included
    one_time: bool = False  # becomes a recipient of its own if it cannot be delivered at once

    def copy(self) -> RoutedAddress:
        """Return another that has all of this one, and shares nothing that changes."""
        result = RoutedAddress(*_values(self))
        result.headers_add = list(self.headers_add)
        result.headers_remove = list(self.headers_remove)
        result.vars = dict(self.vars)
        return result

    def ancestors(self) -> Iterator[RoutedAddress]:
        """Give the address that it was made from, what that was made from, and so on."""
        parent = self.parent
        while parent is not None:
            yield parent
            parent = parent.parent


_values = attrgetter(*(field.name for field in fields(RoutedAddress)))

# What Outcome.error is when no retry rule applies to it:
NOT_REACHED = "retry"  # a host or address was not tried: its time has not come
CROWDED = "crowded"  # it had no turn: too many wait for a host
BESIDE = "beside"  # the address shared a session with one that failed


class Result(enum.Enum):
    """What a transport says of one address."""

    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class HostFailure:
    """A host that was tried and failed, perhaps for one message only, for the retry hints."""

    host: Host
    error: str  # the retry rules' name: refused, timeout_connect, lost_connection ...
    reason: str
    more_errno: str = ""
    message_only: bool = False  # it is to do with the message (specification 49.2)


@dataclass(slots=True)
class Outcome:
    """What became of one address in one attempt; nobody changes it.

    It is not frozen, because each of so many fields would be set by a call.
    """

    address: RoutedAddress
    result: Result
    reason: str = ""  # one line for the log: the error's text
    status: Status | None = None  # the next hop's answer, or ours
    host: Host | None = None  # the host that answered, for H=
    confirmation: str = ""  # the next hop's own answer, on one line: for C= and Diagnostic-Code
    error: str = "*"  # the retry rules' name of the error: timeout_connect, refused, rcpt_4xx ...
    more_errno: str = ""  # what the error's name is qualified with
    after: float = 0.0  # CROWDED: in how many seconds there should be a turn; 0 = not known
    host_error: bool = False  # the host, or host and message together, not the address
    shadow: str = ""
    delivered_to: str = ""  # path of a file or mailbox, for the log
    tls: str = ""  # X= of the log
    tls_verified: bool = False  # CV= of the log
    tls_peer_dn: str = ""  # DN= of the log
    authenticator: str = ""  # A= of the log: the client authenticator that succeeded
    chunking: bool = False  # the message went with BDAT
    pipelined: bool = False
    remote: bool = False  # the next hop is another host: DSN of RFC 3461 passed on or not
    dsn_passed_on: bool = False  # the next hop took over the DSN parameters
    hosts: tuple[Host, ...] = ()  # all that the address could have gone to
    by_local_part: bool = True  # retry_use_local_part: a local delivery's hint is the address'
    by_sender: bool = True  # address_retry_include_sender: and the sender's
    seconds: float = -1.0  # how long this attempt took, for DT= of the log; negative = unknown
    size: int = -1  # octets that the transport wrote, for S= of the log; negative = unknown
    told: str = ""  # what a report says instead of ``reason``
    output: str = ""  # what a command has written: for a report
    frozen: bool = False  # a deferral that only an administrator ends
    interface: str = ""  # our end of the connection, "[address]:port", for I= of the log
