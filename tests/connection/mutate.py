"""Mutated SMTP sessions in memory; ``python -m tests.connection.mutate 1000000 [seed]`` runs many.

A session is one of a few good ones, with octets changed, taken away, doubled or
moved, and cut into pieces anywhere.  After each one nothing may be left: no open
body, no timer, no connection, no unexpected error; and all that was sent back
must be replies.
"""

from __future__ import annotations

import random
import re
import sys

from mailsrv.interfaces import AclPhase
from tests.connection.server import Client, Server

_GOOD = tuple(
    b"".join(line + b"\r\n" for line in session.split(b"|"))
    for session in (
        b"EHLO c.example|MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=e|"
        b"RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d.example|DATA|"
        b"Subject: x| y|From: a||..b|.|QUIT",
        b"EHLO c|MAIL FROM:<>|RCPT TO:<c@d>|BDAT 10|A: b||xxBDAT 4 LAST|ab|RSET",
        b'HELO [192.0.2.1]|MAIL FROM:<"a b"@c>|RCPT TO:<@x:a@b>|VRFY a|EXPN b|ETRN #c',
        b"EHLO c|AUTH LOGIN|dXNlcg==|cGFzcw==|MAIL FROM:<a@b> AUTH=<>|RSET|NOOP",
        b"EHLO c|AUTH PLAIN AHVzZXIAcGFzcw==|HELP|STARTTLS|MAIL FROM:<\xc3\xa9@b> SMTPUTF8",
    )
)
_SPICE = (
    b"\0", b"\r", b"\n", b"\r\n", b".", b"\r\n.\r\n", b"<", b">", b"@", b"\xff", b" ", b":", b"=",
    b"*\r\n", b"BDAT 3 LAST\r\n", b"BDAT 99999999999\r\n", b"DATA\r\n", b"+", b'"', b"\\", b"%s",
    b"${", b"[", b"A" * 3000, b"\x1b[0m", b"RCPT TO:<x@y>\r\n" * 20,
)  # fmt: skip
_REPLIES = re.compile(rb"(?:[2345][0-9][0-9](?:-[^\r\n]*\r\n[2345][0-9][0-9])*(?: [^\r\n]*)\r\n)*")


class Mutator:
    """Runs sessions against one server; ``seed`` makes a run repeatable."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.server = Server(
            smtp_enforce_sync=False, message_size_limit="2000", sender_unqualified_hosts="*",
            recipient_unqualified_hosts="*", smtp_max_synprot_errors=3,
        )  # fmt: skip
        self.server.auth.mechanisms = ["PLAIN", "LOGIN"]
        self.server.policy.sets.update((AclPhase.VRFY, AclPhase.EXPN, AclPhase.ETRN))

    def octets(self) -> bytes:
        """Make one session's octets."""
        draw = self.random
        session = bytearray(draw.choice(_GOOD))
        for _ in range(draw.randrange(6)):
            place = draw.randrange(len(session) + 1)
            length = draw.choice((1, 1, 2, 8, 40))
            kind = draw.randrange(5)
            if kind == 0:
                session[place:place] = draw.choice(_SPICE)
            elif kind == 1:
                del session[place : place + length]
            elif kind == 2:
                session[place : place + length] = draw.randbytes(length)
            elif kind == 3:
                session[place:place] = session[place : place + length]
            else:
                other = draw.choice(_GOOD)
                at = draw.randrange(len(other))
                session[place:place] = other[at : at + 4 * length]
        return bytes(session)

    def run(self, sessions: int) -> None:
        """Run sessions.

        :raises AssertionError: with the octets of the session that went wrong.
        """
        for _ in range(sessions):
            octets = self.octets()
            try:
                self._session(octets)
            except Exception as error:
                raise AssertionError(f"{error!r} in session {octets!r}") from error

    def _session(self, octets: bytes) -> None:
        server = self.server
        client = Client(server)
        sent = client.read()
        cuts = sorted(
            self.random.randrange(len(octets) + 1) for _ in range(self.random.randrange(4))
        )
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            if not client.closed:
                sent += client.raw(octets[start:end])
        if not client.closed:
            client.transport.loseConnection()
        assert _REPLIES.fullmatch(sent), f"no replies: {sent!r}"
        assert not server.log.failures, server.log.failures
        assert server.spool.open == 0, "a body is open"
        assert not server.factory.connections, "a connection is left"
        assert not server.clock.getDelayedCalls(), "a timer is left"
        for message in server.spool.messages:
            assert message.recipients, "a message without recipients"
            assert b"\0" not in (message.body.inline or b""), "a NUL was taken"
        server.spool.messages.clear()
        server.queue.ids.clear()
        server.log.events.clear()
        server.policy.calls.clear()


if __name__ == "__main__":
    Mutator(int(sys.argv[2]) if len(sys.argv) > 2 else 0).run(int(sys.argv[1]))
