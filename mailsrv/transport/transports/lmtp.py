"""The ``lmtp`` transport (chapter 28): a local LMTP server on a Unix socket, such as Dovecot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mailsrv.config.options import option
from mailsrv.config.types import BOOLEAN, COMMAND, EXPANDED, TIME
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.expansion.paths import as_path
from mailsrv.transport.batching import BatchingTransport
from mailsrv.transport.limits import Key
from mailsrv.transport.transport import Batch, expand

if TYPE_CHECKING:
    from mailsrv.transport.dialogue import Plan

PER_USER = 10  # deliveries to one recipient at a time: Dovecot's lmtp_user_concurrency_limit


class Lmtp(BatchingTransport):
    """Delivers over LMTP to a Unix-domain socket."""

    command = option(COMMAND, help="a program to speak LMTP with", unbuilt=True)
    ignore_quota = option(BOOLEAN, default=False, help="add IGNOREQUOTA to RCPT where offered")
    socket = option(EXPANDED, help="path of the Unix-domain socket")
    timeout = option(TIME, default=300, help="how long each step may take")

    def check(self) -> None:
        """See :meth:`OptionSet.check`."""
        super().check()
        if (self.socket is None) == (self.command is None):
            raise ConfigError(
                f"{self.name} transport: one of command and socket must be set, and only one",
                self.where,
            )

    async def deliver(self, batch: Batch) -> None:
        """See :meth:`Transport.deliver`."""
        from mailsrv.transport.dialogue import attempt
        from mailsrv.transport.headers import content_of, filtered

        plan = await self.plan(batch)
        content = await filtered(self, batch, await content_of(self, batch))
        wanted = self._limits(batch, plan.hop.target.address)
        async with batch.facilities.limits.hold(wanted, batch.crew):
            await attempt(plan, batch, batch.addresses, content, batch.settle, last=True)

    async def plan(self, batch: Batch) -> Plan:
        """Return how to talk to the server.

        :raises TemporaryFailure: the path cannot be expanded, or is none.
        """
        from mailsrv.transport.connection import Target, Timeouts
        from mailsrv.transport.dialogue import Plan, helo_name
        from mailsrv.transport.pool import Hop

        path = as_path(await expand(self.socket, batch.scope()), "LMTP socket")
        if not path.startswith("/"):
            raise TemporaryFailure(reason=f"unsafe path for an LMTP socket: {path!r}")
        time = float(self.timeout)
        return Plan(
            Hop(self.name, Target(path), helo_name(batch.facilities.hostname), lmtp=True),
            Timeouts(connect=time, command=time, data=time, final=time),
            ignore_quota=self.ignore_quota,
            include_affixes=self.rcpt_include_affixes,
        )

    async def callout_plans(self, batch: Batch) -> Sequence[Plan]:
        """See :meth:`Transport.callout_plans`."""
        return (await self.plan(batch),)

    def _limits(self, batch: Batch, path: str) -> Mapping[Key, int]:
        users: dict[Key, int] = {
            ("user", path, address.address.lower()): PER_USER for address in batch.addresses
        }
        return {("hop", path): batch.facilities.per_hop, **users}
