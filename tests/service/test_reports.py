"""What the main options say of bounces and warnings."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import Position
from mailsrv.expansion.rewrite import Rewriter, RewriteRules, parse_rule
from mailsrv.expansion.scope import Services
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient, counted_size
from mailsrv.mail.origin import Origin
from mailsrv.net.threads import InlineThreads
from mailsrv.queue.bounce import Kind
from mailsrv.service.reports import errors_copies, report_options
from tests.doubles.log import RecordingLog


def services() -> Services:
    return Services(Clock(), {"qualify_domain": "q.example"}, lambda name: None)


def message(*headers: str) -> Message:
    return Message(
        "1xVFEI-0003bv-0y", "s@x.example", (Recipient("r@y.example"),), Origin(),
        [Header(text) for text in headers], InlineBody(b""), 0.0,
    )  # fmt: skip


class CopiesTests(SynchronousTestCase):
    def copies(self, option: str, address: str) -> list[str]:
        log = RecordingLog()
        found = drive(errors_copies(compile_string(option), services(), log)(address))
        self.assertEqual(log.events, [])
        return list(found)

    def test_the_first_pattern_that_matches_decides(self) -> None:
        """Each item is a pattern and the addresses for it, which see who gets the bounce."""
        option = "s@x.example boss@x.example, audit@x.example : *@y.example $local_part+err@$domain"
        self.assertEqual(self.copies(option, "s@x.example"), ["boss@x.example", "audit@x.example"])
        self.assertEqual(self.copies(option, "who@y.example"), ["who+err@y.example"])
        self.assertEqual(self.copies(option, "t@x.example"), [])

    def test_unset_copies_nobody(self) -> None:
        """Without the option there are no copies."""
        copies = errors_copies(None, services(), RecordingLog())
        self.assertEqual(drive(copies("s@x.example")), ())

    def test_a_fault_is_logged_and_costs_the_copy_alone(self) -> None:
        """An item that cannot be expanded is a line of the panic log."""
        log = RecordingLog()
        copies = errors_copies(compile_string("*@x.example ${nosuch}"), services(), log)
        self.assertEqual(drive(copies("s@x.example")), ())
        self.assertEqual([event for event, _ in log.events], ["panic"])


class OptionTests(SynchronousTestCase):
    def options(self, **values: Any) -> tuple[Any, RecordingLog]:
        main = SimpleNamespace(
            primary_hostname="h.example", qualify_domain="q.example", dsn_from=None,
            errors_reply_to=None, bounce_message_text=None, bounce_return_message=True,
            bounce_return_body=False, bounce_return_size_limit=5,
            bounce_return_linesize_limit=998, bounce_sender_authentication=None,
            delay_warning=(60,), delay_warning_condition=None, errors_copy=None,
            received_header_text=None, bounce_message_file=None, warn_message_file=None,
            freeze_tell=None,
        )  # fmt: skip
        vars(main).update(values)
        log = RecordingLog()
        return report_options(main, services(), log, InlineThreads()), log  # type: ignore[arg-type]

    def test_dsn_from_is_expanded_each_time(self) -> None:
        """The sender of reports is expanded; one that fails is left to the default, and logged."""
        options, _ = self.options(dsn_from=compile_string("MD <md@$qualify_domain>"))
        self.assertEqual(options["settings"]().dsn_from, "MD <md@q.example>")
        options, log = self.options(dsn_from=compile_string("${nosuch}"))
        self.assertEqual(options["settings"]().dsn_from, "")
        self.assertEqual([event for event, _ in log.events], ["panic"])

    def test_received_line_is_that_of_the_option(self) -> None:
        """received_header_text is expanded for the report; one that fails is left out."""
        text = compile_string("Received: from $sender_ident with $received_protocol id $message_id")
        options, _ = self.options(received_header_text=text)
        report = message()
        report.origin = Origin(protocol="local", ident=options["settings"]().ident)
        own = pwd.getpwuid(os.geteuid()).pw_name
        self.assertEqual(
            options["received"](report), f"Received: from {own} with local id {report.id}"
        )
        options, log = self.options(received_header_text=compile_string("${nosuch}"))
        self.assertEqual((options["received"](report), len(log.events)), ("", 1))

    def test_delay_warning_condition(self) -> None:
        """False values and they alone keep a warning back; a failure sends it."""
        for text, sent in [
            ("${if match{$h_precedence:}{bulk}{no}{yes}}", False),
            ("$domain", True),
            ("0", False),
            ("", False),
            ("${nosuch}", True),
        ]:
            options, _ = self.options(delay_warning_condition=compile_string(text))
            bulk = message("Precedence: bulk")
            self.assertIs(drive(options["may_warn"](bulk, "y.example")), sent, text)
        options, _ = self.options()
        self.assertIs(drive(options["may_warn"](message(), "")), True)

    def texts(
        self, kind: Kind, content: bytes | None, **values: Any
    ) -> tuple[list[str], list[str]]:
        """Expand a file of texts for s@x.example; return its items, and what the panic log says."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "texts")
            if content is not None:
                file.write_bytes(content)
            option = {Kind.FAILED: "bounce_message_file", Kind.DELAYED: "warn_message_file"}[kind]
            chosen = values.pop("file", str(file))
            options, log = self.options(**{option: compile_string(chosen)})
            found = drive(options["texts"](message("Subject: hi"), kind, "s@x.example", 7200.0))
        return list(found), [event for event, _ in log.events]

    def test_texts_of_bounces(self) -> None:
        """Chapter 50: items between lines of four asterisks, each expanded."""
        content = (
            b"Subject: failed <$bounce_recipient>\nX-A: b\n****\n"
            b"from $sender_address: $h_subject\n\n5 ***** 5\n****\n****\n****\n"
        )
        self.assertEqual(
            self.texts(Kind.FAILED, content),
            (
                [
                    "Subject: failed <s@x.example>\nX-A: b",
                    "from s@x.example: hi\n\n5 ***** 5",
                    "",
                    "",
                    "",
                ],
                [],
            ),
        )

    def test_texts_of_warnings(self) -> None:
        content = b"Subject: late by $warn_message_delay\n****\n$warn_message_recipients\n****\nend"
        self.assertEqual(
            self.texts(Kind.DELAYED, content),
            (["Subject: late by 2 hours", "s@x.example", "end"], []),
        )

    def test_texts_that_cannot_be_had(self) -> None:
        """No file, a bad path, a bad item: the usual text, and a line in the panic log."""
        self.assertEqual(self.texts(Kind.FAILED, None), ([], ["panic"]))
        self.assertEqual(self.texts(Kind.FAILED, b"x", file="relative"), ([], ["panic"]))
        self.assertEqual(
            self.texts(Kind.FAILED, b"x", file="/tmp/$sender_address"), ([], ["panic"])
        )
        self.assertEqual(self.texts(Kind.FAILED, b"${nosuch}\n****\ny\n"), (["", "y"], ["panic"]))


class RewritingTests(SynchronousTestCase):
    def test_reports_are_rewritten_as_other_messages(self) -> None:
        """A bounce does not tell the machine's name that rules hide (31.2)."""
        rule = parse_rule("*@machine.mydomain $1@mydomain", Position("test.conf", 1))
        options = report_options(
            SimpleNamespace(  # type: ignore[arg-type]
                bounce_message_file=None, warn_message_file=None, errors_copy=None,
                delay_warning=(), freeze_tell="",
            ),
            services(),
            RecordingLog(),  # type: ignore[arg-type]
            InlineThreads(),
            Rewriter(RewriteRules((rule,))),
        )  # fmt: skip
        report = message("From: Mailer <Mailer-Daemon@machine.mydomain>", "To: s@x.example")
        report.recipients = (Recipient("me@machine.mydomain"),)
        found = drive(options["rewritten"](report))
        self.assertEqual(found.headers[0].text, "From: Mailer <Mailer-Daemon@mydomain>")
        self.assertEqual(found.recipients[0].address, "me@mydomain")
        self.assertEqual(found.size, counted_size(found.headers, found.body))
