"""The pipe transport: what is run, what it reads, and what its end means (chapter 29)."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.errors import ConfigError
from mailsrv.mail.message import InlineBody
from mailsrv.mail.routed import Outcome, Result
from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.transport.command import Command, CommandWriter
from mailsrv.transport.commandline import split
from mailsrv.transport.transports.pipe import Pipe
from tests.transport.helpers import World, make, message, routed

PLAIN = {"message_prefix": "", "message_suffix": ""}


def place(command: str, address: str = "x@e", **changes: Any) -> Any:
    parent = routed(address)
    changes = {"address": command, "place": True, "parent": parent, **changes}
    return replace(routed(address), **changes)


def run(address: Any = None, mail: Any = None, **options: str) -> tuple[Outcome, World]:
    world = World(make(Pipe, **{**PLAIN, **options}))
    (outcome,) = world.deliver(mail or message(), address or routed("x@e"))
    return outcome, world


# --- the command line ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("/bin/a b  c", ["/bin/a", "b", "c"]),
        ('a "b c\\t\\"d" \'e\\n f\' g', ["a", 'b c\t"d', "e\\n f", "g"]),
        ('a b"c d" e', ["a", 'b"c', 'd"', "e"]),
        ("a ''", ["a", ""]),
        ('a "b', ["a", "b"]),
        ("", []),
    ],
)
def test_arguments(line: str, arguments: list[str]) -> None:
    assert split(line) == arguments


@given(st.text(alphabet="ab \"'\\$\n\t", max_size=30))
def test_any_line_is_cut(line: str) -> None:
    assert all(is_tainted(argument) or not argument for argument in split(Tainted(line)))


def test_a_value_stays_one_argument(tmp_path: Path) -> None:
    """Arguments are expanded each by itself; quotes and blanks of a value mean nothing (29.3)."""
    outcome, _ = run(command=f'/usr/bin/touch "{tmp_path}/${{if eq{{1}}{{1}}{{a b}}}}"')
    assert outcome.result is Result.DELIVERED
    assert (tmp_path / "a b").exists()


def test_all_addresses_as_arguments(tmp_path: Path) -> None:
    """$pipe_addresses is each address by itself, whatever it holds."""
    script = tmp_path / "s"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/out\n')
    script.chmod(0o700)
    world = World(make(Pipe, command=f"{script} -- $pipe_addresses", batch_max="10", **PLAIN))
    world.deliver(message(), routed("a;b@e"), routed("c d@e"))
    assert (tmp_path / "out").read_text() == "--\na;b@e\nc d@e\n"


def test_a_command_of_the_network_is_not_run(tmp_path: Path) -> None:
    for command in (
        f"/usr/bin/touch {tmp_path}/$local_part",
        "$local_part",
        "/bin/sh -c $h_subject:",
    ):
        outcome, _ = run(routed("evil@e"), command=command)
        assert outcome.result is Result.DEFERRED and "ainted" in outcome.reason
    outcome, _ = run(place(Tainted(f"|/usr/bin/touch {tmp_path}/x")))
    assert outcome.result is Result.DEFERRED and "ainted" in outcome.reason
    outcome, _ = run(use_shell="true", command=f"/usr/bin/touch {tmp_path}/$local_part")
    assert outcome.result is Result.DEFERRED and "ainted" in outcome.reason
    assert not list(tmp_path.iterdir())


# --- what it reads and has ----------------------------------------------------------------


def test_the_message_on_standard_input(tmp_path: Path) -> None:
    outcome, _ = run(
        mail=message(b"From x\r\n.\r\n"), command=f"/bin/sh -c 'cat > {tmp_path}/out'",
        check_string="From ", escape_string=">From ", message_prefix="<$local_part>\n",
        message_suffix="end\n",
    )  # fmt: skip
    assert outcome.result is Result.DELIVERED
    assert (tmp_path / "out").read_text() == "<x>\nSubject: hi\n\n>From x\n.\nend\n"


def test_a_large_message_and_a_command_that_talks_meanwhile(tmp_path: Path) -> None:
    """Neither side waits for the other."""
    body = b"x" * 78 + b"\r\n"
    mail = message(InlineBody(body * 50_000))
    outcome, _ = run(mail=mail, command="/bin/cat", max_output="100M")
    assert outcome.result is Result.DELIVERED
    outcome, _ = run(mail=mail, command="/bin/true")  # it reads nothing
    assert outcome.result is Result.DELIVERED


def test_environment(tmp_path: Path) -> None:
    """A command has these variables, and none of the server's (29.4)."""
    os.environ["MAILSRV_SECRET"] = "x"
    script = f"cd {tmp_path}; env > env; umask > umask"
    pipe = place(f"|/bin/sh -c '{script}; pwd > pwd'", "joe@e", prefix="p-", suffix="-s",
                 home=str(tmp_path))  # fmt: skip
    outcome, _ = run(pipe, environment="A=b:C=$domain", path="/bin:/usr/bin", umask="027")
    assert outcome.result is Result.DELIVERED, outcome
    lines = (tmp_path / "env").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    found = {name: value for name, value in found.items() if name not in ("PWD", "OLDPWD")}
    assert found == {
        "A": "b", "C": "e", "DOMAIN": "e", "HOME": str(tmp_path), "LOCAL_PART": "joe",
        "LOCAL_PART_PREFIX": "p-", "LOCAL_PART_SUFFIX": "-s", "LOGNAME": "joe",
        "MESSAGE_ID": "1abcde-000001-AB", "PATH": "/bin:/usr/bin", "QUALIFY_DOMAIN": "",
        "RECIPIENT": "p-joe-s@e", "SENDER": "sender@example.org", "SHELL": "/bin/sh", "USER": "joe",
    }  # fmt: skip
    assert (tmp_path / "pwd").read_text().strip() == str(tmp_path)
    assert (tmp_path / "umask").read_text().strip() == "0027"


def test_directories(tmp_path: Path) -> None:
    command = f"/bin/sh -c 'pwd > {tmp_path}/pwd'"
    run(routed("x@e", directory="/tmp"), command=command)
    assert (tmp_path / "pwd").read_text() == "/tmp\n"
    run(routed("x@e", directory="/tmp"), command=command, current_directory="/usr")
    assert (tmp_path / "pwd").read_text() == "/usr\n"
    run(command=command)
    assert (tmp_path / "pwd").read_text() == "/\n"
    outcome, _ = run(command=command, current_directory=f"{tmp_path}/none")
    assert outcome.result is Result.DEFERRED and "chdir" in outcome.reason


# --- its end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "options", "result", "reason"),
    [
        ("exit 0", {}, Result.DELIVERED, ""),
        ("exit 1", {}, Result.FAILED, "process of t transport returned 1 from command: /bin/sh"),
        ("exit 69", {}, Result.FAILED, "returned 69 (could mean service or program unavailable)"),
        ("exit 75", {}, Result.DEFERRED, "returned 75 (could mean temporary error) from command"),
        ("exit 73", {}, Result.DEFERRED, "returned 73"),
        ("exit 75", {"temp_errors": "1:2"}, Result.FAILED, "returned 75"),
        ("exit 2", {"temp_errors": "*"}, Result.DEFERRED, "returned 2"),
        ("exit 1", {"ignore_status": "true"}, Result.DELIVERED, ""),
        ("exit 137", {}, Result.FAILED, "(could mean shell command ended by signal 9 (Killed))"),
        ("kill -9 $$", {}, Result.FAILED, "was terminated by signal 9 (Killed)"),
        ("echo x", {}, Result.DELIVERED, ""),
        ("echo x", {"return_output": "true"}, Result.FAILED, ""),
        ("echo x; exit 75", {"return_output": "true"}, Result.FAILED, "returned 75"),
        ("exit 75", {"return_output": "true"}, Result.DEFERRED, "returned 75"),
    ],
)  # fmt: skip
def test_statuses(script: str, options: dict[str, str], result: Result, reason: str) -> None:
    outcome, _ = run(place(f"|/bin/sh -c '{script}'"), **options)
    assert outcome.result is result
    assert reason in outcome.reason
    if result is Result.FAILED:
        assert outcome.told == "local delivery failed"


def test_output_goes_back_and_into_the_log() -> None:
    outcome, world = run(
        place("|/bin/sh -c 'echo one; echo two >&2; exit 9'"),
        return_fail_output="true", log_output="true",
    )  # fmt: skip
    assert outcome.output == "one\ntwo\n"
    assert "<|/bin/sh -c 'echo one; echo two >&2; exit 9'>: t transport output: one" in str(
        world.log.events
    )
    outcome, world = run(place("|/bin/sh -c 'echo one'"), return_fail_output="true",
                         log_fail_output="true")  # fmt: skip
    assert (outcome.result, outcome.output) == (Result.DELIVERED, "")
    assert "output" not in str(world.log.events)
    outcome, _ = run(place("|/bin/sh -c 'echo one'"), message(sender=""), return_output="true")
    assert outcome.output == ""


def test_too_much_output_kills() -> None:
    outcome, _ = run(command="/usr/bin/head -c 200000 /dev/zero", max_output="1000")
    assert outcome.result is Result.FAILED
    assert "terminated by signal" in outcome.reason or "returned" in outcome.reason


def test_a_timeout_kills_all_of_it(tmp_path: Path) -> None:
    """The children of a command die with it."""
    for option, result in (("false", Result.FAILED), ("true", Result.DEFERRED)):
        begun = time.monotonic()
        outcome, _ = run(
            place(f"|/bin/sh -c 'sleep 31 & echo $! > {tmp_path}/pid; wait'"),
            timeout="1s", timeout_defer=option,
        )  # fmt: skip
        assert (outcome.result, outcome.reason) == (result, "pipe delivery process timed out")
        assert time.monotonic() - begun < 20
        pid = int((tmp_path / "pid").read_text())
        for _ in range(100):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the command's child lives")


def test_what_is_left_running_holds_nothing_up() -> None:
    """A daemon that a command starts may keep its output open."""
    begun = time.monotonic()
    outcome, _ = run(place("|/bin/sh -c 'sleep 20 & exit 0'"), timeout="10s")
    assert outcome.result is Result.DELIVERED
    assert time.monotonic() - begun < 8


def test_what_cannot_be_run() -> None:
    outcome, _ = run(command="/no/such")
    assert outcome.result is Result.FAILED
    assert "returned 127 (could mean unable to exec or command does not exist)" in outcome.reason
    outcome, _ = run(command="/no/such", freeze_exec_fail="true", ignore_status="true")
    assert outcome.frozen and outcome.result is Result.DEFERRED
    assert outcome.reason == 'pipe process failed to exec "/no/such"'
    outcome, _ = run(command="no-such-command")
    assert outcome.reason == '"no-such-command" command not found for t transport'
    outcome, _ = run()
    assert outcome.result is Result.DEFERRED and "no command" in outcome.reason


def test_freeze_signal() -> None:
    outcome, _ = run(place("|/bin/sh -c 'kill -15 $$'"), freeze_signal="true")
    assert outcome.frozen and "signal 15" in outcome.reason


@pytest.mark.parametrize(
    ("command", "options", "allowed"),
    [
        ("/bin/true", {"allow_commands": "/bin/false"}, False),
        ("/bin/true", {"allow_commands": "/bin/false:/bin/true"}, True),
        ("true", {"restrict_to_path": "true"}, True),
        ("/bin/true", {"restrict_to_path": "true"}, False),
        ("/bin/true", {"restrict_to_path": "true", "allow_commands": "/bin/true"}, True),
        ("true", {"restrict_to_path": "true", "path": "/no"}, False),
    ],
)
def test_which_commands(command: str, options: dict[str, str], allowed: bool) -> None:
    outcome, _ = run(place(f"|{command}"), **options)
    assert (outcome.result is Result.DELIVERED) == allowed


def test_force_command(tmp_path: Path) -> None:
    script = tmp_path / "s"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/out\n')
    script.chmod(0o700)
    outcome, _ = run(place('|/bin/x "a b" c'), command=f"{script} -- $address_pipe",
                     force_command="true")  # fmt: skip
    assert outcome.result is Result.DELIVERED
    assert (tmp_path / "out").read_text() == "--\n/bin/x\na b\nc\n"


@pytest.mark.parametrize(
    "options",
    [
        {"return_output": "true", "return_fail_output": "true"},
        {"log_output": "true", "log_fail_output": "true"},
        {"use_shell": "true", "allow_commands": "/bin/x"},
        {"use_shell": "true", "restrict_to_path": "true"},
        {"temp_errors": "x"},
    ],
)
def test_bad_options(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        make(Pipe, **options)


def test_force_command_without_a_command_is_found_when_it_is_used() -> None:
    (error,) = make(Pipe, force_command="true").late()
    assert "force_command needs command" in error.problem


def test_a_command_that_is_given_up_ends() -> None:
    writer = CommandWriter(Command(("/bin/sleep", "30")))
    writer.write(b"x")
    writer.abort()
    assert writer._process is not None and writer._process.returncode == -signal.SIGKILL
    writer.abort()
