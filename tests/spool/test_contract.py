"""What every spool does, the one in SQLite and its twin in memory alike."""

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.interfaces import FURTHEST, HISTORY, ISpool, QueueEntry
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted
from mailsrv.net.threads import InlineThreads
from mailsrv.spool.files import SpoolError
from mailsrv.spool.memory import MemorySpool
from mailsrv.spool.sqlite import SqliteSpool, open_database
from mailsrv.spool.writer import InlineTurns

T = TypeVar("T")


def a_message(id: str = "16VDhn-0001bo-D3", *recipients: str, **fields: Any) -> Message:
    """A message for ``recipients``."""
    values: dict[str, Any] = {
        "id": id,
        "sender": Tainted("s@example.org"),
        "recipients": tuple(Recipient(Tainted(r)) for r in recipients or ("a@b.example",)),
        "origin": Origin(host_address="192.0.2.1", helo_name=Tainted("h")),
        "headers": [Header(Tainted("Subject: x\n\ty"))],
        "body": InlineBody(b"hello\r\n"),
        "received_at": 1000.0,
    }
    return Message(**{**values, **fields})


def result(case: SynchronousTestCase, work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that does not wait."""
    return case.successResultOf(Deferred.fromCoroutine(work))


class SpoolContract:
    """The tests; ``make`` gives an empty spool."""

    def make(self) -> ISpool:
        raise NotImplementedError

    def run_(self, work: Coroutine[Any, Any, T]) -> T:
        return result(self, work)  # type: ignore[arg-type]

    def test_stored_message_comes_back(self) -> None:
        """A message is loaded as it was stored, marks included."""
        spool = self.make()
        message = a_message(
            recipients=(
                Recipient(Tainted("a@b"), frozenset({"NEVER"}), "rfc822;a", "e@f"),
                Recipient("b@b"),
            ),
            acl_m={"m0": Tainted("v")},
            ret="HDRS",
            envid="E",
            warned=2,
        )
        self.run_(spool.store(message, 5.0))
        loaded = self.run_(spool.load(message.id))
        self.assertEqual(loaded, message)
        self.assertIsInstance(loaded.recipients[0].address, Tainted)
        self.assertNotIsInstance(loaded.recipients[1].address, Tainted)

    def test_settled_recipients_are_gone(self) -> None:
        """Recipients that are done are not loaded again; parts and history are kept."""
        spool = self.make()
        self.run_(spool.store(a_message("16VDhn-0001bo-D3", "a@b", "c@d", "e@f"), 5.0))
        settle = spool.settle
        self.run_(settle("16VDhn-0001bo-D3", ["c@d"], parts=["smtp:x"], history="one\n"))
        self.run_(settle("16VDhn-0001bo-D3", ["e@f"], next_attempt=99.0, history="two\n"))
        loaded = self.run_(spool.load("16VDhn-0001bo-D3"))
        self.assertEqual([r.address for r in loaded.recipients], ["a@b"])
        self.assertEqual((loaded.delivered, loaded.parts), ({"c@d", "e@f"}, {"smtp:x"}))
        self.assertEqual(self.run_(spool.next_due()), 99.0)
        self.assertEqual(self.run_(spool.history("16VDhn-0001bo-D3")), "one\ntwo\n")

    def test_a_listing_has_what_recipients_became(self) -> None:
        """Addresses of parts that are done and are no recipients."""
        spool = self.make()
        self.run_(spool.store(a_message("16VDhn-0001bo-D3", "list@b", "a@B"), 5.0))
        parts = ["", "r:smtp:x@c", "r:smtp:a@b", "r:file:/a:b:list@b"]
        self.run_(spool.settle("16VDhn-0001bo-D3", [], parts=parts))

        async def listed() -> list[QueueEntry]:
            return [entry async for entry in spool.listing()]

        (entry,) = self.run_(listed())
        self.assertEqual(entry.made, ("/a:b:list@b", "x@c"))

    def test_history_is_bounded(self) -> None:
        """Of a message's own log the last lines are kept, whole."""
        spool = self.make()
        self.run_(spool.store(a_message(), 1.0))
        id, lines = a_message().id, [f"{number:05d} {'x' * 100}\n" for number in range(2000)]
        for start in range(0, 2000, 100):
            self.run_(spool.settle(id, [], history="".join(lines[start : start + 100])))
        history = self.run_(spool.history(id))
        assert history is not None
        self.assertTrue("".join(lines).endswith("\n" + history))
        self.assertTrue(HISTORY - 200 < len(history) <= HISTORY)

    def test_plans_of_a_wrong_clock_are_due(self) -> None:
        """What is further off than anything is planned is due, after all that really is."""
        spool = self.make()
        for number, time in enumerate((1e9, 5.0, FURTHEST + 10, FURTHEST + 11)):
            self.run_(spool.store(a_message(f"16VDhn-00000{number}-00"), time))
        due = [id[-4] for id in self.run_(spool.due(10.0, 9))]
        self.assertEqual(due, ["1", "3", "0"])
        due = [id[-4] for id in self.run_(spool.due(10.0, 1, frozenset(["16VDhn-000001-00"])))]
        self.assertEqual(due, ["3"])

    def test_due(self) -> None:
        """Due are those whose time has come and that are not frozen, the longest due first."""
        spool = self.make()
        for n, at in enumerate((30.0, 10.0, 20.0)):
            self.run_(spool.store(a_message(f"16VDhn-00000{n}-00"), at))
        self.assertIsNone(self.run_(spool.load("16VDhn-zzzzzz-00")))
        self.assertEqual(self.run_(spool.due(20.0, 9)), ["16VDhn-000001-00", "16VDhn-000002-00"])
        self.assertEqual(self.run_(spool.due(99.0, 1)), ["16VDhn-000001-00"])
        skip = frozenset({"16VDhn-000001-00"})
        self.assertEqual(self.run_(spool.due(99.0, 1, skip)), ["16VDhn-000002-00"])
        self.assertEqual(self.run_(spool.next_due(skip)), 20.0)
        frozen = replace(a_message("16VDhn-000002-00"), frozen_at=7.0)
        self.run_(spool.update(frozen, 20.0))
        self.assertEqual(self.run_(spool.next_due(skip)), 30.0)

    def test_removal_and_reports(self) -> None:
        """A removed message is gone, its report is there; removing twice is no error."""
        spool = self.make()
        self.run_(spool.store(a_message(), 5.0))
        report = a_message("16VDhn-0001bp-D3", sender="", received_at=7.0)
        self.run_(spool.remove(a_message().id, reports=[report]))
        self.run_(spool.remove(a_message().id))
        self.assertEqual(self.run_(spool.count()), 1)
        self.assertEqual(self.run_(spool.due(7.0, 9)), [report.id])

    def test_an_id_is_stored_once(self) -> None:
        """A second message with the same id is refused and the first one stays."""
        spool = self.make()
        self.run_(spool.store(a_message(sender="first"), 5.0))
        refused = Deferred.fromCoroutine(spool.store(a_message(sender="second"), 5.0))
        self.failureResultOf(refused, TemporaryFailure)
        self.assertEqual(self.run_(spool.load(a_message().id)).sender, "first")

    def test_listing(self) -> None:
        """A listing has all messages, the oldest first."""
        spool = self.make()
        for n in range(250):
            self.run_(spool.store(a_message(f"16VDhn-000{n:03}-00", "a@b", "c@d"), 5.0))
        self.run_(spool.settle("16VDhn-000007-00", ["c@d"]))

        async def collect() -> list[Any]:
            return [entry async for entry in spool.listing()]

        entries = self.run_(collect())
        self.assertEqual([e.id for e in entries], [f"16VDhn-000{n:03}-00" for n in range(250)])
        self.assertEqual((entries[7].recipients, entries[7].delivered), (("a@b",), ("c@d",)))

    def test_body_writer(self) -> None:
        """A body comes back in order; one that was aborted cannot be finished."""
        spool = self.make()

        async def receive(pieces: list[bytes]) -> Any:
            writer = spool.new_body()
            for piece in pieces:
                waiting = writer.write(piece)
                if waiting is not None:
                    await waiting
            body = await writer.finish()
            await spool.store(a_message(body=body), 5.0)
            writer.abort()
            loaded = await spool.load(a_message().id)
            assert loaded is not None
            found = b"".join([piece async for piece in loaded.body.chunks()])
            await spool.remove(a_message().id)
            return found, loaded.body.size, loaded.body.lines

        for pieces in ([], [b"a\r\n"], [b"x" * 999 + b"\n"] * 1000):
            whole = b"".join(pieces)
            expected = (whole, len(whole), whole.count(b"\n"))
            self.assertEqual(self.run_(receive(pieces)), expected)
        writer = spool.new_body()
        writer.abort()
        self.failureResultOf(Deferred.fromCoroutine(writer.finish()), TemporaryFailure)


class MemorySpoolTests(SpoolContract, SynchronousTestCase):
    def make(self) -> ISpool:
        return MemorySpool()


class SqliteSpoolTests(SpoolContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.panics: list[str] = []

    def make(self, folder: Path | None = None, **options: Any) -> SqliteSpool:
        options = {"turns": InlineTurns(), **options}
        threads = InlineThreads()
        spool = SqliteSpool(
            None,
            folder or self.folder / "0",
            self.panics.append,
            reads=threads,
            files=threads,
            **options,
        )
        self.addCleanup(lambda: result(self, spool.close()))
        return spool

    def test_group_commit(self) -> None:
        """What waits shares one commit, and no caller resumes before it."""
        commits: list[str] = []

        def connect(path: Path) -> sqlite3.Connection:
            connection = open_database(path)
            connection.set_trace_callback(lambda s: commits.append(s) if s == "COMMIT" else None)
            return connection

        turns = InlineTurns(paused=True)
        spool = self.make(turns=turns, connect=connect)
        commits.clear()
        stores = [
            Deferred.fromCoroutine(spool.store(a_message(f"16VDhn-00000{n}-00"), 1.0))
            for n in range(5)
        ]
        for store in stores:
            self.assertNoResult(store)
        turns.turn()
        for store in stores:
            self.successResultOf(store)
        self.assertEqual(commits, ["COMMIT"])

    def test_only_the_culprit_fails(self) -> None:
        """Of a group of which one cannot be stored, the others are."""
        turns = InlineTurns(paused=True)
        spool = self.make(turns=turns)
        ids = ["16VDhn-000001-00", "16VDhn-000001-00", "16VDhn-000002-00"]
        stores = [Deferred.fromCoroutine(spool.store(a_message(id), 1.0)) for id in ids]
        turns.turn()
        self.successResultOf(stores[0])
        self.failureResultOf(stores[1], TemporaryFailure)
        self.successResultOf(stores[2])
        self.assertEqual(self.run_(spool.count()), 2)

    def failing(self, error: sqlite3.Error) -> None:
        """A commit that fails gives 4xx and a clean spool; the next mail is accepted."""
        broken = [False]

        class Breaking(sqlite3.Connection):
            def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
                if broken[0] and query == "COMMIT":
                    raise error
                return super().execute(query, *values)

        def connect(path: Path) -> sqlite3.Connection:
            return sqlite3.connect(path, isolation_level=None, factory=Breaking)

        spool = self.make(connect=connect)
        broken[0] = True
        store = Deferred.fromCoroutine(spool.store(a_message(), 1.0))
        failure = self.failureResultOf(store, TemporaryFailure).value
        self.assertEqual(self.run_(spool.count()), 0)
        broken[0] = False
        self.run_(spool.store(a_message(), 1.0))
        self.status = failure.status

    def test_full_disk(self) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        self.failing(error)
        self.assertEqual((self.status.code, self.status.enhanced), (452, "4.3.1"))

    def test_failed_fsync(self) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        self.failing(error)
        self.assertEqual((self.status.code, self.status.enhanced), (451, "4.3.0"))

    def test_second_owner(self) -> None:
        """A spool has one owner."""
        self.make()
        self.assertRaises(SpoolError, self.make)

    def test_crash(self) -> None:
        """All that was committed is there after a crash, and nothing of what was not."""
        spool = self.make()
        self.run_(spool.store(a_message("16VDhn-000001-00", "a@b", "c@d"), 1.0))
        self.run_(spool.settle("16VDhn-000001-00", ["a@b"]))
        for cut in (0, 1, 4000, 5000):
            with self.subTest(cut=cut):
                copy = self.folder / f"copy{cut}"
                shutil.copytree(self.folder / "0", copy)
                with (copy / "spool.sqlite3-wal").open("ab") as wal:
                    wal.write(b"\x01" * cut)
                found = self.run_(self.make(copy).load("16VDhn-000001-00"))
                self.assertEqual([r.address for r in found.recipients], ["c@d"])

    def test_damaged_row_is_quarantined(self) -> None:
        """A row that cannot be read stays, is reported, and stops no other message."""
        spool = self.make()
        for n in (1, 2):
            self.run_(spool.store(a_message(f"16VDhn-00000{n}-00"), float(n)))
        with open_database(self.folder / "0" / "spool.sqlite3") as connection:
            connection.execute("UPDATE content SET envelope = x'ff' WHERE number = 1")
        self.assertIsNone(self.run_(spool.load("16VDhn-000001-00")))
        self.assertEqual(self.run_(spool.due(9.0, 9)), ["16VDhn-000002-00"])
        self.assertEqual(self.run_(spool.count()), 2)
        self.assertEqual(len(self.panics), 1)

        async def listed() -> list[tuple[str, bool]]:
            return [(entry.id[-4], entry.quarantined) async for entry in spool.listing()]

        self.assertEqual(self.run_(listed()), [("1", True), ("2", False)])
        self.assertIsNotNone(self.run_(spool.history("16VDhn-000001-00")))

    def test_damaged_database_is_left_alone(self) -> None:
        """A file that is no database is an error and is not touched."""
        (self.folder / "0").mkdir()
        path = self.folder / "0" / "spool.sqlite3"
        path.write_bytes(b"garbage" * 1000)
        self.assertRaises(SpoolError, self.make)
        self.assertEqual(path.read_bytes(), b"garbage" * 1000)

    def test_bodies_are_swept_and_missed(self) -> None:
        """At the start old files without a message go, messages without a file are quarantined."""
        spool = self.make(inline_limit=10)

        async def receive(id: str) -> None:
            writer = spool.new_body()
            waiting = writer.write(b"x" * 100)
            assert waiting is not None
            await waiting
            await spool.store(a_message(id, body=await writer.finish()), 1.0)

        self.run_(receive("16VDhn-000001-00"))
        self.run_(receive("16VDhn-000002-00"))
        bodies = self.folder / "0" / "bodies"
        self.assertEqual({p.stat().st_mode & 0o777 for p in bodies.iterdir()}, {0o600})
        (bodies / "stray").write_bytes(b"x")
        self.run_(spool.close())
        next(p for p in bodies.iterdir() if p.name != "stray").unlink()
        spool = self.make(inline_limit=10)
        self.assertFalse((bodies / "stray").exists())
        self.assertEqual(len(self.run_(spool.due(9.0, 9))), 1)
        self.assertEqual(len(self.panics), 2)
        self.assertIn("nobody gets (see -bp): 1", self.panics[1])

    def test_body_that_comes_back(self) -> None:
        """A message that was quarantined because its body was away is delivered when it is there.

        Until then it is counted at each start, listed as such, and can be removed.
        """
        spool = self.make(inline_limit=10)

        async def receive() -> None:
            writer = spool.new_body()
            waiting = writer.write(b"x" * 100)
            assert waiting is not None
            await waiting
            await spool.store(a_message(body=await writer.finish()), 1.0)

        async def listed() -> list[tuple[str, bool]]:
            return [(entry.sender, entry.quarantined) async for entry in spool.listing()]

        self.run_(receive())
        body = next((self.folder / "0" / "bodies").iterdir())
        away = body.rename(self.folder / "away")
        message = a_message()
        self.assertIsNone(self.run_(spool.load(message.id)))
        for _ in range(2):
            self.run_(spool.close())
            self.panics.clear()
            spool = self.make(inline_limit=10)
            self.assertEqual(len(self.panics), 1)
        self.assertEqual(self.run_(listed()), [(message.sender, True)])
        self.assertEqual(self.run_(spool.due(9.0, 9)), [])
        self.run_(spool.close())
        away.rename(body)
        spool = self.make(inline_limit=10)
        self.assertEqual(self.run_(listed()), [(message.sender, False)])
        self.assertEqual(self.run_(spool.due(9.0, 9)), [message.id])
        self.assertIsNotNone(self.run_(spool.load(message.id)))

    def test_body_that_cannot_be_looked_at(self) -> None:
        """An error that may pass quarantines nothing: the message is tried again."""
        spool = self.make(inline_limit=10)

        async def receive() -> None:
            writer = spool.new_body()
            waiting = writer.write(b"x" * 100)
            assert waiting is not None
            await waiting
            await spool.store(a_message(body=await writer.finish()), 1.0)

        self.run_(receive())
        with mock.patch("os.stat", side_effect=OSError(errno.EIO, "Input/output error")):
            loading = Deferred.fromCoroutine(spool.load(a_message().id))
            self.failureResultOf(loading, TemporaryFailure)
        self.assertIsNotNone(self.run_(spool.load(a_message().id)))
        self.assertEqual(self.panics, [])

    def test_refused_body_leaves_no_file(self) -> None:
        """A body that is aborted after it was finished, and never stored, is removed."""
        spool = self.make(inline_limit=10)

        async def receive() -> None:
            writer = spool.new_body()
            waiting = writer.write(b"x" * 100)
            assert waiting is not None
            await waiting
            await writer.finish()
            writer.abort()

        self.run_(receive())
        self.assertEqual(list((self.folder / "0" / "bodies").iterdir()), [])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.text(st.characters(max_codepoint=255)), min_size=8, max_size=8))
    def test_any_octets(self, texts: list[str]) -> None:
        """Any octets in any field come back as they were."""
        sender, address, orcpt, envid, helo, header, acl, ident = texts
        spool = self.make(self.folder / "any")
        try:
            message = a_message(
                sender=Tainted(sender),
                recipients=(Recipient(address, orcpt=orcpt), Recipient("x@y")),
                envid=envid,
                headers=[Header(header)],
                acl_m={"m": acl},
                origin=Origin(helo_name=helo, ident=ident),
            )
            self.run_(spool.store(message, 1.0))
            self.assertEqual(self.run_(spool.load(message.id)), message)
            self.run_(spool.settle(message.id, [address]))
            left = self.run_(spool.load(message.id)).recipients
            self.assertEqual([r.address for r in left], ["x@y"] if address != "x@y" else [])
            self.run_(spool.remove(message.id))
        finally:
            self.run_(spool.close())
