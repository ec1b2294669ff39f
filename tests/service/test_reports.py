"""What the main options say of bounces and warnings."""

from __future__ import annotations

import os
import pwd
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.scope import Services
from mailsrv.expansion.template import compile_string
from mailsrv.expansion.tree import drive
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
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
            received_header_text=None,
        )  # fmt: skip
        vars(main).update(values)
        log = RecordingLog()
        return report_options(main, services(), log), log  # type: ignore[arg-type]

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
