"""Datagrams that an ACL sends, and the name of a queue."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action
from tests.acl.harness import Bench
from tests.doubles.resolver import DictResolver


class UdpSendTests(SynchronousTestCase):
    def test_a_datagram(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(5)
            port = receiver.getsockname()[1]
            bench = Bench(
                f"warn udpsend = <; log.example;{port};got $local_part; so\naccept",
                resolver=DictResolver({("log.example", "A"): ["127.0.0.1"]}),
            )
            self.assertEqual(bench.check().action, Action.ACCEPT)
            self.assertEqual(receiver.recv(100), b"got alice; so")

    def test_faults(self) -> None:
        for argument, problem in (
            ("", "missing or malformed host"),
            ("<; 127.0.0.1;x;y", "missing or malformed port number"),
            ("<; 127.0.0.1;9;", "missing or malformed string"),
            ("<; nowhere.example;9;x", "unknown host nowhere.example"),
        ):
            bench = Bench(f"deny udpsend = {argument}", resolver=DictResolver())
            verdict = bench.check()
            self.assertEqual(verdict.action, Action.DEFER)
            self.assertIn(problem, verdict.log_message)


class QueueTests(SynchronousTestCase):
    def test_one_queue(self) -> None:
        """A name changes nothing, which a warning says."""
        bench = Bench("accept queue = slow", AclPhase.MAIL)
        self.assertEqual(bench.check().action, Action.ACCEPT)
        (note,) = bench.table.notes()
        self.assertIn("queue has no effect here", note)
