"""Aliases, lists, files and commands in a running server; and what exim4 says of redirections."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import machine, sandbox
from tests.real.server import Server
from tests.routing import aliases

ALIASES = """\
one: joe
all: one, jane, Joe <joe@here.example>
chain: all, bob
loop: loop2
loop2: loop, jane
joe-only: joe, joe-only
mixed: joe, nobody, jane, nothere
gone: :fail: 551 5.1.6 moved to the moon
busy: :defer: 450 4.2.1 come back
null: /dev/null
hole: :blackhole:
file: FOLDER/box
folder: FOLDER/dir/
pipe: "|/bin/sh -c 'cat > FOLDER/piped; echo $LOCAL_PART >> FOLDER/piped'"
broken: "|/bin/sh -c 'echo what happened; exit 7'", joe
half: joe, x@later.example
"""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("redirect.conf", {"T_EXTRA": "", "T_FORWARD": ""})
    folder = server.folder
    (folder / "aliases").write_text(ALIASES.replace("FOLDER", str(folder)))
    (folder / "list").write_text("joe\nx@later.example\n# nobody\njane\n")
    (folder / "mail").mkdir()
    if os.geteuid() == 0:
        user = str(server.macros["T_USER"])
        for name in ("aliases", "list", "mail"):
            shutil.chown(folder / name, user)
    yield server
    server.close()


def send(server: Server, *recipients: str) -> str:
    """Send one message; return its id."""
    with server.client(tls=False) as client:
        client.mail("sender@here.example")
        for recipient in recipients:
            assert client.rcpt(f"{recipient}@here.example")[0] == 250
        client.putcmd("DATA")
        assert client.getreply()[0] == 354
        client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        code, text = client.getreply()
        assert code == 250
    return text.decode().rpartition("id=")[2].split()[-1]


def mails(server: Server, user: str) -> list[bytes]:
    return [path.read_bytes() for path in (server.folder / "mail" / user / "new").glob("*")]


def completed(server: Server, id: str) -> list[str]:
    """Wait for a message's end; return its lines in the log."""
    server.wait_for_log(f"{id} Completed")
    return [line for line in server.log().splitlines() if id in line]


def test_aliases_of_aliases(server: Server) -> None:
    """Each mailbox has one copy, whichever ways lead to it; loops end."""
    server.start()
    lines = completed(server, send(server, "chain", "all", "one", "joe-only"))
    assert [len(mails(server, user)) for user in ("joe", "jane", "bob")] == [1, 1, 1]
    assert sum(" => " in line for line in lines) == 3
    assert any("=> bob@here.example <chain@here.example> R=users T=mailbox" in x for x in lines)
    lines = completed(server, send(server, "joe"))
    assert len(mails(server, "joe")) == 2
    with server.client(tls=False) as client:
        client.mail("sender@here.example")
        assert client.rcpt("loop@here.example")[0] == 250  # a list of two verifies as it is
    lines = completed(server, send(server, "loop"))
    assert len(mails(server, "jane")) == 2
    assert sum(" ** " in line for line in lines) == 1


def test_refusals_at_rcpt(server: Server) -> None:
    """The text and code of :fail: and :defer: are what the client reads."""
    server.start()
    with server.client(tls=False) as client:
        client.mail("sender@here.example")
        code, text = client.rcpt("gone@here.example")
        assert code == 551 and b"moved to the moon" in text
        code, text = client.rcpt("busy@here.example")
        assert code == 450 and b"come back" in text
        code, text = client.rcpt("nobody@here.example")
        assert code == 550 and b"Unrouteable address" in text
        assert client.rcpt("one@here.example")[0] == 250


def test_good_and_failing_children(server: Server) -> None:
    """Exactly one bounce names what failed and where it came from; nothing arrives twice."""
    server.start()
    completed(server, send(server, "mixed"))
    machine.wait_until(lambda: mails(server, "sender"), server.logged())
    (bounce,) = mails(server, "sender")
    for name in ("nobody", "nothere"):
        assert f"{name}@here.example".encode() in bounce
    assert bounce.count(b"(generated from mixed@here.example)") == 2
    assert b"joe@here.example" not in bounce
    assert [len(mails(server, user)) for user in ("joe", "jane")] == [1, 1]


def test_one_waits_and_the_other_does_not(server: Server) -> None:
    """What was delivered is not delivered again, also after a restart and more attempts."""
    server.start()
    id = send(server, "half")
    server.wait_for_log(f"{id} == x@later.example")
    server.restart()
    machine.wait_until(lambda: server.run("-qff").returncode == 0, "the control socket")
    for count in (3, 4):
        server.command("-qff")
        server.wait_for_log(f"{id} == x@later.example", count=count)
    assert len(mails(server, "joe")) == 1
    (server.folder / "aliases").write_text("half: joe\n")
    server.command("-qff")
    completed(server, id)
    assert len(mails(server, "joe")) == 1


def test_places(server: Server) -> None:
    """Files, directories, commands and nothing; a failing command's output goes back."""
    server.start()
    lines = completed(server, send(server, "file", "folder", "pipe", "null", "hole"))
    folder = server.folder
    assert b"hello" in (folder / "box").read_bytes()
    assert len(list((folder / "dir" / "new").iterdir())) == 1
    assert (folder / "piped").read_text().endswith("hello\n\npipe\n")
    text = "\n".join(lines)
    for wanted in (
        f"=> {folder}/box <file@here.example> R=aliases T=address_file",
        "=> /dev/null <null@here.example> R=aliases T=**bypassed**",
        "=> :blackhole: <hole@here.example> R=aliases",
        "=> |/bin/sh -c ",
    ):
        assert wanted in text
    completed(server, send(server, "broken"))
    machine.wait_until(lambda: mails(server, "sender"), server.logged())
    (bounce,) = mails(server, "sender")
    for part in (b"pipe to |/bin/sh", b"generated by broken@here.example", b"local delivery failed",
                 b"what happened"):  # fmt: skip
        assert part in bounce
    assert len(mails(server, "joe")) == 1


def test_a_list_that_is_expanded_once(server: Server) -> None:
    """Who joins later has no part in what came before (one_time)."""
    server.start()
    id = send(server, "members-list")
    server.wait_for_log(f"{id} == x@later.example <members-list@here.example>")
    (server.folder / "list").write_text("bob\n")
    server.command("-qff")
    server.wait_for_log(f"{id} == x@later.example <members-list@here.example>", count=2)
    assert [len(mails(server, user)) for user in ("joe", "jane", "bob")] == [1, 1, 0]
    server.command("-Mg", id)
    machine.wait_until(lambda: mails(server, "owner"), server.logged())


def test_forward_files_and_commands_of_users(server: Server) -> None:
    """A private .forward is read as the user it belongs to, and its command runs as that user."""
    machine.need_root("it delivers as other users")
    home = server.folder / "home"
    home.mkdir()
    home.chmod(0o755)
    owner = home / "games"
    owner.mkdir()
    (owner / "more").write_text("bob\n")
    command = "id -un > HOME/ran; cat > HOME/piped".replace("HOME", str(owner))
    text = f"joe, :include:{owner}/more, {owner}/box, \"|/bin/sh -c '{command}'\"\n"
    (owner / ".forward").write_text(text)
    for path in (owner, owner / ".forward", owner / "more"):
        shutil.chown(path, "games")
        path.chmod(0o700 if path.is_dir() else 0o600)
    server.folder.chmod(0o755)
    server.macros["T_EXTRA"] = "never_users = root"
    text = server.configuration.read_text()
    router = f"""forward:
  driver = redirect
  check_local_user
  file = {home}/$local_part_data/.forward
  pipe_transport = address_pipe
  file_transport = address_file
"""
    server.configuration.write_text(text.replace("T_FORWARD\n", router))
    server.start()
    completed(server, send(server, "games"))
    assert (owner / "ran").read_text() == "games\n"
    assert b"hello" in (owner / "piped").read_bytes()
    assert b"hello" in (owner / "box").read_bytes()
    assert (owner / "box").stat().st_uid == owner.stat().st_uid
    assert [len(mails(server, user)) for user in ("joe", "bob")] == [1, 1]
    (owner / ".forward").chmod(0o622)
    with server.client(tls=False) as client:
        client.mail("sender@here.example")
        assert client.rcpt("games@here.example")[0] == 451
    assert "bad mode" in server.log()


def test_expn(server: Server) -> None:
    server.start()
    with server.client(tls=False) as client:
        code, text = client.docmd("EXPN", "all")
    assert code == 250
    assert {line.strip() for line in text.decode().split("\n")} == {
        "<joe@here.example>", "<jane@here.example>",
    }  # fmt: skip


def test_the_record_of_exim4(tmp_path: Path) -> None:
    """What the unit test compares with is what exim4 says."""
    machine.need_root("exim4 drops root else")
    program = sandbox.unpacked("exim4-daemon-heavy") / "usr/sbin/exim4"
    aliases.fill(tmp_path)
    (tmp_path / "log").mkdir()
    box = sandbox.Sandbox(tmp_path, {"Debian-exim": 64901}, None)
    configuration = tmp_path / "exim.conf"
    (box.etc / "exim4").mkdir()
    (box.etc / "exim4" / "trusted_configs").write_text(f"{configuration}\n")
    shutil.chown(tmp_path / "log", 64901)
    tmp_path.chmod(0o755)
    for case in aliases.cases():
        text = f"spool_directory = {tmp_path}\nlog_file_path = {tmp_path}/log/%slog\n"
        configuration.write_text(text + case.configuration(str(tmp_path)), "utf-8")
        words = [str(program), "-C", str(configuration), "-bt", case.address]
        done = subprocess.run(box.command(words), capture_output=True, timeout=60)
        printed = done.stdout.decode()
        assert printed.replace(str(tmp_path), "DIR") == case.exim, case
