"""What a router decides about an address (specification 3.10)."""

from __future__ import annotations

from dataclasses import dataclass

from mailsrv.mail.routed import Host, RoutedAddress
from mailsrv.mail.status import Status


@dataclass(frozen=True, slots=True)
class Accepted:
    """The address is to be delivered; ``transport`` overrides the router's option if not ""."""

    transport: str = ""
    hosts: tuple[Host, ...] = ()
    unusable: tuple[Host, ...] = ()  # hosts without an address, to be shown


@dataclass(frozen=True, slots=True)
class Declined:
    """The router does not know the address; ``more`` decides what follows.

    ``message`` is said instead of "Unrouteable address" if no router takes it.
    """

    message: str = ""


@dataclass(frozen=True, slots=True)
class Passed:
    """The address goes to the next router, or the one that pass_router names.

    ``message`` as of :class:`Declined`; ``self_hostname`` is the host that was this one.
    """

    message: str = ""
    self_hostname: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """It cannot be said now; ``frozen`` asks to freeze the message.

    ``status`` is what a client may read, if it is not the usual text; ``told``
    what a report says, if not ``reason``; ``error`` is the retry rules' name:
    ``lookup`` if a host could not be looked up.
    """

    reason: str
    frozen: bool = False
    status: Status | None = None
    told: str = ""
    error: str = "*"


@dataclass(frozen=True, slots=True)
class Failed:
    """The address cannot be delivered; ``message`` is for the sender, ``reason`` for the log.

    ``status`` is given where it is not that of an unrouteable address.
    """

    message: str
    reason: str = ""
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Discarded:
    """The address is thrown away: delivered nowhere, and that is a success."""


@dataclass(frozen=True, slots=True)
class Rerouted:
    """The address is routed anew, from the first router, under another domain.

    ``rewrite``: addresses in the header that have the old domain get it, too.
    """

    domain: str
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """An address made of another.

    ``start`` names the router that it is routed from, "" is the first;
    ``problem`` says why a place cannot be delivered to now.
    """

    address: RoutedAddress
    start: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Redirected:
    """The address becomes others; ``failed``: and fails itself, for all that."""

    children: tuple[Child, ...]
    failed: Failed | None = None


Decision = Accepted | Declined | Passed | Deferred | Failed | Discarded | Rerouted | Redirected
