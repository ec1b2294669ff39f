"""The queue's commands: Exim's output, several workers, ids and octets that are hostile."""

# ruff: noqa: E501  (a row of a table, or a dialogue, is one line)

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import tempfile
import threading
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.commands import listing, queue, spools
from mailsrv.commands.control import Control, ControlError, NotRunning, worker_folders
from mailsrv.interfaces import QueueEntry
from mailsrv.service.requests import pack_entry
from mailsrv.spool.sqlite import SqliteSpool
from tests.doubles.log import RecordingLog
from tests.spool.test_contract import a_message

ID = "1xVFVf-0005PR-1K"
OTHER = "1xVFVf-0005PS-1K"


def entry(id: str = ID, **values: Any) -> QueueEntry:
    facts: dict[str, Any] = {
        "sender": "s@x.example",
        "size": 720,
        "received_at": 1000.0,
        "next_attempt": 0.0,
        "frozen": False,
        "recipients": ("a@b.example",),
        "delivered": (),
    }
    return QueueEntry(id, **{**facts, **values})


class FakeWorker:
    """Answers as a server does."""

    def __init__(self, *entries: QueueEntry, texts: dict[str, list[str]] | None = None) -> None:
        self.entries = list(entries)
        self.texts = texts or {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.locked: set[str] = set()

    def ask(self, do: str, **values: Any) -> Any:
        self.asked.append((do, values))
        if do == "list":
            start, stop = values.get("start", ""), values.get("stop") or "~"
            chosen = [one for one in self.entries if start <= one.id <= stop]
            yield {"entries": [pack_entry(one) for one in chosen]}
        elif do == "each":
            yield {"results": [self.result(values["what"], id) for id in values["messages"]]}
        elif do == "count" or do == "run":
            yield {"count": len(self.entries)}
        elif do in ("edit", "mark"):
            known = any(one.id == values["message"] for one in self.entries)
            gone = [a for a in values.get("addresses") or () if a != "a@b.example"]
            yield {"changed": True if known else None, "unknown": gone}
        else:
            for text in self.texts.get(values["message"], []):
                yield {"text": text}

    def result(self, what: str, id: str) -> bool | str | None:
        known = [one for one in self.entries if one.id == id]
        if id in self.locked:
            return f"Message {id} is locked"
        if what in ("freeze", "thaw"):
            return (known[0].frozen == (what == "thaw")) if known else None
        return True if known else None

    def close(self) -> None:
        self.asked.append(("close", {}))


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


class CommandTests(SynchronousTestCase):
    verbose = False

    def run_command(
        self, action: str, *arguments: str, workers: list[FakeWorker], out: io.BytesIO | None = None
    ) -> tuple[int, str]:
        out = out or io.BytesIO()
        folders = [str(number) for number in range(len(workers))]
        self.errors = io.StringIO()
        with (
            mock.patch.object(spools, "worker_folders", lambda directory: folders),
            mock.patch.object(spools, "open_worker", lambda folder, *_: workers[int(folder)]),
            mock.patch("sys.stderr", self.errors),
        ):
            status = queue.carry_out(
                lambda: spools.Workers("/spool"),
                action,
                list(arguments),
                out=out,
                now=lambda: 1000.0 + 25 * 60,
                verbose=self.verbose,
            )
        return status, out.getvalue().decode("latin-1")

    def test_listing(self) -> None:
        """The listing has Exim's columns; workers are merged, the oldest first."""
        first = FakeWorker(entry(received_at=1500.0, size=2970, frozen=True, sender=""))
        second = FakeWorker(entry(OTHER, delivered=("d@e.example",)))
        expected = (
            f"25m   720 {OTHER} <s@x.example>\n        D d@e.example\n          a@b.example\n\n"
            f"16m  2.9K {ID} <> *** frozen ***\n          a@b.example\n\n"
        )
        self.assertEqual(self.run_command("-bp", workers=[first, second]), (0, expected))
        self.assertNotIn("D d@e", self.run_command("-bpu", workers=[first, second])[1])
        self.assertNotIn(ID, self.run_command("-bp", OTHER, workers=[first, second])[1])

    def test_addresses_that_were_made_and_delivered(self) -> None:
        """-bpa and -bpra have them behind the recipients, as Exim's."""
        worker = FakeWorker(entry(delivered=("d@e.example",), made=("x@c", "y@c")))
        more = "        D d@e.example\n          a@b.example\n       +D x@c\n       +D y@c\n\n"
        for option in ("-bpa", "-bpra"):
            shown = self.run_command(option, workers=[worker])[1]
            self.assertEqual(shown.partition("\n")[2], more)
        for option in ("-bp", "-bpr", "-bpu", "-bpru"):
            self.assertNotIn("+D", self.run_command(option, workers=[worker])[1])

    def test_quarantined(self) -> None:
        """A message that cannot be read is listed as such."""
        shown = self.run_command("-bp", workers=[FakeWorker(entry(quarantined=True))])[1]
        self.assertIn("<s@x.example> *** quarantined ***\n", shown)

    def test_columns(self) -> None:
        """Ages and sizes keep Exim's widths."""
        self.assertEqual(
            [listing.age(s) for s in (0, 90 * 60, 91 * 60, 72 * 3600, 73 * 3600, 9e5)],
            [" 0m", "90m", " 2h", "72h", " 3d", "10d"],
        )
        sizes = [listing.size(s) for s in (0, 1023, 1024, 10240, 1 << 20, 1 << 30)]
        self.assertEqual(sizes, ["     ", " 1023", " 1.0K", "  10K", " 1.0M", "1024M"])

    def test_count_and_run(self) -> None:
        """Counts are sums over the workers."""
        workers = [FakeWorker(entry()), FakeWorker(entry(OTHER), entry(ID))]
        self.assertEqual(self.run_command("-bpc", workers=workers), (0, "3\n"))
        self.assertEqual(self.run_command("-qff", workers=workers)[0], 0)
        self.assertIn(("run", {"messages": [], "force": True, "frozen": True}), workers[0].asked)
        self.assertEqual(self.run_command("-q", workers=[])[0], 0)

    def test_queue_runs(self) -> None:
        """-q respects retry times, -qf does not, -qff thaws; nothing is said without -v."""
        for action, force, frozen in (
            ("-q", False, False),
            ("-qq", False, False),
            ("-qf", True, False),
            ("-qff", True, True),
        ):
            workers = [FakeWorker(entry())]
            self.assertEqual(self.run_command(action, workers=workers), (0, ""))
            run = {"messages": [], "force": force, "frozen": frozen}
            self.assertIn(("run", run), workers[0].asked)
        self.verbose = True
        self.assertEqual(
            self.run_command("-q", workers=[FakeWorker(entry())]),
            (0, "1 message to be attempted\n"),
        )

    def test_parts_of_the_queue(self) -> None:
        """-q with ids, and -qi: those that have not been tried."""
        workers = [FakeWorker(entry(), entry(OTHER, reason="deferred"))]
        self.run_command("-qf", OTHER, workers=workers)
        self.run_command("-qi", workers=workers)
        runs = [values["messages"] for do, values in workers[0].asked if do == "run"]
        self.assertEqual(runs, [[OTHER], [ID]])
        self.assertEqual(self.run_command("-q", ID, ID, ID, workers=workers)[0], 1)

    def test_remove(self) -> None:
        """Removal says what it did."""
        workers = [FakeWorker(entry()), FakeWorker(entry(OTHER))]
        self.assertEqual(
            self.run_command("-Mrm", OTHER, workers=workers),
            (0, f"Message {OTHER} has been removed\n"),
        )
        status, text = self.run_command("-Mrm", "1aaaaa-bbbbbb-cc", workers=workers)
        self.assertEqual(
            (status, text), (1, "Message 1aaaaa-bbbbbb-cc has been removed or did not exist\n")
        )

    def test_freeze_thaw_give_up(self) -> None:
        """Exim's words; a message that no worker has is an error."""
        workers = [FakeWorker(), FakeWorker(entry(), entry(OTHER, frozen=True))]
        for action, id, status, words in (
            ("-Mf", ID, 0, "Message {} is now frozen"),
            ("-Mf", OTHER, 1, "Message {} is already frozen"),
            ("-Mt", OTHER, 0, "Message {} is no longer frozen"),
            ("-Mt", ID, 1, "Message {} is not frozen"),
            ("-Mf", "1aaaaa-bbbbbb-cc", 1, "Spool data file for {} does not exist"),
        ):
            answer = self.run_command(action, id, workers=workers)
            self.assertEqual(answer, (status, words.format(id) + "\n"))
        self.assertEqual(self.run_command("-Mg", ID, workers=workers), (0, ""))

    def test_locked(self) -> None:
        """A message that is being delivered stays as it is; the others do not."""
        worker = FakeWorker(entry(), entry(OTHER))
        worker.locked.add(ID)
        expected = f"Message {ID} is locked\nMessage {OTHER} has been removed\n"
        self.assertEqual(self.run_command("-Mrm", ID, OTHER, workers=[worker]), (1, expected))

    def test_edits_of_the_envelope(self) -> None:
        """-Mar, -Mes, -Mmd and -Mmad ask the worker that has the message."""
        workers = [FakeWorker(), FakeWorker(entry())]
        for action, words, asked in (
            ("-Mar", ["n@x", "m@x"], ("edit", {"message": ID, "added": ["n@x", "m@x"]})),
            ("-Mes", ["n@x"], ("edit", {"message": ID, "sender": "n@x"})),
            ("-Mes", ["<>"], ("edit", {"message": ID, "sender": "<>"})),
            ("-Mmd", ["a@b.example"], ("mark", {"message": ID, "addresses": ["a@b.example"]})),
            ("-Mmad", [], ("mark", {"message": ID})),
        ):
            answer = self.run_command(action, ID, *words, workers=workers)
            self.assertEqual(answer, (0, f"Message {ID} has been modified\n"))
            self.assertIn(asked, workers[1].asked)
        status, text = self.run_command("-Mmd", ID, "x@y", workers=workers)
        self.assertEqual((status, "x@y is not a recipient" in text), (1, True))
        self.assertEqual(self.run_command("-Mar", OTHER, "n@x", workers=workers)[0], 1)
        self.assertEqual(self.run_command("-Mar", ID, workers=workers)[0], 1)

    def test_selected_messages(self) -> None:
        """-R and -S choose by text or regex; the first is forced, f forces all, ff thaws."""
        one = entry(recipients=("Ann@B.example",))
        two = entry(OTHER, received_at=2000.0, sender="boss@c.example")
        workers = [FakeWorker(one, two)]
        self.run_command("-R", "b.EXAMPLE", workers=workers)
        runs = [values for do, values in workers[0].asked if do == "run"]
        self.assertEqual(
            [(r["messages"], r["force"]) for r in runs], [([ID], True), ([OTHER], False)]
        )
        workers = [FakeWorker(one, two)]
        self.run_command("-Srff", "^boss@", workers=workers)
        (run,) = [values for do, values in workers[0].asked if do == "run"]
        self.assertEqual((run["messages"], run["force"], run["frozen"]), ([OTHER], True, True))
        self.assertEqual(self.run_command("-Rr", "(", workers=workers)[0], 1)
        self.assertEqual(self.run_command("-R", workers=workers)[0], 1)

    def test_removal_without_a_server_is_logged(self) -> None:
        """A command that opens the spool itself writes what the server would have."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        log = RecordingLog()

        async def fill(reactor: Any) -> None:
            spool = SqliteSpool(reactor, os.path.join(folder, "0"), log.panic)
            await spool.store(a_message(ID), 1.0)
            await spool.close()

        spools.run_reactor(fill)
        out = io.BytesIO()
        for _ in range(2):
            workers = spools.Workers(folder, make_log=lambda clock: log)
            queue.carry_out(lambda w=workers: w, "-Mrm", [ID], out=out)
        self.assertEqual(log.events, [("main", "removed by administrator"), ("completed", ID)])

    def test_views(self) -> None:
        """A message is found at any worker; CRLF becomes the system's line end, wherever it is cut."""
        workers = [FakeWorker(), FakeWorker(texts={ID: [f"{ID}-D\n", "a\r", "\nb\r", "c\r\n"]})]
        self.assertEqual(self.run_command("-Mvb", ID, workers=workers), (0, f"{ID}-D\na\nb\rc\n"))
        self.assertEqual(self.run_command("-Mvl", OTHER, workers=workers), (1, ""))
        self.assertIn("Failed to open msglog file", self.errors.getvalue())
        self.assertEqual(
            self.run_command("-Mvc", OTHER, workers=workers),
            (1, f"Spool data file for {OTHER} does not exist\n"),
        )
        two = self.run_command("-Mvh", ID, OTHER, workers=workers)
        self.assertEqual(two, (1, "*** Only one message can be listed at once\n"))

    def test_hostile_octets(self) -> None:
        """A terminal gets no control sequence, a file the octets as they are."""
        worker = FakeWorker(entry(sender="a\x1b[2J\n@x"), texts={ID: ["\x1b[2J\xe4\n"]})
        self.assertIn("<a\\033[2J\\012@x>", self.run_command("-bp", workers=[worker])[1])
        self.assertEqual(self.run_command("-Mvb", ID, workers=[worker])[1], "\x1b[2J\xe4\n")
        shown = self.run_command("-Mvb", ID, workers=[worker], out=Terminal())[1]
        self.assertEqual(shown, "\\033[2J\\344\n")

    def test_bad_ids(self) -> None:
        """What is no message id is refused before anybody is asked."""
        for id in ("foo", "../../x", ID + "\n", "", "\x1b[2J"):
            worker = FakeWorker(entry())
            self.assertEqual(self.run_command("-Mrm", id, workers=[worker]), (1, ""))
            self.assertEqual(worker.asked, [])
            self.assertNotIn("\x1b", self.errors.getvalue())
        self.assertEqual(self.run_command("-Mvh", workers=[FakeWorker()])[0], 1)


class ClientTests(SynchronousTestCase):
    """The client's side of the socket, with a server thread that says what the test wants."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "control")

    def serve(self, *answers: bytes) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()

        def run() -> None:
            connection, _ = listener.accept()
            with connection, listener:
                self.request = connection.makefile("rb").readline()
                connection.sendall(b"".join(answers))

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def ask(self) -> list[dict[str, Any]]:
        control = Control(self.path)
        self.addCleanup(control.close)
        return list(control.ask("count"))

    def test_answer(self) -> None:
        """Pieces up to "done" are the answer."""
        self.serve(b'{"id":1,"busy":true}\n{"id":1,"count":2}\n{"id":1,"done":true}\n')
        self.assertEqual(self.ask(), [{"id": 1, "count": 2}])
        self.assertEqual(json.loads(self.request), {"id": 1, "do": "count"})

    def test_answer_that_is_not_heard_to_its_end(self) -> None:
        """The next question gets its own answer."""
        page = b'{"id":1,"count":2}\n'
        self.serve(page, page, b'{"id":1,"done":true}\n{"id":2,"count":3}\n{"id":2,"done":true}\n')
        control = Control(self.path)
        self.addCleanup(control.close)
        self.assertEqual(next(control.ask("count")), {"id": 1, "count": 2})
        self.assertEqual(list(control.ask("count")), [{"id": 2, "count": 3}])

    def test_refusals(self) -> None:
        """A refusal, a server that goes away and one that talks nonsense are errors."""
        for answer, words in [
            (b'{"error":"permission denied"}\n', "permission denied"),
            (b'{"id":1,"count":2}\n', "closed the connection"),
            (b'{"id":1,"cou', "closed the connection"),
            (b'{"id":9,"count":2}\n', "another question"),
            (b"\xff\n", "control"),
        ]:
            self.serve(answer)
            error = self.assertRaises(ControlError, self.ask)
            self.assertIn(words, str(error))
            os.unlink(self.path)

    def test_server_that_does_not_answer(self) -> None:
        """Whoever waits is told so: a stopped process accepts connections and says nothing."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.path)
        listener.listen()
        with mock.patch("mailsrv.commands.control.FIRST", 0.01):
            error = self.assertRaises(ControlError, self.ask)
        expected = f"the server does not answer on {self.path} (within 0.01 seconds)"
        self.assertEqual(str(error), expected)

    def test_no_server(self) -> None:
        """No socket, or one that nobody listens on, means that no server runs."""
        self.assertRaises(NotRunning, Control, self.path)
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(self.path)
        dead.close()
        self.assertRaises(NotRunning, Control, self.path)

    def test_worker_folders(self) -> None:
        """Workers' folders are numbers, in order; anything else is not one."""
        for name in ("10", "2", "db", "1x"):
            os.mkdir(os.path.join(self.folder, name))
        self.assertEqual([os.path.basename(f) for f in worker_folders(self.folder)], ["2", "10"])
        self.assertEqual(worker_folders(os.path.join(self.folder, "none")), [])
