"""Debian's postfix, as its package is set up but for what the work needs."""

from __future__ import annotations

from bench.peers import family
from tests.real import machine
from tests.real.postfix import Postfix as Sender

_MAIN = """
relayhost =
mydestination =
relay_domains = x.example
relay_transport = lmtp:inet:127.0.0.1:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtp_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
message_size_limit = 60000000
default_process_limit = 1000
qmgr_message_active_limit = 20000
smtp_connection_cache_on_demand = yes
lmtp_connection_cache_on_demand = yes
lmtp_connection_cache_destinations = static:all
{queue_only}
"""
_MASTER = """
127.0.0.1:{port} inet n - n - 1000 smtpd
relay      unix  - - n - - smtp
lmtp       unix  - - n - - lmtp
proxymap   unix  - - n - - proxymap
"""


class Postfix(Sender):
    """See :class:`bench.peers.Peer`."""

    name = "postfix"

    def __init__(self, sink_port: int, *, deliver: bool) -> None:
        super().__init__(0, "")
        self._port = machine.free_port()
        queue_only = "" if deliver else "defer_transports = lmtp"
        etc = self.folder / "etc" / "postfix"
        with (etc / "main.cf").open("a") as file:
            file.write(_MAIN.format(sink=sink_port, queue_only=queue_only))
        with (etc / "master.cf").open("a") as file:
            file.write(_MASTER.format(port=self._port))

    def start(self) -> int:  # type: ignore[override]
        """See :meth:`Peer.start`."""
        super().start()
        machine.wait_until(lambda: machine.listens(("127.0.0.1", self._port)), "postfix's port")
        return self._port

    def processes(self) -> list[int]:
        """See :meth:`Peer.processes`."""
        assert self._process is not None
        return family(self._process.pid)
