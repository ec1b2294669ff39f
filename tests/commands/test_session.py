"""``mailsrv -bh``: a session on the terminal, in which nothing is for real."""

from __future__ import annotations

import contextlib
import io
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.main import main

CONFIGURATION = """
primary_hostname = mx.example
smtp_banner = mx.example ready
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny message = not from $sender_host_address port $sender_host_port
       !hosts = <; 192.0.2.9 ; 2001:db8::1
  require verify = recipient/callout
  accept
begin routers
all:
  driver = accept
  local_parts = b
  transport = away
begin transports
away:
  driver = lmtp
  socket = /nonexistent/socket
"""
SESSION = """EHLO x
MAIL FROM:<a@old.example>
RCPT TO:<b@x>
RCPT TO:<c@x>
DATA
From: a

.
QUIT
"""


class SessionTests(SynchronousTestCase):
    """What Exim prints for the same, but for the id."""

    def session(self, action: str, host: str, text: str = SESSION) -> list[str]:
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        path = os.path.join(folder, "exim.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(folder=folder))
        printed = io.StringIO()
        with (
            mock.patch.dict(os.environ),
            mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()))),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            self.status = main(["-C", path, action, host])
        self.assertEqual(os.listdir(folder), ["exim.conf"], "nothing is stored or logged")
        return printed.getvalue().split("\n")

    def test_accepted(self) -> None:
        lines = self.session("-bh", "192.0.2.9")
        self.assertEqual(self.status, 0)
        self.assertEqual(
            lines[:6],
            [
                "",
                "**** SMTP testing session as if from host 192.0.2.9",
                "**** but without any ident (RFC 1413) callback.",
                "**** This is not for real!",
                "",
                "220 mx.example ready",
            ],
        )
        self.assertEqual(lines[6], "250-mx.example Hello x [192.0.2.9]")
        rest = lines[lines.index("250 HELP") + 1 :]
        self.assertEqual(rest[:3], ["250 OK", "250 Accepted", "550 Unrouteable address"])
        self.assertTrue(rest[4].startswith("250 OK id="))
        self.assertEqual(rest[6], "**** SMTP testing: that is not a real message id!")
        self.assertEqual(rest[8], "221 mx.example closing connection")

    def test_other_hosts(self) -> None:
        """The port may be given, and the end of the input ends the session."""
        text = "HELO x\nMAIL FROM:<>\nRCPT TO:<b@x>\n"
        self.assertIn("550 not from 192.0.2.1 port 25", self.session("-bh", "192.0.2.1.25", text))
        self.assertIn("250 Accepted", self.session("-bh", "2001:db8::1", text))

    def test_callouts(self) -> None:
        """They are done with ``-bhc`` alone: here nobody answers."""
        self.assertTrue(any(each.startswith("451") for each in self.session("-bhc", "192.0.2.9")))

    def test_no_address(self) -> None:
        self.assertEqual(self.session("-bh", "mx.example"), [""])
        self.assertEqual(self.status, 1)
