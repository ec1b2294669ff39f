"""The control socket's server: requests, refusals, clients that go away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import Locked, TemporaryFailure
from mailsrv.interfaces import QueueEntry
from mailsrv.mail.header import Header
from mailsrv.mail.message import InlineBody, Message, Recipient
from mailsrv.mail.origin import Origin
from mailsrv.service.control import (
    IDLE,
    MOST_CLIENTS,
    SIGN_OF_LIFE,
    ControlFactory,
    listen,
)
from mailsrv.service.requests import REQUEST_LIMIT, pack_entry, unpack_entry
from mailsrv.service.spoolform import header_file
from mailsrv.spool.memory import MemorySpool
from tests.doubles.log import RecordingLog

ID = "1xVFVf-0005PR-1K"


def message(id: str = ID, sender: str = "s@x.example", **values: Any) -> Message:
    values.setdefault("received_at", 1000.0)
    return Message(
        id=id,
        sender=sender,
        recipients=(Recipient("a@b.example"), Recipient("c@d.example")),
        origin=Origin(host_address="192.0.2.1", host_port=99, helo_name="me"),
        headers=[
            Header("Received: from x\n\tby y"),
            Header("To: a@b.example"),
            Header("X: \x1b[2J"),
        ],
        body=InlineBody(b"hello\r\n.dot\r\n"),
        size=720,
        **values,
    )


class FakeQueue:
    """Provides ``IQueueControl`` over a spool; ``waiting`` holds a removal until it fires."""

    def __init__(self, spool: MemorySpool) -> None:
        self.spool = spool
        self.runs: list[tuple[list[str] | None, bool, bool]] = []
        self.edits: list[Any] = []
        self.waiting: Deferred[None] | None = None
        self.failure: Exception | None = None

    async def remove(self, id: str) -> bool:
        if self.failure is not None:
            raise self.failure
        if self.waiting is not None:
            await self.waiting
        known = await self.spool.load(id) is not None
        await self.spool.remove(id)
        return known

    async def freeze(self, id: str) -> bool | None:
        return True if await self.spool.load(id) is not None else None

    async def thaw(self, id: str) -> bool | None:
        return False if await self.spool.load(id) is not None else None

    async def give_up(self, id: str) -> bool:
        return await self.remove(id)

    async def edit(self, id: str, *, sender: str | None = None, added: Iterable[str] = ()) -> bool:
        self.edits.append(sender if sender is not None else list(added))
        return True

    async def mark_delivered(self, id: str, addresses: list[str] | None) -> list[str] | None:
        self.edits.append(addresses)
        return []

    async def run_now(
        self, ids: Iterable[str] | None = None, *, force: bool = False, frozen: bool = False
    ) -> int:
        self.runs.append((None if ids is None else list(ids), force, frozen))
        return 3


class Client:
    """One client, joined to the factory in memory."""

    def __init__(self, factory: ControlFactory) -> None:
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)

    def send(self, **request: Any) -> list[dict[str, Any]]:
        self.protocol.dataReceived(json.dumps(request).encode() + b"\n")
        return self.answers()

    def answers(self) -> list[dict[str, Any]]:
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class ControlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.spool = MemorySpool()
        self.queue = FakeQueue(self.spool)
        self.clock = Clock()
        self.log = RecordingLog()
        self.uid: int | None = os.geteuid()
        self.factory = ControlFactory(
            self.spool,
            self.queue,
            clock=self.clock,
            log=self.log,
            administrators=frozenset({4711}),
            peer_uid=lambda transport: self.uid,
        )

    def store(self, *messages: Message) -> None:
        for one in messages:
            self.successResultOf(Deferred.fromCoroutine(self.spool.store(one, 0.0)))

    def test_listing(self) -> None:
        """A listing comes in pages; the last piece says that it is done."""
        self.store(*(message(f"1xVFV{n // 10}-00000{n % 10}-00") for n in range(60)))
        pieces = Client(self.factory).send(id=7, do="list")
        self.assertEqual([len(piece.get("entries", [])) for piece in pieces], [50, 10, 0])
        self.assertEqual({piece["id"] for piece in pieces}, {7})
        self.assertTrue(pieces[-1]["done"])
        entry = unpack_entry(pieces[0]["entries"][0])
        self.assertEqual((entry.id, entry.size), ("1xVFV0-000000-00", 720))

    def test_entries_survive_packing(self) -> None:
        """Any octet of an address comes back as it was."""
        entry = QueueEntry(
            ID, "\x00\xff\n@x", 1, 2.5, 3.5, True, ("a\x1b@b",), ("c@d",), True, "r", ("e@f",)
        )
        self.assertEqual(unpack_entry(json.loads(json.dumps(pack_entry(entry)))), entry)

    def test_messages(self) -> None:
        """One message is shown, run and removed; an unknown one gives nothing."""
        self.store(message())
        client = Client(self.factory)
        header = client.send(id=1, do="headers", message=ID)[0]["text"]
        self.assertTrue(header.startswith(f"{ID}-H\n"))
        body = "".join(p.get("text", "") for p in client.send(id=2, do="body", message=ID))
        self.assertEqual(body, f"{ID}-D\nhello\r\n.dot\r\n")
        self.assertEqual(client.send(id=3, do="count")[0]["count"], 1)
        self.assertEqual(client.send(id=4, do="run", messages=[ID], force=True)[0]["count"], 3)
        client.send(id=4, do="run")
        self.assertEqual(self.queue.runs, [([ID], True, False), (None, False, False)])
        self.assertEqual(client.send(id=4, do="freeze", message=ID)[0]["changed"], True)
        self.assertEqual(client.send(id=4, do="thaw", message=ID)[0]["changed"], False)
        self.assertEqual(client.send(id=5, do="remove", message=ID)[0]["removed"], True)
        self.assertEqual(client.send(id=4, do="freeze", message=ID)[0]["changed"], None)
        self.assertEqual(client.send(id=4, do="give_up", message=ID)[0]["changed"], None)
        self.assertEqual(client.send(id=6, do="remove", message=ID)[0]["removed"], False)
        for do in ("headers", "body", "log"):
            self.assertEqual(client.send(id=8, do=do, message=ID), [{"id": 8, "done": True}])

    def test_bad_requests(self) -> None:
        """What cannot be understood is answered and costs nothing."""
        client = Client(self.factory)
        for raw in (b"{", b"[]", b"null", b'"x"', b"[" * 5000, b'{"do": []}', b'{"do":"stop"}'):
            client.protocol.dataReceived(raw + b"\n")
        answers = client.answers()
        self.assertEqual(len(answers), 7)
        self.assertTrue(all("error" in answer for answer in answers), answers)
        for id in ("../../etc/passwd", "x", 5, None, ID + "\n"):
            self.assertEqual(
                client.send(id=1, do="body", message=id)[0]["error"], "malformed message id"
            )

    def test_addresses_that_people_write(self) -> None:
        """In Exim's forms, and refused in its words: nothing else gets into an envelope."""
        client = Client(self.factory)
        for given, taken in (
            ("a@b.c", "a@b.c"), ("<a@b.c>", "a@b.c"), ("A B <a@b.c>", "a@b.c"),
            ('"a b"@c.d', '"a b"@c.d'), ("<@r.s:a@b.c>", "a@b.c"), ("<>", ""),
        ):  # fmt: skip
            client.send(id=1, do="edit", message=ID, sender=given)
            self.assertEqual(self.queue.edits[-1], taken)
            client.send(id=1, do="mark", message=ID, addresses=[given or "x@y"])
        for given, why in (
            ("", "empty address"), (" ", "empty address"), ("unq", "domain missing"),
            ("@r.s:a@b.c", "missing or malformed local part"), ("a b@c.d", "may not follow"),
            ("a@b..c", "domain missing or malformed"), ("a@b.c SIZE=1", "malformed"),
            ("a@b.c\n", "malformed"), ("<a@b.c", "missing at end"), ("a@b.c, d@e.f", "malformed"),
        ):  # fmt: skip
            del self.queue.edits[:]
            for values in ({"sender": given}, {"added": ["x@y.z", given]}):
                (answer,) = client.send(id=1, do="edit", message=ID, **values)
                self.assertIn(why, answer["error"])
            self.assertEqual(self.queue.edits, [])
        (answer,) = client.send(id=1, do="edit", message=ID, added=["<>"])
        self.assertIn("empty address", answer["error"])
        client.send(id=1, do="mark", message=ID, addresses=["<a@b.c>", "unq"])
        self.assertEqual(self.queue.edits, [["a@b.c", "unq"]])

    def test_failures(self) -> None:
        """A failure is told; a bug closes the connection and goes to the panic log."""
        client = Client(self.factory)
        self.queue.failure = TemporaryFailure(reason="it is being delivered")
        self.assertEqual(
            client.send(id=1, do="remove", message=ID),
            [{"id": 1, "error": "it is being delivered"}],
        )
        self.queue.failure = ZeroDivisionError("oops")
        self.assertIn("internal error", client.send(id=2, do="remove", message=ID)[0]["error"])
        self.assertTrue(client.transport.disconnecting)
        self.assertIsInstance(self.log.failures[0], ZeroDivisionError)

    def test_locked(self) -> None:
        """A message that is being delivered is not removed, and the client is told."""
        self.queue.failure = Locked(ID)
        answer = Client(self.factory).send(id=1, do="remove", message=ID)
        self.assertEqual(answer, [{"id": 1, "error": f"Message {ID} is locked"}])

    def test_strangers(self) -> None:
        """Only root, the server's user and administrators are heard."""
        for uid, heard in [
            (0, True),
            (os.geteuid(), True),
            (4711, True),
            (1234, False),
            (None, False),
        ]:
            self.uid = uid
            client = Client(self.factory)
            self.assertEqual(client.transport.disconnecting, not heard, uid)
            answers = client.answers() + client.send(id=1, do="count")
            self.assertEqual([("count" in a) for a in answers if "done" not in a], [heard], uid)
            client.lose()

    def test_limits(self) -> None:
        """Too many clients, a long line, many requests at once and silence end a connection."""
        clients = [Client(self.factory) for _ in range(MOST_CLIENTS + 1)]
        self.assertEqual(clients[-1].answers(), [{"error": "too many clients"}])
        clients[0].protocol.dataReceived(b"x" * (REQUEST_LIMIT + 1))
        self.assertEqual(clients[0].answers(), [{"error": "request too long"}])
        self.queue.waiting = Deferred()
        clients[1].protocol.dataReceived(b'{"do":"remove","message":"%s"}\n' % ID.encode() * 40)
        self.assertEqual(clients[1].answers()[-1], {"error": "too many requests at once"})
        self.clock.advance(IDLE)
        self.assertEqual(clients[2].answers(), [{"error": "idle for too long"}])
        for client in clients:
            client.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.factory.clients, set())

    def test_client_that_goes_away(self) -> None:
        """A lost client cancels what it asked for, and nothing is left."""
        client = Client(self.factory)
        self.queue.waiting = Deferred()
        client.send(id=1, do="remove", message=ID)
        client.lose()
        self.assertTrue(self.queue.waiting.called)
        self.assertEqual(self.log.events, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_signs_of_life(self) -> None:
        """Work that takes long (-M of a slow next hop) is no reason to give the server up."""
        client = Client(self.factory)
        self.store(message())
        self.queue.waiting = Deferred()
        self.assertEqual(client.send(id=4, do="remove", message=ID), [])
        for _ in range(3):
            self.clock.advance(SIGN_OF_LIFE)
            self.assertEqual(client.answers(), [{"id": 4, "busy": True}])
        client.protocol.pauseProducing()
        self.clock.advance(SIGN_OF_LIFE)
        self.assertEqual(client.answers(), [])
        client.protocol.resumeProducing()
        self.queue.waiting.callback(None)
        self.assertEqual(client.answers(), [{"id": 4, "removed": True}, {"id": 4, "done": True}])
        self.clock.advance(SIGN_OF_LIFE)
        self.assertEqual(client.answers(), [])

    def test_slow_client(self) -> None:
        """While the socket is full the next page waits."""
        self.store(*(message(f"1xVFV{n // 10}-00000{n % 10}-00") for n in range(99)))
        client = Client(self.factory)
        client.protocol.pauseProducing()
        self.assertEqual(client.send(id=1, do="list"), [])
        client.protocol.resumeProducing()
        self.assertEqual(len(client.answers()), 3)

    def test_cut_anywhere(self) -> None:
        """A request may come in any pieces."""
        raw = b'{"id":1,"do":"count"}\n'
        for cut in range(len(raw)):
            client = Client(self.factory)
            client.protocol.dataReceived(raw[:cut])
            client.protocol.dataReceived(raw[cut:])
            self.assertEqual(client.answers()[0], {"id": 1, "count": 0})
            client.lose()

    def test_socket(self) -> None:
        """A dead server's socket is replaced; another kind of file is not."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = Path(folder, "control")
        path.write_text("mine")
        listened: list[tuple[str, int]] = []

        class Reactor:
            def listenUNIX(self, path: str, factory: object, mode: int) -> None:
                listened.append((path, mode))

        listen(Reactor(), str(path), self.factory)
        self.assertTrue(path.exists())
        self.assertEqual(listened, [(str(path), 0o600)])


class SpoolFormTests(SynchronousTestCase):
    def test_layout(self) -> None:
        """Envelope, variables, tree, recipients and header stand as in Exim's -H file."""
        one = message(delivered=frozenset({"x@d", "y@d", "z@d"}), frozen_at=1234.5)
        lines = header_file(one).split("\n")
        self.assertEqual(lines[0], f"{ID}-H")
        self.assertEqual(lines[2:4], ["<s@x.example>", "1000 0"])
        self.assertIn("-frozen 1234", lines)
        self.assertIn("-host_address [192.0.2.1]:99", lines)
        tree = lines.index("YY y@d")
        self.assertEqual(lines[tree + 1 : tree + 4], ["NN x@d", "NN z@d", "5"])
        self.assertIn("023P Received: from x", lines)
        self.assertIn("016T To: a@b.example", lines)
