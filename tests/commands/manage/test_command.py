"""``mailsrv queue``: tables, filters, actions, questions."""

from __future__ import annotations

import io
import json
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands import spools
from mailsrv.commands.manage.command import Terminal, carry_out
from mailsrv.commands.manage.progress import Progress
from mailsrv.commands.manage.selection import Selection, reason
from mailsrv.commands.manage.table import Column, Table, span
from tests.commands.test_queue import ID, OTHER, FakeWorker, entry

NOW = 100_000.0
REFUSED = "2026-11-27 16:50:17 == a@b.example R=hop T=smtp Connection refused"


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class CommandTests(SynchronousTestCase):
    def command(
        self, *words: str, workers: list[FakeWorker], answer: str | None = None, columns: int = 0
    ) -> tuple[int, str]:
        out, self.errors = Screen(terminal=columns > 0), Screen()
        typed = Screen(answer or "", terminal=answer is not None)
        folders = [str(number) for number in range(len(workers))]
        with (
            mock.patch.object(spools, "worker_folders", lambda directory: folders),
            mock.patch.object(spools, "open_worker", lambda folder, *_: workers[int(folder)]),
            mock.patch.dict("os.environ", {"COLUMNS": str(columns)}),
        ):
            status = carry_out(
                lambda: spools.Workers("/spool"),
                words,
                Terminal(out, self.errors, typed, lambda: NOW),
            )
        return status, out.getvalue()

    def two(self) -> list[FakeWorker]:
        """Two messages at two workers: one frozen, one that a host refused."""
        frozen = entry(
            OTHER, frozen=True, sender="", recipients=("x@c.example",), received_at=NOW - 7200
        )
        refused = entry(
            reason=REFUSED,
            received_at=NOW - 90,
            next_attempt=NOW + 600,
            recipients=("a@b.example", "z@c.example"),
        )
        return [FakeWorker(refused), FakeWorker(frozen)]

    def test_list(self) -> None:
        """The oldest first, whole lines where nothing is cut."""
        status, text = self.command(workers=self.two())
        title, *rows = text.splitlines()
        self.assertEqual(status, 0)
        self.assertEqual(title.split()[:4], ["AGE", "SIZE", "ID", "NEXT"])
        self.assertEqual(rows[0].split(), ["2h", "720", OTHER, "frozen", "<>", "x@c.example"])
        self.assertEqual(
            rows[1].split(),
            ["1m", "720", ID, "10m", "s@x.example", "a@b.example", "(+1)", "Connection", "refused"],
        )

    def test_a_terminals_width(self) -> None:
        """No line is longer than the terminal, if that is not absurdly narrow."""
        for columns in (80, 100, 200):
            text = self.command(workers=self.two(), columns=columns)[1]
            self.assertLessEqual(max(map(len, text.splitlines())), columns)
            self.assertEqual(text.splitlines()[-1], "2 messages")

    def test_filters(self) -> None:
        for words, found in (
            (["--frozen"], {OTHER}),
            (["--sender", "<>"], {OTHER}),
            (["--sender", "S@X.example"], {ID}),
            (["--sender", "s@x"], set()),
            (["--sender", "s@x*"], {ID}),
            (["--recipient", "z@c.example"], {ID}),
            (["--domain", "c.example"], {ID, OTHER}),
            (["--domain", "*.example", "--reason", "REFUSED"], {ID}),
            (["--older-than", "1h"], {OTHER}),
            ([OTHER], {OTHER}),
            ([OTHER, "--reason", "refused"], set()),
        ):
            text = self.command("list", "--json", *words, workers=self.two())[1]
            self.assertEqual({json.loads(line)["id"] for line in text.splitlines()}, found, words)

    def test_json(self) -> None:
        """One object a line; UTF-8 is its characters, other octets are escaped."""
        worker = FakeWorker(entry(sender="\xc3\xa4\xff@x.example", reason=REFUSED))
        facts = json.loads(self.command("--json", workers=[worker])[1])
        self.assertEqual(facts["sender"], "ä\\xff@x.example")
        self.assertEqual(facts["reason"], "Connection refused")
        self.assertEqual(facts["recipients"], ["a@b.example"])

    def test_summary(self) -> None:
        """By domain and reason, the largest group first; a message counts once in the sum."""
        status, text = self.command("summary", workers=self.two())
        rows = [line.split() for line in text.splitlines()[1:]]
        self.assertEqual(status, 0)
        self.assertEqual(
            rows,
            [
                ["1", "720", "1m", "10m", "b.example", "Connection", "refused"],
                ["1", "720", "1m", "10m", "c.example", "Connection", "refused"],
                ["1", "720", "2h", "frozen", "c.example", "frozen"],
                ["2", "1.4K", "2h", "10m", "all"],
            ],
        )
        groups = self.command("summary", "--json", workers=self.two())[1].splitlines()
        self.assertEqual(json.loads(groups[0])["next_attempt"], NOW + 600)

    def test_summary_leaves_out_what_is_of_one_message(self) -> None:
        said = "2026-11-27 16:50:17 == u@b.example SMTP error after RCPT TO:<{}>: 450 later"
        workers = [FakeWorker(*(entry(reason=said.format(f"u{n}@b.example")) for n in range(3)))]
        rows = self.command("summary", workers=workers)[1].splitlines()
        self.assertEqual(len(rows), 3)

    def test_show(self) -> None:
        worker = FakeWorker(entry(), texts={ID: ["Subject: \x1b[2J\r\nX: y\r\n\r\nbody"]})
        status, text = self.command("show", ID, workers=[worker])
        self.assertEqual(status, 0)
        for line in ("sender      s@x.example", "waiting     a@b.example", "  Subject: \\033[2J"):
            self.assertIn(f"{line}\n", text)
        self.assertEqual(self.command("show", OTHER, workers=[FakeWorker()])[0], 1)

    def test_actions_ask_first(self) -> None:
        """What concerns more than one message, or cannot be undone, is asked for."""
        for answer, removed in (("y\n", True), ("n\n", False), ("", False)):
            workers = self.two()
            status, _ = self.command(
                "remove", "--domain", "c.example", workers=workers, answer=answer
            )
            self.assertIn("remove 2 messages? [y/N]", self.errors.getvalue())
            asked = [values["messages"] for do, values in workers[0].asked if do == "each"]
            self.assertEqual((status, bool(asked)), (0, True) if removed else (1, False))
        workers = self.two()
        self.assertEqual(self.command("remove", ID, workers=workers)[0], 1)  # no terminal
        self.assertIn("--yes", self.errors.getvalue())
        self.assertEqual(self.command("remove", ID, "--yes", workers=workers), (0, "1 removed\n"))
        self.assertEqual(self.command("freeze", ID, workers=workers), (0, "1 frozen\n"))
        self.assertEqual(self.command("remove", "--sender", "n", workers=workers)[0], 1)

    def test_actions_want_a_filter(self) -> None:
        """Nothing is done to all messages unless that is said."""
        for words in (["remove"], ["bounce", "--yes"], ["retry", "--json"]):
            workers = self.two()
            self.assertEqual(self.command(*words, workers=workers)[0], 1)
            self.assertIn("--all", self.errors.getvalue())
            self.assertEqual(workers[0].asked, [])
        self.assertEqual(self.command("thaw", "--all", "--yes", workers=self.two())[0], 1)

    def test_results(self) -> None:
        """What was not done is told, and makes the status 1."""
        workers = self.two()
        workers[0].locked.add(ID)
        status, text = self.command("freeze", "--all", "--yes", workers=workers)
        self.assertEqual(status, 1)
        self.assertIn(f"Message {ID} is locked\n", text)
        self.assertIn("1 frozen already, 1 could not be changed\n", text)

    def test_retry(self) -> None:
        """Retry times do not count; frozen messages are thawed if they are meant by name."""
        for words, frozen in ((["--all"], False), (["--frozen"], True), ([OTHER], True)):
            workers = self.two()
            self.command("retry", "--yes", *words, workers=workers)
            (run,) = [values for do, values in workers[1].asked if do == "run"]
            self.assertEqual((run["force"], run["frozen"], run["wait"]), (True, frozen, False))

    def test_usage(self) -> None:
        for words in (["nonsense"], ["--nosuch"], ["--older-than", "x"], ["show"], ["../x"]):
            self.assertEqual(self.command(*words, workers=self.two()), (1, ""))
            self.assertIn("mailsrv queue: ", self.errors.getvalue())


class PartTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        for line, expected in (
            (REFUSED, "Connection refused"),
            ("2026-11-27 16:50:17 ** a@b.example retry timeout exceeded", "retry timeout exceeded"),
            ("", ""),
            ("something else", "something else"),
        ):
            self.assertEqual(reason(entry(reason=line)), expected)

    def test_patterns_are_no_shell_patterns(self) -> None:
        """Only * is special."""
        self.assertTrue(Selection(sender="[a]?*").takes(entry(sender="[A]?b"), NOW))
        self.assertFalse(Selection(sender="[a]").takes(entry(sender="a"), NOW))

    def test_table(self) -> None:
        table = Table([Column("A", 2, right=True), Column("B", 4, share=1)], 12)
        self.assertEqual(table.title(), " A  B")
        self.assertEqual(table.row(["1", "0123456789"]), " 1  012345..")
        self.assertEqual(
            [span(s) for s in (-1, 59, 60, 7199, 7200, 172800)],
            ["0s", "59s", "1m", "119m", "2h", "2d"],
        )

    def test_progress(self) -> None:
        """It is told after a second, on a terminal alone, and leaves nothing."""
        times = iter([0.0, 0.5, 1.2, 1.2, 1.3, 5.0, 5.0])
        screen = Screen(terminal=True)
        progress = Progress("removed", 5, screen, clock=lambda: next(times))
        for _ in range(4):
            progress.add()
        progress.end()
        self.assertEqual(screen.getvalue(), "\rremoved: 2 of 5 \rremoved: 4 of 5 \r\x1b[K")
        silent: Any = Screen()
        Progress("x", 0, silent, clock=lambda: 0.0).add()
        self.assertEqual(silent.getvalue(), "")
