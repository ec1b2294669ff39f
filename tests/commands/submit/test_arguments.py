"""The command line of ``mailsrv-sendmail``: what it takes, and what it refuses as exim4 does."""

from __future__ import annotations

import io

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.submit.arguments import Invocation, UsageError, parse
from mailsrv.commands.submit.message import message_of


def read(*words: str) -> Invocation:
    return parse("sendmail", words)


class ArgumentsTests(SynchronousTestCase):
    def test_taken(self) -> None:
        """What other programs say out of habit changes nothing."""
        for words in (
            "-oem", "-oee", "-oep", "-oeq", "-oew", "-em", "-odb", "-odf", "-odi", "-odq", "-odqs",
            "-oi", "-om", "-oo", "-ov", "-oB 5", "-oX 25", "-or 5m", "-os1h",
            "-oMm 1xX66i-0007nS-0t", "-oitrue",
            "-B8BITMIME", "-B 7BIT", "-h 5", "-L tag", "-X /tmp/log", "-Am", "-G", "-U", "-x", "-n",
        ):  # fmt: skip
            self.assertEqual(read(*words.split(), "x@y").recipients, ["x@y"], words)

    def test_refused(self) -> None:
        """An option that nobody knows is an error: what it was to do is not left out in silence."""
        for word in (
            "-zz",
            "-oz",
            "-oda",
            "-oex",
            "-e",
            "-oM",
            "-oMz",
            "-oMmx",
            "-",
            "-orx",
        ):
            with self.assertRaises(UsageError):
                read(word, "x@y")
        for word in ("-f", "-oMa", "-F", "-oMm"):
            with self.assertRaises(UsageError):
                read(word)

    def test_origin(self) -> None:
        words = "-oMa 192.0.2.1.25 -oMs h.example -oMtme -oMaa plain -oMai id -oMas s@x"
        request = read(*words.split(), "-p", "uucp:peer.example", "x@y").request()
        self.assertEqual((request.host_address, request.ident), ("192.0.2.1.25", "me"))
        self.assertEqual((request.authenticator, request.authenticated_id), ("plain", "id"))
        self.assertEqual(request.authenticated_sender, "s@x")
        self.assertEqual((request.protocol, request.host_name), ("uucp", "peer.example"))
        self.assertEqual(read("-oMr", "x", "a@b").request().protocol, "x")

    def test_a_line_with_a_dot_alone(self) -> None:
        """It ends the message without -i; only with its line end, as in exim4."""
        for text, dots, wanted in (
            (b"S: x\n\na\n.\nb\n", False, b"S: x\n\na\n"),
            (b"S: x\r\n\r\na\r\n.\r\nb\r\n", False, b"S: x\r\n\r\na\r\n"),
            (b"S: x\n\na\n.\nb\n", True, b"S: x\n\na\n.\nb\n"),
            (b"S: x\n\n.", False, b"S: x\n\n.\n"),
            (b"S: x\n\n..\n.a\n", False, b"S: x\n\n..\n.a\n"),
            (b"From : x\n\nb\n", False, b"From : x\n\nb\n"),
            (b"", False, b""),
        ):
            self.assertEqual(message_of(io.BytesIO(text), dots), wanted)
