"""An LMTP (or SMTP) server in a thread that takes all mail and keeps the books about it.

Recipients whose local part begins with ``bad`` are refused.  A message counts as delivered when
its end was read and before it is answered, so that a sender who hears nothing may send it again:
duplicates are expected, losses are not.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socketserver
import threading
from collections import Counter

from tests.real import machine

MARK = re.compile(rb"^X-Mark: (\S+)", re.MULTILINE)


class Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: _Server | _TcpServer

    def say(self, line: str) -> None:
        """Answer."""
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the sender may go without a word
            self.converse()

    def converse(self) -> None:
        self.say("220 sink LMTP")
        recipients: list[bytes] = []
        while line := self.rfile.readline(10_000):
            verb = line[:4].upper()
            if verb in (b"LHLO", b"EHLO"):
                self.say("250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES")
            elif verb == b"RCPT" and line[8:].lower().startswith(b"<bad"):
                self.say("550 5.1.1 no such user")
            elif verb == b"DATA":
                if recipients:
                    self.say("354 go on")
                    self.take(recipients)
                else:
                    self.say("503 5.5.1 no recipients")
                recipients = []
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                if verb == b"RCPT":
                    recipients.append(line[8:].split(b">")[0].lstrip(b"<"))
                elif verb in (b"MAIL", b"RSET"):
                    recipients = []
                self.say("250 2.0.0 ok")

    def take(self, recipients: list[bytes]) -> None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return  # broken off: not taken
            lines.append(line)
        self.record(b"".join(lines), recipients)
        for _ in recipients[:1] if self.server.sink.smtp else recipients:
            self.say("250 2.0.0 taken")

    def record(self, message: bytes, recipients: list[bytes]) -> str:
        """Write a message in the books; return its mark."""
        return self.server.sink.take(message, recipients)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128
    sink: Sink


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    sink: Sink


class Sink:
    """``delivered`` and ``bounced`` count messages by their mark (X-Mark of the header).

    It speaks LMTP on ``socket``; with an ``address`` (IP address and port), SMTP there.
    """

    def __init__(
        self, address: tuple[str, int] | None = None, session: type[Session] = Session
    ) -> None:
        self.folder = machine.folder("sink")
        self.socket = self.folder / "lmtp"
        self.delivered: Counter[str] = Counter()
        self.bounced: Counter[str] = Counter()
        self.sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        self.smtp = address is not None
        self._server: _Server | _TcpServer
        if address is not None:
            self._server = _TcpServer(address, session)
        else:
            self._server = _Server(str(self.socket), session)
            self.socket.chmod(0o666)
        self._server.sink = self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, message: bytes, recipients: list[bytes]) -> str:
        """Write a message in the books and return its mark; one to ``sender…`` is a bounce."""
        found = MARK.search(message)
        mark = found[1].decode() if found else "unmarked"
        book = self.bounced if recipients[0].startswith(b"sender") else self.delivered
        with self._lock:
            book[mark] += 1
            self.sizes[mark] = len(message)
        return mark

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)
