"""Tests of mailsrv.net.unixsocket."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from unittest import mock

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.net.unixsocket import PAUSE, SharedPort, bind_unix


class UnixSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.path = os.fspath(folder / "lmtp")

    def bind(self, mode: int = 0o660, **more: object) -> socket.socket:
        made = bind_unix(self.path, mode=mode, **more)  # type: ignore[arg-type]
        self.addCleanup(made.close)
        return made

    def test_mode_and_group(self) -> None:
        """They are as asked for, whatever the umask, and also below a long path."""
        for name in ("lmtp", "x" * 120 + "/lmtp"):
            self.path = os.path.join(os.path.dirname(self.path), name)
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            before = os.umask(0o077)
            try:
                self.bind(0o622, group=os.getgid())
            finally:
                os.umask(before)
            found = os.stat(self.path)
            self.assertTrue(stat.S_ISSOCK(found.st_mode))
            self.assertEqual(stat.S_IMODE(found.st_mode), 0o622)

    def test_nobody_may_connect_too_early(self) -> None:
        """It is closed to others from its first moment, without the umask, which threads share."""
        modes = []

        def chmod(path: str, mode: int) -> None:
            modes.append(stat.S_IMODE(os.stat(path).st_mode))

        with mock.patch("os.chmod", chmod), mock.patch("os.umask", side_effect=AssertionError):
            self.bind(0o666)
        self.assertEqual(modes, [0o600])

    def test_what_a_former_server_left(self) -> None:
        """A socket that nobody serves is replaced; a served one and a file are not."""
        first = self.bind()
        self.assertRaises(OSError, self.bind)
        first.close()
        second = self.bind()
        self.bind(displace=True)
        second.close()
        os.unlink(self.path)
        Path(self.path).write_text("a file")
        self.assertRaises(FileExistsError, self.bind, displace=True)
        self.assertEqual(Path(self.path).read_text(), "a file")


class Reactor(Clock):
    """A clock that knows who is watched, and keeps what was accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.accepted = 0

    def addReader(self, reader: object) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:
        self.readers.remove(reader)

    def adoptStreamConnection(self, fileno: int, family: int, factory: object) -> None:
        os.fstat(fileno)
        self.accepted += 1


class SharedPortTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp()  # a short path
        self.addCleanup(shutil.rmtree, folder)
        self.path = os.path.join(folder, "lmtp")
        self.socket = bind_unix(self.path, mode=0o622)
        self.addCleanup(self.socket.close)
        self.reactor = Reactor()
        self.port = SharedPort(self.reactor, self.socket.fileno(), Factory())

    def connect(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.connect(self.path)

    def test_accepts_and_leaves_the_path_alone(self) -> None:
        """Mode and path stay, whoever stops accepting; the socket stays its owner's."""
        self.connect()
        self.connect()
        self.port.doRead()
        self.port.doRead()  # another process was quicker
        self.assertEqual(self.reactor.accepted, 2)
        self.port.stopListening()
        self.assertEqual(self.reactor.readers, [])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o622)
        self.connect()

    def test_no_more_files(self) -> None:
        """It waits a moment, and does not spin."""
        with mock.patch.object(self.port, "_socket") as broken:
            broken.accept.side_effect = OSError(24, "Too many open files")
            self.port.doRead()
        self.assertEqual(self.reactor.readers, [])
        self.reactor.advance(PAUSE)
        self.assertEqual(self.reactor.readers, [self.port])
        self.port.stopListening()
