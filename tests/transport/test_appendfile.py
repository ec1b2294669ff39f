"""Mailbox files and Maildirs: what is written, locked, refused, and left after a fault."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from mailsrv.config.types import User
from mailsrv.errors import ConfigError, TemporaryFailure
from mailsrv.mail.message import InlineBody
from mailsrv.mail.routed import Result
from mailsrv.mail.taint import Tainted
from mailsrv.transport import maildir as maildir_module
from mailsrv.transport.localtext import LocalText
from mailsrv.transport.maildir import Maildir, MaildirWriter
from mailsrv.transport.mbox import Busy, Mailbox, MailboxWriter
from mailsrv.transport.paths import cut
from mailsrv.transport.transports.appendfile import Appendfile
from mailsrv.transport.users import problems
from tests.transport.helpers import WHERE, World, make, message, routed


class FileBody:
    """A body that is not in memory; fails after some pieces if asked to."""

    inline = None

    def __init__(self, pieces: list[bytes], fails: bool = False) -> None:
        self.pieces, self.fails = pieces, fails
        self.size = sum(map(len, pieces))
        self.lines = 1

    async def chunks(self) -> Any:
        for piece in self.pieces:
            yield piece
        if self.fails:
            raise OSError("spool is gone")


def maildir_world(root: Path, **options: str) -> World:
    return World(
        make(Appendfile, directory=f"{root}/$local_part", maildir_format="true", **options)
    )


def mbox_world(root: Path, **options: str) -> World:
    values = {"file": f"{root}/$local_part", "message_prefix": "From x\n", **options}
    return World(make(Appendfile, **values))


def test_maildir(tmp_path: Path) -> None:
    w = maildir_world(tmp_path)
    (outcome,) = w.deliver(message(b".dot\r\nFrom x\r\n"), routed("bob@e"))
    assert outcome.result is Result.DELIVERED
    (found,) = (tmp_path / "bob/new").iterdir()
    assert outcome.delivered_to == str(found)
    assert found.read_bytes() == b"Subject: hi\n\n.dot\nFrom x\n"
    assert os.stat(found).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "bob").st_mode & 0o777 == 0o700
    assert not list((tmp_path / "bob/tmp").iterdir())


def test_maildir_names_are_unique(tmp_path: Path) -> None:
    w = maildir_world(tmp_path)
    for number in range(20):
        w.deliver(message(id=f"1abcde-0000{number}-AB"), routed("bob@e"))
    assert len(list((tmp_path / "bob/new").iterdir())) == 20


def test_a_second_attempt_finds_what_the_first_delivered(tmp_path: Path) -> None:
    """One whose success was not recorded; read meanwhile, and while the mailbox is full."""
    w = maildir_world(tmp_path, quota="40", maildir_tag=":2,")
    (first,) = w.deliver(message(), routed("bob@e"))
    new, cur = tmp_path / "bob/new", tmp_path / "bob/cur"
    (found,) = new.iterdir()
    for _ in range(2):
        (again,) = w.deliver(message(), routed("bob@e"))
        assert (again.result, again.delivered_to) == (Result.DELIVERED, first.delivered_to)
    assert list(new.iterdir()) == [found]
    found.rename(cur / f"{found.name}S")
    w.clock.advance(60)
    (later,) = w.deliver(message(), routed("bob@e"))
    assert later.delivered_to == str(cur / f"{found.name}S")
    assert not list(new.iterdir()) and not list((tmp_path / "bob/tmp").iterdir())
    (full,) = w.deliver(message(id="1abcde-000002-AB"), routed("bob@e"))
    assert full.error == "quota"


def test_of_two_attempts_at_one_time_one_delivers(tmp_path: Path) -> None:
    """A process that nobody waits for any more may still be at work."""
    folder = Maildir(f"{tmp_path}/dir", "h", name="1.M1.h")
    writers = [MaildirWriter(folder, 1.5) for _ in range(2)]
    for writer in writers:
        writer.write(b"text\n")
    assert {writer.finish() for writer in writers} == {f"{tmp_path}/dir/new/1.M1.h"}
    assert (tmp_path / "dir/new/1.M1.h").read_bytes() == b"text\n"
    assert not list((tmp_path / "dir/tmp").iterdir())


def test_different_deliveries_of_a_message_are_different_files(tmp_path: Path) -> None:
    """Two addresses, two routers (``unseen``), two transports that go to one Maildir."""
    options = {"directory": f"{tmp_path}/dir", "maildir_format": "true"}
    w = World(make(Appendfile, **options), make(Appendfile, "u", **options))
    parent = routed("list@e")
    for each in (
        routed("bob@e"), routed("Bob@e"), routed("bob@e", router="copy"),
        routed("bob@e", parent=parent), routed("bob@e", transport="u"),
    ):  # fmt: skip
        assert w.results(message(), each) == [Result.DELIVERED]
    assert len(list((tmp_path / "dir/new").iterdir())) == 5


def test_mbox(tmp_path: Path) -> None:
    w = mbox_world(tmp_path)
    for _ in range(2):
        w.deliver(message(b"From me\r\nx\r\n"), routed("bob@e"))
    one = b"From x\nSubject: hi\n\n>From me\nx\n\n"
    assert (tmp_path / "bob").read_bytes() == one * 2
    assert os.listdir(tmp_path) == ["bob"]


@pytest.mark.parametrize("world", [maildir_world, mbox_world])
@pytest.mark.parametrize("local_part", ["..", ".ssh", "a/b", "../x", "", "a\nb", "a\0b"])
def test_harmful_local_part_defers_and_touches_nothing(
    tmp_path: Path, world: Any, local_part: str
) -> None:
    w = world(tmp_path / "mail")
    address = routed("x@e")
    address.local_part = Tainted(local_part)
    (outcome,) = w.deliver(message(), address)
    assert outcome.result is Result.DEFERRED
    assert not list(tmp_path.glob("**/new/*"))


def test_slashes_in_braces_are_not_cut() -> None:
    assert cut("/a/${sg{$x}{/}{_}}/$local_part") == ["", "a", "${sg{$x}{/}{_}}", "$local_part"]


def test_create_directory_off_defers(tmp_path: Path) -> None:
    w = maildir_world(tmp_path, create_directory="false")
    assert w.results(message(), routed("bob@e")) == [Result.DEFERRED]
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("world", [maildir_world, mbox_world])
def test_body_that_breaks_off_leaves_nothing(tmp_path: Path, world: Any) -> None:
    w = world(tmp_path)
    w.deliver(message(), routed("bob@e"))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    mail = message(body=FileBody([b"half"], fails=True), id="1abcde-000002-AB")
    assert w.results(mail, routed("bob@e")) == [Result.DEFERRED]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("world", [maildir_world, mbox_world])
@pytest.mark.parametrize("body", [InlineBody(b"x\r\n"), FileBody([b"x", b"\r", b"\n"])])
def test_failing_sync_is_a_deferral_and_leaves_nothing(
    tmp_path: Path, world: Any, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = world(tmp_path)
    w.deliver(message(), routed("bob@e"))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(maildir_module.os, "fsync", broken)
    (outcome,) = w.deliver(message(body=body, id="1abcde-000002-AB"), routed("bob@e"))
    assert outcome.result is Result.DEFERRED
    assert "No space left" in outcome.reason
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_links_and_other_files_are_refused(tmp_path: Path) -> None:
    w = mbox_world(tmp_path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"")
    os.chmod(secret, 0o600)
    os.symlink(secret, tmp_path / "link")
    os.link(secret, tmp_path / "hard")
    os.mkdir(tmp_path / "folder")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "hard", "folder", "fifo"):
        (outcome,) = w.deliver(message(), routed(f"{name}@e"))
        assert outcome.result is Result.DEFERRED, name
    assert secret.read_bytes() == b""


def test_mode_is_narrowed_and_a_narrower_one_defers(tmp_path: Path) -> None:
    box = tmp_path / "bob"
    box.write_bytes(b"")
    os.chmod(box, 0o644)
    w = mbox_world(tmp_path)
    assert w.results(message(), routed("bob@e")) == [Result.DELIVERED]
    assert os.stat(box).st_mode & 0o777 == 0o600
    os.chmod(box, 0o400)
    assert w.results(message(), routed("bob@e")) == [Result.DEFERRED]


def test_lock_file_of_another_is_waited_for_and_a_stale_one_removed(tmp_path: Path) -> None:
    lock = tmp_path / "bob.lock"
    lock.write_bytes(b"")
    w = mbox_world(tmp_path)
    w.start(message(), routed("bob@e"))
    assert not w.outcomes
    w.clock.advance(3)
    assert not w.outcomes
    lock.unlink()
    w.clock.advance(3)
    assert [o.result for o in w.outcomes] == [Result.DELIVERED]
    lock.write_bytes(b"")
    os.utime(lock, (1, 1))
    w.start(message(), routed("bob@e"))
    w.clock.advance(3)
    assert [o.result for o in w.outcomes] == [Result.DELIVERED] * 2


def test_lock_that_stays_defers(tmp_path: Path) -> None:
    (tmp_path / "bob.lock").write_bytes(b"")
    w = mbox_world(tmp_path)
    w.start(message(), routed("bob@e"))
    for _ in range(10):
        w.clock.advance(3)
    assert [o.result for o in w.outcomes] == [Result.DEFERRED]
    assert "lock" in w.outcomes[0].reason


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    """Threads that write into one mailbox and one Maildir at once."""
    box = Mailbox(str(tmp_path / "box"), "h")
    folder = Maildir(str(tmp_path / "dir"), "h")
    text = b"x" * 5000 + b"\n"

    def write() -> None:
        for _ in range(5):
            while True:
                try:
                    writer = MailboxWriter(box)
                    break
                except Busy:
                    continue
            writer.write(text)
            writer.finish()
            delivery = MaildirWriter(folder, 1.5)
            delivery.write(text)
            delivery.finish()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "box").read_bytes() == text * 20
    assert [p.read_bytes() for p in (tmp_path / "dir/new").iterdir()] == [text] * 20


def test_quota_defers(tmp_path: Path) -> None:
    w = mbox_world(tmp_path, quota="100")
    w.deliver(message(b"x" * 50 + b"\r\n"), routed("bob@e"))
    (outcome,) = w.deliver(message(b"x" * 50 + b"\r\n"), routed("bob@e"))
    assert (outcome.result, outcome.error) == (Result.DEFERRED, "quota")


def test_size_is_what_was_written(tmp_path: Path) -> None:
    """Prefix, suffix and escaped lines count; time is the transport's own."""
    w = World(make(Appendfile, file=f"{tmp_path}/box"))
    (outcome,) = w.deliver(message(b"From me\r\n"), routed("bob@e"))
    assert outcome.size == (tmp_path / "box").stat().st_size
    assert outcome.seconds == 0


def test_dev_null() -> None:
    w = World(make(Appendfile, file="/dev/null"))
    assert w.results(message(), routed("bob@e")) == [Result.DELIVERED]


def test_other_user_defers_unless_privilege_is_dropped(tmp_path: Path) -> None:
    options = {"directory": f"{tmp_path}/x", "maildir_format": "true"}
    other = "daemon" if os.geteuid() == 0 else "root"
    w = World(make(Appendfile, **options))
    (outcome,) = w.deliver(message(), routed("bob@e", user=other))
    assert outcome.result is Result.DEFERRED
    assert "not available" in outcome.reason
    dropped = World(make(Appendfile, **options), drop_privilege=True)
    assert dropped.results(message(), routed("bob@e", user=other)) == [Result.DELIVERED]


def test_never_users(tmp_path: Path) -> None:
    transport = make(Appendfile, directory=f"{tmp_path}/x", maildir_format="true", user="root")
    w = World(transport, never_users=frozenset({0}))
    (outcome,) = w.deliver(message(), routed("bob@e"))
    assert outcome.result is Result.DEFERRED
    assert outcome.reason == "User 0 set for t transport is on the never_users list"


def test_a_configuration_that_names_another_user_is_told_so() -> None:
    other = "daemon" if os.geteuid() == 0 else "root"
    transports = {name: make(Appendfile, name, file="/a") for name in "ab"}
    transports["a"].values["user"] = User.called(other)
    (error,) = problems([], transports, os.geteuid())
    assert "another system user" in str(error) and error.where == WHERE


BAD = [
    {"file": "/a", "directory": "/b"},
    {"file": "/a", "quota": "5M", "quota_directory": "/b"},
    {"directory": "/b", "maildir_format": "true", "quota_filecount": "5"},
    {"file": "/a", "use_lockfile": "false", "use_fcntl_lock": "false"},
]


@pytest.mark.parametrize("options", BAD)
def test_bad_options(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        make(Appendfile, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"file": "/a", "maildir_format": "true"},
        {"directory": "/b"},
        {"directory": "/a", "maildir_format": "true", "check_string": "x"},
    ],
)
def test_what_is_found_when_it_is_used(options: dict[str, str]) -> None:
    assert list(make(Appendfile, **options).late())


PARTS = st.lists(st.sampled_from([b"From ", b"Fro", b"m ", b"\r\n", b"\n", b"\r", b"x"]))


@given(PARTS)
def test_escaping_does_not_depend_on_where_pieces_end(parts: list[bytes]) -> None:
    def local(pieces: list[bytes]) -> bytes:
        text = LocalText(b"From ", b">From ")
        return b"".join([*(text.feed(piece) for piece in pieces), text.end()])

    whole = b"".join(parts)
    lines = whole.replace(b"\r\n", b"\n").split(b"\n")
    wanted = b"\n".join(b">" + x if x.startswith(b"From ") else x for x in lines)
    assert local([whole]) == wanted
    assert local(parts) == wanted
    assert local([whole[i : i + 1] for i in range(len(whole))]) == wanted


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_abort_waits_for_the_write_of_another_thread(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor is not closed, nor its number used again, under a write; nothing follows."""
    writer: Any
    if kind == "mbox":
        writer = MailboxWriter(Mailbox(f"{tmp_path}/box", "h"))
    else:
        writer = MaildirWriter(Maildir(f"{tmp_path}/dir", "h"), 0)
    began, go, real = threading.Event(), threading.Event(), os.write

    def slow(handle: int, data: Any) -> int:
        began.set()
        go.wait(5)
        return real(handle, data[:4])

    monkeypatch.setattr(maildir_module.os, "write", slow)
    writing = threading.Thread(target=writer.write, args=(b"SECRET",))
    aborting = threading.Thread(target=writer.abort)
    writing.start()
    assert began.wait(5)
    aborting.start()
    aborting.join(0.05)
    assert aborting.is_alive()
    go.set()
    writing.join()
    aborting.join()
    for call in (lambda: writer.write(b"x"), writer.finish):
        with pytest.raises(TemporaryFailure):
            call()
    assert all(not p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


class LateThreads:
    """Runs at once what it is given; the results come when ``go`` is called."""

    def __init__(self) -> None:
        self.late: list[Deferred[None]] = []
        self.names: list[str] = []

    async def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        self.names.append(getattr(function, "__name__", ""))
        try:
            return function(*args, **kwargs)
        finally:
            self.late.append(Deferred())
            await self.late[-1]

    def go(self) -> None:
        late, self.late = self.late, []
        for one in late:
            if not one.called:
                one.callback(None)


@pytest.mark.parametrize("world", [maildir_world, mbox_world])
@pytest.mark.parametrize("body", [InlineBody(b"x\r\n"), FileBody([b"x\r\n"])])
def test_delivery_that_is_cut_is_recorded_or_did_not_happen(
    tmp_path: Path, world: Any, body: Any
) -> None:
    """Wherever the cut comes, the mailbox and the outcome agree, and no lock is left."""
    recorded = []
    for steps in range(8):
        folder = tmp_path / str(steps)
        threads: Any = LateThreads()
        w = world(folder)
        object.__setattr__(w.delivering._facilities, "threads", threads)
        ended: list[Any] = []
        run = w.start(message(body=body), routed("bob@e")).addBoth(ended.append)
        for _ in range(steps):
            threads.go()
        if not ended:
            run.cancel()
        for _ in range(9):
            threads.go()
        assert ended, "the delivery hangs"
        assert ended[0] is None or ended[0].check(CancelledError)
        content = [p.read_bytes() for p in folder.rglob("*") if p.is_file()]
        assert sum(map(bool, content)) == len(w.outcomes), (steps, content)
        assert not list(folder.rglob("*.lock")) and not list(folder.rglob("tmp/*"))
        recorded.append(len(w.outcomes))
    assert recorded[-1] == 1


# --- files that redirections name ---------------------------------------------------------


def place(text: str, **changes: Any) -> Any:
    parent = routed("x@e")
    return replace(routed("x@e", **changes), address=text, place=True, parent=parent)


def test_a_file_that_a_redirection_names(tmp_path: Path) -> None:
    """It comes before the transport's own options; $address_file has it (22.10)."""
    w = World(make(Appendfile, message_prefix="$address_file $local_part\n", message_suffix=""))
    (outcome,) = w.deliver(message(), place(f"{tmp_path}/box"))
    assert outcome.delivered_to == f"{tmp_path}/box"
    assert (tmp_path / "box").read_text().startswith(f"{tmp_path}/box x\nSubject: hi\n\n")
    w = mbox_world(tmp_path)
    w.deliver(message(), place(f"{tmp_path}/other"), place(f"{tmp_path}/box"))
    assert (tmp_path / "other").exists() and not (tmp_path / "x").exists()


def test_a_directory_that_a_redirection_names(tmp_path: Path) -> None:
    w = World(make(Appendfile, maildir_format="true"))
    (outcome,) = w.deliver(message(), place(f"{tmp_path}/md/"))
    assert outcome.result is Result.DELIVERED
    assert len(list((tmp_path / "md" / "new").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "/md/"),  # a directory without maildir_format
        ({"maildir_format": "true"}, "/box"),
        ({}, Tainted("/box")),
    ],
)
def test_places_that_cannot_be(options: dict[str, str], text: str, tmp_path: Path) -> None:
    w = World(make(Appendfile, **options))
    (outcome,) = w.deliver(message(), place(type(text)(f"{tmp_path}{text}")))
    assert outcome.result is Result.DEFERRED
    assert not list(tmp_path.iterdir())


def test_no_file_and_no_directory() -> None:
    (outcome,) = World(make(Appendfile)).deliver(message(), routed("bob@e"))
    assert outcome.result is Result.DEFERRED and "Mandatory file or directory" in outcome.reason
