"""A Delivering with a fake next hop, and short ways to make messages and addresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.errors import Position
from mailsrv.expansion.scope import Services
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.routed import Host, HostFailure, Outcome, Result, RoutedAddress
from mailsrv.mail.taint import Tainted
from mailsrv.net.hosts import is_ip
from mailsrv.net.threads import InlineThreads
from mailsrv.transport.deliver import Delivering
from mailsrv.transport.transport import Transport
from tests.doubles.log import RecordingLog
from tests.doubles.nexthop import NextHop

WHERE = Position("test.conf", 1)


def make(kind: type[Transport], name: str = "t", **settings: str) -> Any:
    """Return a transport with options as the reader would set them."""
    transport = kind(name, WHERE)
    for key, text in settings.items():
        transport.values[key] = kind.options()[key].type.parse(text, WHERE)
    transport.check()
    return transport


def message(body: Any = b"Hello\r\n", *headers: str, **changes: Any) -> Message:
    body = InlineBody(body) if isinstance(body, bytes) else body
    values: dict[str, Any] = {
        "id": "1abcde-000001-AB",
        "sender": "sender@example.org",
        "recipients": (),
        "origin": Origin(),
        "headers": [Header(text) for text in headers or ("Subject: hi",)],
        "body": body,
        "received_at": 0.0,
        "size": body.size + 20,
    }
    return Message(**{**values, **changes})


def routed(address: str, transport: str = "t", **changes: Any) -> RoutedAddress:
    local_part, _, domain = address.rpartition("@")
    values: dict[str, Any] = {"transport": transport, "router": "r"}
    return RoutedAddress(
        Recipient(address),
        Tainted(address),
        Tainted(local_part),
        Tainted(domain),
        **{**values, **changes},
    )


class Resolver:
    """Provides the part of ``IResolver`` that transports use."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known = known

    async def addresses(
        self, name: str, *, ipv6: bool = True, hosts_file: bool = True
    ) -> tuple[str, ...]:
        return self.known.get(name) or ((name,) if is_ip(name) else ())

    async def query(self, name: str, rdtype: str) -> Any:
        raise NotImplementedError

    async def names(self, address: str) -> tuple[str, ...]:
        return ()


class Retry:
    """Provides ``IHostRetry``."""

    def __init__(self) -> None:
        self.not_due: set[str] = set()
        self.expired = False
        self.failures: list[HostFailure] = []
        self.good: list[Host] = []

    def may_try(self, message: Message, host: Host) -> bool:
        return host.address not in self.not_due

    async def claim(self, message: Message, host: Host, seconds: float) -> bool:
        return self.may_try(message, host)

    async def failed(self, message: Message, failure: HostFailure, domain: str) -> None:
        self.failures.append(failure)

    def worked(self, host: Host) -> None:
        self.good.append(host)

    def release(self, host: Host) -> None:
        pass

    def given_up(self, message: Message, hosts: Sequence[Host]) -> bool:
        return self.expired

    def untried(self, message: Message, host: Host) -> bool:
        return True


class World:
    """Everything around a delivery; ``outcomes`` holds what was recorded, in order."""

    def __init__(self, *transports: Transport, hop: NextHop | None = None, **options: Any) -> None:
        self.clock = options.pop("clock", None) or Clock()
        self.log = RecordingLog()
        self.hop = hop or NextHop()
        self.retry: Any = options.pop("retry", None) or Retry()
        self.outcomes: list[Outcome] = []
        self.batches: list[int] = []
        self.hold: Deferred[None] | None = None
        resolver = options.pop("resolver", Resolver())
        settings = {"primary_hostname": "me.example"}
        services = Services(self.clock, settings, lambda name: None, resolver)
        self.delivering = Delivering(
            {transport.name: transport for transport in transports},
            services,
            self.log,
            resolver,
            self.retry,
            options.pop("threads", InlineThreads()),
            self.clock,
            connector=self.hop,
            **options,
        )

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        if self.hold is not None:
            await self.hold
        self.outcomes += outcomes
        self.batches.append(len(outcomes))

    def start(self, mail: Message, *addresses: RoutedAddress) -> Deferred[None]:
        return Deferred.fromCoroutine(self.delivering.deliver(mail, addresses, self.record))

    def deliver(self, mail: Message, *addresses: RoutedAddress) -> list[Outcome]:
        """Deliver to the end, without time passing; return this delivery's outcomes."""
        before = len(self.outcomes)
        done: list[None] = []
        failed: list[object] = []
        self.start(mail, *addresses).addCallbacks(done.append, failed.append)
        assert done and not failed, (failed, "delivery waits")
        return self.outcomes[before:]

    def results(self, mail: Message, *addresses: RoutedAddress) -> list[Result]:
        return [outcome.result for outcome in self.deliver(mail, *addresses)]
