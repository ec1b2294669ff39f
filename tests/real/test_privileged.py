"""Local delivery as the system user that an address belongs to, through the privileged process."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.errors import TemporaryFailure
from mailsrv.transport.maildir import Maildir
from mailsrv.transport.mbox import Busy, Mailbox
from mailsrv.transport.privileged.client import RemoteWriter
from mailsrv.transport.privileged.policy import Policy, Rule
from mailsrv.transport.privileged.start import start
from mailsrv.transport.privileged.wire import Request
from tests.real import machine
from tests.real.server import Server

ANNA, BERT, NEVER = "games", "news", "uucp"  # accounts of every Debian


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in which everybody may write."""
    machine.need_root("it becomes other users")
    folder = machine.folder("privileged")
    folder.chmod(0o1777)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def owner(path: Path) -> str:
    """The name of a file's owner."""
    return pwd.getpwuid(path.stat().st_uid).pw_name


def channel_for(policy: Policy) -> socket.socket:
    """A channel to a new privileged process."""
    (channel,) = start(policy)
    return channel


def rules(users: tuple[int, ...] | None, below: str = "") -> dict[str, Rule]:
    """A transport for each kind of file."""
    return {"t": Rule(users, below), "m": Rule(users, below, kind="maildir")}


def request(user: str, place: Maildir | Mailbox, transport: str = "") -> Request:
    """A request for a delivery."""
    name = transport or ("m" if isinstance(place, Maildir) else "t")
    return Request(name, user, "", False, place, 5, 1e9)


def test_files_belong_to_the_user(place: Path) -> None:
    """A Maildir and a mailbox, a large message and an abort."""
    with channel_for(Policy(rules(None, f"{place}/"))) as channel:
        for user in (ANNA, BERT):
            writer = RemoteWriter(channel, request(user, Maildir(f"{place}/{user}/Maildir", "h")))
            writer.write(b"hello\n" * 500_000)
            path = Path(writer.finish())
            assert owner(path) == user
            assert path.stat().st_size == 3_000_000
            assert path.stat().st_mode & 0o777 == 0o600
        box = place / "box"
        for text in (b"one\n", b"two\n"):
            writer = RemoteWriter(channel, request(ANNA, Mailbox(str(box), "h")))
            writer.write(text)
            assert writer.finish() == str(box)
        writer = RemoteWriter(channel, request(ANNA, Mailbox(str(box), "h")))
        writer.write(b"never mind\n")
        writer.abort()
        machine.wait_until(lambda: not Path(f"{box}.lock").exists(), "the lock's end")
        assert box.read_bytes() == b"one\ntwo\n"
        assert owner(box) == ANNA


def test_what_the_configuration_did_not_name_is_refused(place: Path) -> None:
    """Other transports, users and places; and the kernel refuses what is not the user's."""
    policy = Policy(rules((pwd.getpwnam(ANNA).pw_uid,), f"{place}/"), (0,))
    with channel_for(policy) as channel:
        inside = Maildir(f"{place}/x", "h")
        for each in (
            request(BERT, inside),
            request("root", inside),
            request("0", inside),
            request(ANNA, inside, "other"),
            request(ANNA, Maildir("/etc/x", "h")),
            request(ANNA, Maildir(f"{place}/../../etc/x", "h")),
            Request("m", ANNA, "root", False, inside),
            Request("m", ANNA, "no-such-group-here", False, inside),
            Request("m", ANNA, "shadow", False, inside),
            Request("m", ANNA, "-1", False, inside),
            request(ANNA, inside, "t"),
            request(ANNA, Mailbox(f"{place}/x", "h"), "m"),
            request(ANNA, replace(inside, name="../../x")),
            request(ANNA, replace(inside, tag="/../x")),
        ):
            with pytest.raises(TemporaryFailure):
                RemoteWriter(channel, each)
        assert not (place / "x").exists()
        locked = place / "root-only"
        locked.mkdir(mode=0o700)
        with pytest.raises(TemporaryFailure, match="Permission denied"):
            RemoteWriter(channel, request(ANNA, Maildir(f"{locked}/m", "h")))
        linked = place / "link"
        linked.symlink_to("/etc/shadow")
        with pytest.raises(TemporaryFailure):
            RemoteWriter(channel, request(ANNA, Mailbox(str(linked), "h", allow_symlink=True)))


def test_garbage_does_not_end_it(place: Path) -> None:
    """Datagrams that are no requests, and requests without a stream."""
    with channel_for(Policy(rules(None))) as channel:
        for octets in (b"x", b"{}", b"[1]", b"\xff" * 1000, b'{"kind": "Maildir"}'):
            channel.send(octets)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                socket.send_fds(channel, [octets], [theirs.fileno()])
            ours, theirs = socket.socketpair()
            with ours, theirs:
                socket.send_fds(channel, [octets], [theirs.fileno(), theirs.fileno()])
        writer = RemoteWriter(channel, request(ANNA, Maildir(f"{place}/still/there", "h")))
        writer.write(b"x")
        assert owner(Path(writer.finish())) == ANNA


def test_it_ends_with_its_clients() -> None:
    """No process is left behind."""
    machine.need_root("it becomes other users")
    before = children()
    channel = channel_for(Policy(rules(None)))
    (pid,) = children() - before
    channel.close()
    assert os.waitpid(pid, 0)[0] == pid


def children(parent: int | str = "self") -> set[int]:
    """The processes that a process has started."""
    return {
        int(word)
        for path in Path(f"/proc/{parent}/task").glob("*/children")
        for word in path.read_text().split()
    }


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that root starts."""
    machine.need_root("it delivers as other users")
    server = Server("users.conf", {"T_NEVER": NEVER, "T_EXTRA": ""})
    server.folder.chmod(0o755)
    for name in ("mail", "boxes"):
        (server.folder / name).mkdir()
        (server.folder / name).chmod(0o1777)
    yield server
    server.close()


def send(server: Server, recipients: list[str]) -> None:
    """Send one message."""
    with server.client(server.smtp_port, tls=False) as client:
        refused = client.sendmail("me@far.example", recipients, "Subject: x\r\n\r\nhello\r\n")
        assert not refused


def test_two_users_and_one_that_never_gets_mail(server: Server) -> None:
    """The files belong to their users; never_users defers; the log names the reason."""
    server.start()
    recipients = [f"{name}@users.example" for name in (ANNA, BERT, f"{BERT}+file", NEVER, "root")]
    send(server, recipients)
    mail = server.folder / "mail"
    for user in (ANNA, BERT):
        machine.wait_until(lambda u=user: list((mail / u).glob("Maildir/new/*")), server.logged())
        (path,) = (mail / user).glob("Maildir/new/*")
        assert owner(path) == user
        assert b"hello" in path.read_bytes()
    box = server.folder / "boxes" / BERT
    machine.wait_until(box.exists, server.logged())
    assert owner(box) == BERT
    machine.wait_until(lambda: server.logged().count("never_users") >= 2, server.logged())
    assert not (mail / NEVER).exists()
    assert not (mail / "root").exists()


def test_without_need_there_is_no_privileged_process(server: Server) -> None:
    """deliver_drop_privilege: everything runs as one user, and nothing stays root."""
    server.macros["T_EXTRA"] = "deliver_drop_privilege = true"
    server.start()
    server.wait_for_log("daemon started")
    assert not children(server.pid)


def test_the_process_killed(server: Server) -> None:
    """Without it deliveries are deferred, and no message is lost."""
    server.start()
    os.kill(helper_of(server), signal.SIGKILL)
    send(server, [f"{ANNA}@users.example"])
    machine.wait_until(lambda: "privileged delivery process" in server.logged(), server.logged())
    assert server.command("-bpc").strip() == "1"


def test_the_process_killed_beside_workers(server: Server) -> None:
    """The supervisor starts another one, and what was deferred is delivered."""
    text = server.configuration.read_text()
    server.configuration.write_text(text.replace("workers = 1", "workers = 2"))
    server.start()
    server.wait_for_log("daemon started", count=2)
    helper = helper_of(server)
    os.kill(helper, signal.SIGKILL)
    for _ in range(4):
        send(server, [f"{ANNA}@users.example"])
    machine.wait_until(lambda: "another one is started" in server.log("panic"), server.logged())
    new = server.folder / "mail" / ANNA / "Maildir" / "new"
    machine.wait_until(lambda: new.is_dir() and len(list(new.iterdir())) == 4, server.logged())
    machine.wait_until(lambda: server.log().count("Completed") == 4, server.logged())
    assert len(list(new.iterdir())) == 4
    assert helper_of(server) != helper


def test_the_process_hangs(server: Server) -> None:
    """Deliveries wait for it; everything else goes on, and nothing comes twice."""
    server.start()
    child = helper_of(server)  # before it is that, its parent waits for it
    os.kill(child, signal.SIGSTOP)
    try:
        for _ in range(3):
            send(server, [f"{ANNA}@users.example"])
        with server.client(tls=False) as client:
            assert client.noop()[0] == 250
        assert " => " not in server.log()
    finally:
        os.kill(child, signal.SIGCONT)
    server.wait_for_log("Completed", count=3)
    new = server.folder / "mail" / ANNA / "Maildir" / "new"
    assert len(list(new.iterdir())) == 3


def helper_of(server: Server) -> int:
    """The pid of the privileged process of a server."""
    found: list[int] = []

    def look() -> bool:
        for pid in children(server.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"privileged.process" in words:
                found[:] = [pid]
        return bool(found)

    machine.wait_until(look, "the privileged process")
    return found[0]


def test_links_of_another_user(place: Path) -> None:
    """In a folder where all may write, nobody makes us write into a file of his choice."""
    target = place / "target"
    target.write_bytes(b"")
    os.chown(target, pwd.getpwnam(ANNA).pw_uid, -1)
    target.chmod(0o600)
    boxes = place / "boxes"
    boxes.mkdir()
    boxes.chmod(0o1777)
    (boxes / "symbolic").symlink_to(target)
    os.link(target, boxes / "hard")
    os.mkfifo(boxes / "fifo")
    (boxes / "dangling").symlink_to(place / "made")
    (boxes / "locked").write_bytes(b"")
    os.chown(boxes / "locked", pwd.getpwnam(ANNA).pw_uid, -1)
    (boxes / "locked").chmod(0o600)
    (boxes / "locked.lock").symlink_to(place / "lockfile")
    with channel_for(Policy(rules(None, f"{boxes}/"))) as channel:
        for name in ("symbolic", "hard", "fifo", "dangling", "locked"):
            with pytest.raises((TemporaryFailure, Busy)):
                RemoteWriter(channel, request(ANNA, Mailbox(str(boxes / name), "h")))
    assert target.read_bytes() == b""
    assert not (place / "made").exists() and not (place / "lockfile").exists()


def test_modes_that_give_rights_away_are_refused(place: Path) -> None:
    """Whoever has taken over a worker cannot make programs that run as another user."""
    with channel_for(Policy(rules(None, f"{place}/"))) as channel:
        for each in (
            Mailbox(f"{place}/box", "h", mode=0o4755),
            Mailbox(f"{place}/box", "h", mode=0o700),
            Maildir(f"{place}/maildir", "h", mode=0o2755),
        ):
            with pytest.raises(TemporaryFailure, match="mode"):
                RemoteWriter(channel, request(ANNA, each))
    assert not (place / "box").exists() and not list(place.glob("maildir/*/*"))
