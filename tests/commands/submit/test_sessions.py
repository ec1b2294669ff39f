"""``-bS``: what stands in a batch, and how it ends."""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands.submit.sessions import Batched, batched

ONE = b"MAIL FROM:<x@y.example>\nRCPT TO:<a@b.example>\nDATA\nSubject: s\n\n..dot\n.\n"


class BatchTests(SynchronousTestCase):
    def run_batch(self, text: bytes, *statuses: int) -> tuple[int, str]:
        self.taken: list[Batched] = []
        answers = iter(statuses)
        told = io.StringIO()

        def submit(message: Batched) -> int:
            self.taken.append(message)
            return next(answers, 0)

        with contextlib.redirect_stderr(told):
            return batched(io.BytesIO(text), submit), told.getvalue()

    def test_messages(self) -> None:
        """HELO, EHLO and RSET forget the envelope, others do nothing, QUIT ends it (5.2)."""
        text = b"EHLO x\n" + ONE + b"VRFY x\nHELP\n\nMAIL FROM:<q@r.example>\nRSET\n"
        text += (
            b'mail from: <> SIZE=5\r\nRCPT TO:<"a b>"@c.example> NOTIFY=NEVER\r\nrcpt to:d@e\r\n'
        )
        text += b"DATA\r\nx\r\n.\r\nQUIT\r\nRUBBISH\n"
        self.assertEqual(self.run_batch(text), (0, ""))
        self.assertEqual(
            self.taken,
            [
                Batched("x@y.example", ["a@b.example"], b"Subject: s\n\n.dot\n"),
                Batched("<>", ['"a b>"@c.example', "d@e"], b"x\n"),
            ],
        )
        self.assertEqual(self.run_batch(b""), (0, ""))

    def test_errors(self) -> None:
        """The first ends it: 1 if something was accepted before, else 2; the place is told."""
        for text, status, told, count in (
            (ONE + b"RUBBISH\n" + ONE, 1, "line 8: RUBBISH\n500", 1),
            (b"RUBBISH\n" + ONE, 2, "line 1: RUBBISH\n500", 0),
            (b"RCPT TO:<a@b>\n", 2, "503 sender not yet given", 0),
            (b"MAIL FROM:<a@b>\nMAIL FROM:<c@d>\n", 2, "line 2: MAIL FROM:<c@d>\n503", 0),
            (b"MAIL FROM:<a@b>\nDATA\nx\n.\n", 2, "503 valid RCPT command must precede", 0),
            (b"MAIL a@b\n", 2, "501 syntax error", 0),
            (ONE[:-2], 2, "line 6: DATA\nunexpected end of file", 0),
        ):
            found, said = self.run_batch(text)
            self.assertEqual((found, len(self.taken)), (status, count), text)
            self.assertIn(told, said)
            self.assertIn(f"{count} message(s) accepted before the error", said)

    def test_refused(self) -> None:
        for statuses, wanted in (((1,), 2), ((0, 1), 1), ((75,), 75), ((0, 75), 1)):
            found, said = self.run_batch(ONE * 3, *statuses)
            self.assertEqual((found, len(self.taken)), (wanted, len(statuses)))
            self.assertIn(f"line {7 * len(statuses)}: the message was not taken", said)
