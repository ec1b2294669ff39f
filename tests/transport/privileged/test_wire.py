"""Requests and answers between a serving process and the privileged one."""

from __future__ import annotations

import json
import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.mail.status import Status
from mailsrv.transport.maildir import Maildir
from mailsrv.transport.mbox import Busy, Mailbox, OverQuota
from mailsrv.transport.privileged import wire
from mailsrv.transport.privileged.client import RemoteWriter

REQUEST = wire.Request("t", "anna", "", False, Maildir("/home/anna/Maildir", "host"), 10, 1.5)


class RequestTest(SynchronousTestCase):
    """A request is one datagram."""

    def test_there_and_back(self) -> None:
        for place in (Maildir("/a\xff", "h"), Mailbox("/b", "h", quota=3)):
            request = wire.Request("t", "u", "g", True, place, 7)
            self.assertEqual(wire.Request.unpacked(request.packed()), request)

    @given(st.binary(max_size=200))
    def test_what_is_no_request(self, octets: bytes) -> None:
        self.assertRaises(
            (ValueError, TypeError, KeyError, AttributeError), wire.Request.unpacked, octets
        )

    def test_values_that_are_no_texts(self) -> None:
        good = json.loads(REQUEST.packed())
        for change in ({"user": 0}, {"user": "a\0"}, {"kind": "Popen"}, {"place": {"path": 1}}):
            octets = json.dumps({**good, **change}).encode()
            self.assertRaises((ValueError, TypeError, KeyError), wire.Request.unpacked, octets)


class ErrorTest(SynchronousTestCase):
    """Errors arrive as what they were."""

    def test_each_kind(self) -> None:
        full = OverQuota(Status(452, 2, 2, "full"), "mailbox is full")
        for error in (full, Busy("lock file"), TemporaryFailure(reason="no space")):
            again = wire.error_of(wire.failure_line(error))
            self.assertIs(type(again), type(error))
            self.assertEqual(str(again), str(error))
        status = wire.error_of(wire.failure_line(full))
        assert isinstance(status, OverQuota)
        self.assertEqual(status.status, full.status)


class RemoteWriterTest(SynchronousTestCase):
    """The writer of the serving process, with a privileged process that misbehaves."""

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_one_that_is_gone(self) -> None:
        self.theirs.close()
        self.assertRaises(TemporaryFailure, RemoteWriter, self.ours, REQUEST)

    def answering(self, *lines: bytes) -> socket.socket:
        """Let the next request find these answers; return the other end of its stream."""
        import threading

        result: list[socket.socket] = []

        def answer() -> None:
            _, handles, _, _ = socket.recv_fds(self.theirs, 65536, 1)
            stream = socket.socket(fileno=handles[0])
            for line in lines:
                stream.sendall(line)
            result.append(stream)
            if lines[-1:] == (b"",):
                stream.close()

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(lambda: [each.close() for each in result])
        return None  # type: ignore[return-value]

    def test_a_refusal(self) -> None:
        self.answering(b'{"error": "temporary", "reason": "no such user"}\n')
        failure = self.assertRaises(TemporaryFailure, RemoteWriter, self.ours, REQUEST)
        self.assertEqual(failure.reason, "no such user")

    def test_an_answer_that_is_none(self) -> None:
        for answer in (b"nonsense\n", b"[1]\n", b""):
            self.answering(*([answer, b""] if answer else [b""]))
            self.assertRaises(TemporaryFailure, RemoteWriter, self.ours, REQUEST)

    def test_the_end_before_the_message_is_written(self) -> None:
        self.answering(b'{"ok": true}\n', b'{"error": "quota", "reason": "full"}\n', b"")
        writer = RemoteWriter(self.ours, REQUEST)
        self.addCleanup(writer.abort)

        def write() -> None:
            for _ in range(100):
                writer.write(b"x" * 100000)

        self.assertEqual(self.assertRaises(OverQuota, write).reason, "full")
