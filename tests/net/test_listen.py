"""Tests of mailsrv.net.listen."""

import socket

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.net.listen import Listener, bind, listen_on, local_sockets, local_test


class ListenTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        self.assertEqual(
            listen_on(None, None, None), [Listener("::0", 25), Listener("0.0.0.0", 25)]
        )

    def test_forms(self) -> None:
        """Ports stand after a dot or, with brackets, after a colon; others get the default ones."""
        found = listen_on(
            "<; 192.0.2.1.1234 ; [192.0.2.2]:26 ; ::1 ; 3ffe::1.99 ; [3ffe::2]:465",
            "smtp : 587",
            "465",
        )
        self.assertEqual(
            found,
            [
                Listener("192.0.2.1", 1234),
                Listener("192.0.2.2", 26),
                Listener("::1", 25),
                Listener("::1", 587),
                Listener("3ffe::1", 99),
                Listener("3ffe::2", 465, True),
            ],
        )

    def test_without_ipv6(self) -> None:
        self.assertEqual(listen_on(None, "25", None, ipv6=False), [Listener("0.0.0.0", 25)])

    def test_bad(self) -> None:
        for interfaces, ports in (("foo", "25"), ("1.2.3.4.99999", "25"), ("1.2.3.4", "nosuch")):
            self.assertRaises(ConfigError, listen_on, interfaces, ports, None)

    def test_own_addresses(self) -> None:
        """Those of the interfaces are this host's, and those of extra_local_interfaces (13.8)."""
        is_local = local_test("<; 192.0.2.7 ; 2001:db8::7")
        for address in ("127.0.0.1", "192.0.2.7", "2001:DB8:0::7"):
            self.assertTrue(is_local(address), address)
        for address in ("192.0.2.8", "nonsense"):
            self.assertFalse(is_local(address), address)
        self.assertFalse(local_test(None)("192.0.2.7"))
        for unspecified in ("0.0.0.0", "::"):  # connecting to it is connecting to this host
            self.assertTrue(local_test(None)(unspecified))
        self.assertRaises(ConfigError, local_test, "192.0.2")

    def test_bind_shared(self) -> None:
        """Two sockets share a port with reuse_port."""
        first = bind(Listener("127.0.0.1", 0), reuse_port=True)
        self.addCleanup(first.close)
        second = bind(Listener("127.0.0.1", first.getsockname()[1]), reuse_port=True)
        self.addCleanup(second.close)

    def test_lmtp(self) -> None:
        """``lmtp_ports`` are listened on, too; an item that names such a port speaks LMTP."""
        self.assertEqual(
            listen_on("127.0.0.1 : 192.0.2.1.24", "25 : 24", None, "24 : 26"),
            [
                Listener("127.0.0.1", 25),
                Listener("127.0.0.1", 24, lmtp=True),
                Listener("127.0.0.1", 26, lmtp=True),
                Listener("192.0.2.1", 24, lmtp=True),
            ],
        )
        error = self.assertRaises(ConfigError, listen_on, "127.0.0.1.25", None, None, "24")
        self.assertIn("listens on port 24", str(error))

    def test_local_sockets(self) -> None:
        found = local_sockets("/run/a : /run/b : /run/a")
        self.assertEqual(
            found, [Listener("/run/a", 0, lmtp=True), Listener("/run/b", 0, lmtp=True)]
        )
        self.assertEqual([str(each) for each in found], ["/run/a", "/run/b"])
        self.assertRaises(ConfigError, local_sockets, "relative")


class BacklogTests(SynchronousTestCase):
    def test_a_crowd_waits(self) -> None:
        """Three hundred clients that come at once are all there when they are accepted."""
        listening = bind(Listener("127.0.0.1", 0))
        self.addCleanup(listening.close)
        where = listening.getsockname()
        clients = [socket.create_connection(where, 5) for _ in range(300)]
        for client in clients:
            self.addCleanup(client.close)
        accepted = []
        for _ in clients:
            accepted.append(listening.accept()[0])
            self.addCleanup(accepted[-1].close)
        self.assertEqual(len(accepted), len(clients))
