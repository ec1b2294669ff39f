"""The mail log as a whole: which line goes where."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.logs.log import LogSettings, MailLog
from mailsrv.mail.header import Header
from mailsrv.mail.routed import Result
from tests.logs.messages import ID, MX, RECEIVED, a_connection, a_message, an_outcome

STAMP = "2001-09-09 01:46:40"


class MailLogTests(SynchronousTestCase):
    """Files, time stamps and the way out when nothing can be written."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.clock = Clock()
        self.clock.advance(RECEIVED)
        self.fallen: list[str] = []

    def make(self, **options: object) -> MailLog:
        settings = LogSettings(str(self.folder), timezone="UTC", **options)  # type: ignore[arg-type]
        log = MailLog(
            settings,
            self.clock,
            fallback=self.fallen.append,
            syslog_socket=str(self.folder / "devlog"),
        )
        self.addCleanup(log.close)
        return log

    def lines(self, stream: str = "main") -> list[str]:
        path = self.folder / "log" / f"{stream}log"
        return path.read_text().splitlines() if path.exists() else []

    def test_events_are_stamped_lines_of_the_main_log(self) -> None:
        log = self.make()
        message = a_message()
        log.received(message)
        log.delivered(message, an_outcome())
        log.delivered(message, an_outcome(), additional=True)
        log.deferred(message, an_outcome(Result.DEFERRED))
        log.failed(message, an_outcome(Result.FAILED))
        log.completed(message)
        self.assertEqual(
            [line.split(" ")[3] for line in self.lines()],
            ["<=", "=>", "->", "==", "**", "Completed"],
        )
        for line in self.lines():
            self.assertTrue(line.startswith(f"{STAMP} {ID} "), line)

    def test_time_zone_milliseconds_and_pid(self) -> None:
        log = self.make(log_timezone=True, log_selector="+pid +millisec")
        self.clock.advance(0.25)
        log.main("Start")
        self.assertEqual(self.lines(), [f"{STAMP}.250 +0000 [{os.getpid()}] Start"])

    def test_a_zone_name_changes_the_time(self) -> None:
        settings = LogSettings(str(self.folder), timezone="Asia/Tokyo", log_timezone=True)
        log = MailLog(settings, self.clock)
        self.addCleanup(log.close)
        log.main("x")
        self.assertEqual(self.lines(), ["2001-09-09 10:46:40 +0900 x"])

    def test_bad_settings_are_refused(self) -> None:
        for bad in ({"log_selector": "+x"}, {"log_file_path": "rel/%s"}):
            self.assertRaises(ConfigError, lambda bad=bad: self.make(**bad))
        self.assertRaises(
            ConfigError, MailLog, LogSettings(str(self.folder), timezone="Mars/X"), self.clock
        )

    def test_local_part_alone_for_routers_that_say_so(self) -> None:
        log = self.make(log_as_local=frozenset({"dovecot"}))
        log.delivered(a_message(), an_outcome())
        log.delivered(a_message(), an_outcome(remote=True))
        self.assertIn("=> to <to@example.org> ", self.lines()[0])
        self.assertIn("=> to@example.org ", self.lines()[1])
        log.delivered(a_message(), an_outcome(host=MX))
        self.assertIn("=> to@example.org ", self.lines()[2])

    def test_refusal_goes_to_main_and_reject_log_the_header_to_the_latter(self) -> None:
        log = self.make()
        log.rejected(a_connection(), "rejected after DATA", "no", [Header("Subject: x\n\x1by")])
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(self.lines("reject")[0], self.lines()[0])
        self.assertEqual(self.lines("reject")[-2:], ["  Subject: x", r"  \033y"])

    def test_a_line_can_go_to_the_reject_log_alone(self) -> None:
        self.make().reject("from an ACL", ID)
        self.assertEqual((self.lines(), self.lines("reject")), ([], [f"{STAMP} {ID} from an ACL"]))

    def test_reject_log_can_be_off(self) -> None:
        self.make(write_rejectlog=False).rejected(a_connection(), "rejected RCPT <a@b>", "no")
        self.make(write_rejectlog=False).reject("from an ACL")
        self.assertEqual((len(self.lines()), self.lines("reject")), (1, []))

    def test_panic_log_has_the_traceback_and_the_main_log_one_line(self) -> None:
        log = self.make()
        try:
            raise ValueError("two\nlines")
        except ValueError as error:
            log.panic("in test", error)
        self.assertEqual(self.lines(), [f"{STAMP} in test: ValueError: two\\nlines"])
        self.assertEqual(self.lines("panic")[1], "Traceback (most recent call last):")

    def test_hostile_text_stays_one_line(self) -> None:
        self.make().main(f"helo x\r\n{STAMP} {ID} Completed")
        self.assertEqual(len(self.lines()), 1)

    def test_what_cannot_be_written_falls_back_and_is_counted(self) -> None:
        """A log that cannot be written never raises: mail goes on."""
        (self.folder / "log").write_text("in the way")
        log = self.make()
        log.main("one")
        self.assertEqual((self.fallen, log.lost), ([f"{STAMP} one"], 1))
        (self.folder / "log").unlink()
        log.main("two")
        self.assertEqual(self.lines(), [f"{STAMP} two"])

    def test_reopen_takes_the_new_file_at_once(self) -> None:
        log = self.make()
        log.main("one")
        (self.folder / "log" / "mainlog").rename(self.folder / "log" / "mainlog.1")
        log.reopen()
        log.main("two")
        self.assertEqual(self.lines(), [f"{STAMP} two"])

    def test_json_twin(self) -> None:
        log = self.make(log_json=True)
        log.received(a_message(sender="caf\xc3\xa9@x\n"))
        log.failed(a_message(), an_outcome(Result.FAILED, reason="no"))
        log.rejected(a_connection(), "rejected RCPT <a@b>", "no")
        events = [json.loads(line) for line in self.lines("json")]
        self.assertEqual([event["event"] for event in events], ["received", "failed", "rejected"])
        self.assertEqual(events[0]["sender"], "café@x\n")
        self.assertEqual(events[1]["reason"], "no")

    def syslog(self) -> socket.socket:
        daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(daemon.close)
        daemon.bind(str(self.folder / "devlog"))
        daemon.setblocking(False)
        return daemon

    def entries(self, daemon: socket.socket) -> list[tuple[int, str]]:
        found = []
        while True:
            try:
                head, _, text = daemon.recv(9999).decode().partition("]: ")
            except BlockingIOError:
                return found
            found.append((int(head[1 : head.index(">")]) % 8, text))

    def test_syslog_beside_files_without_duplicates(self) -> None:
        """The article's settings: a refusal goes to syslog once, as a notice."""
        daemon = self.syslog()
        log = self.make(log_file_path=": syslog", syslog_duplication=False)
        log.main("one")
        log.rejected(a_connection(False), "rejected EHLO", "no")
        self.assertEqual([priority for priority, _ in self.entries(daemon)], [6, 5])
        self.assertEqual(len(self.lines()), 2)

    def test_syslog_duplicates_by_default_and_can_omit_the_time(self) -> None:
        daemon = self.syslog()
        log = self.make(log_file_path="syslog", syslog_timestamp=False, log_timezone=True)
        log.panic("bad")
        self.assertEqual(self.entries(daemon), [(6, "bad"), (1, "bad")])
        self.assertEqual(self.lines(), [])

    def test_a_missing_syslog_is_no_loss_if_there_are_files(self) -> None:
        log = self.make(log_file_path=": syslog")
        log.main("x")
        self.assertEqual((log.lost, self.fallen), (0, []))
