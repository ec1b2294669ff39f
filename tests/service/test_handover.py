"""What the supervisor and its workers pass to each other."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigErrors
from mailsrv.service.handover import Channel, Message
from mailsrv.service.privileges import Account
from mailsrv.service.source import Snapshot, Source


class Reactor:
    """Watches nothing: the tests call ``doRead`` themselves."""

    def __init__(self) -> None:
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.remove(reader)


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.got: list[tuple[Message, list[bytes]]] = []
        self.ends: list[str] = []
        self.reactor = Reactor()
        self.left = Channel(self.reactor, one, self.take, lambda: self.ends.append("left"))
        self.right = Channel(self.reactor, other, self.take, lambda: self.ends.append("right"))
        self.addCleanup(self.left.close)
        self.addCleanup(self.right.close)

    def take(self, message: Message, files: list[int]) -> None:
        self.got.append((message, [os.pread(each, 100, 0) for each in files]))

    def test_messages_stay_apart_and_bring_their_files(self) -> None:
        """Descriptors are the receiver's for the time of the call."""
        file = os.memfd_create("test")
        self.addCleanup(os.close, file)
        os.write(file, b"content")
        self.assertTrue(self.left.send("one", [file], number=1))
        self.assertTrue(self.left.send("two", text="é\n"))
        before = len(os.listdir("/proc/self/fd"))
        self.right.doRead()
        self.right.doRead()
        self.right.doRead()  # nothing is there
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertEqual(
            self.got,
            [({"kind": "one", "number": 1}, [b"content"]), ({"kind": "two", "text": "é\n"}, [])],
        )

    def test_the_end_of_the_other_side(self) -> None:
        """It is told once; nothing can be sent any more."""
        self.left.close()
        self.right.doRead()
        self.assertEqual(self.ends, ["right"])
        self.assertFalse(self.right.send("one"))
        self.assertEqual(self.reactor.readers, [])

    def test_one_that_does_not_read(self) -> None:
        """Sending never blocks: it says that it could not."""
        sent = [self.left.send("text", text="x" * 5000) for _ in range(200)]
        self.assertTrue(sent[0])
        self.assertFalse(sent[-1])


class SnapshotTests(SynchronousTestCase):
    def test_a_configuration_without_its_files(self) -> None:
        """Included files and macros too; a key is as it was, octet for octet."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        main, more = folder / "exim.conf", folder / "more"
        main.write_bytes(
            b"primary_hostname = NAME\n.include more\n.include_if_exists /nonexistent/x\n"
            b"smtp_banner = caf\xe9\n"
        )
        more.write_text(".ifdef NAME\nsmtp_accept_max = 7\n.endif\n")
        source = Source(os.fspath(main), {"NAME": "a.example"})
        _, files = source.read()
        made = Snapshot(
            source, files.texts, {"/k": b"\0\xff"}, Account(7, 8, "x"), 99, "/s", "/l/%s", 3
        )
        descriptor = made.pack()
        self.addCleanup(os.close, descriptor)
        main.unlink()
        more.unlink()
        found = Snapshot.unpack(descriptor)
        self.assertEqual(found, made)
        configuration = found.read()
        self.assertEqual(configuration.main.primary_hostname, "a.example")
        self.assertEqual(configuration.main.smtp_accept_max, 7)
        self.assertEqual(found.store().kept, {"/k": b"\0\xff"})
        self.assertRaises(ConfigErrors, source.read)
