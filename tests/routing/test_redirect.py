"""The redirect router: what lists make of an address, and how its children are routed."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.config.read import read
from mailsrv.errors import ConfigError
from mailsrv.expansion.rewrite import Rewriter
from mailsrv.interfaces import Routed
from mailsrv.lookup import registry
from mailsrv.mail.connection import Connection
from mailsrv.mail.message import Recipient, Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted, is_tainted
from mailsrv.net.threads import InlineThreads
from mailsrv.routing.route import Routing, check
from mailsrv.routing.verify import Verifier
from mailsrv.service.build import routers_of
from mailsrv.service.environment import make_services
from tests.doubles.log import RecordingLog
from tests.routing import aliases
from tests.routing.aliases import Case
from tests.transport.helpers import Resolver, message


class World:
    """The routers of a configuration."""

    def __init__(self, folder: Path, text: str) -> None:
        path = folder / "exim.conf"
        path.write_text(text, "utf-8")
        configuration = read(str(path))
        self.clock = Clock()
        self.log = RecordingLog()
        self.routing = Routing(
            routers_of(configuration),
            make_services(configuration, self.clock, registry()),
            self.log,
            Resolver(),  # type: ignore[arg-type]
            InlineThreads(),
            self.clock,
            local_transports=dict.fromkeys(configuration.transports, True),
            rewriter=Rewriter(configuration.rewrite),
        )

    def result(self, work: Any) -> Routed:
        done: list[Routed] = []
        run = Deferred.fromCoroutine(work)
        run.addCallback(done.append)
        for _ in range(20_000):
            if done:
                return done[0]
            self.clock.advance(0)
        raise AssertionError("routing waits")

    def route(self, address: str) -> Routed:
        return self.result(self.routing.route(message(), Recipient(Tainted(address))))

    def verify(self, address: str) -> Routed:
        connection = Connection(Origin(), transaction=Transaction(sender="s@e"))
        return self.result(Verifier(self.routing).verify(Tainted(address), connection))


@pytest.fixture
def world(tmp_path: Path) -> Any:
    aliases.fill(tmp_path)

    def make(options: str, *, after: str = "") -> World:
        text = Case(options.strip(), "").configuration(str(tmp_path))
        return World(tmp_path, text.replace("begin transports", after + "begin transports"))

    return make


@pytest.mark.parametrize("case", aliases.cases(), ids=lambda case: f"{case.address} {case.options}")
def test_as_exim(case: Case, tmp_path: Path) -> None:
    """Each recorded redirection is routed as exim4 routes it."""
    aliases.fill(tmp_path)
    world = World(tmp_path, case.configuration(str(tmp_path)))
    routed = world.route(case.address)
    expected = aliases.of_exim(case.exim.replace("DIR", str(tmp_path)))
    same = aliases.of_mailsrv(case.address, routed) == expected
    assert same == (case.address not in aliases.OURS), (routed, expected)


FAIL = "allow_fail\nallow_defer\ndata = ${if eq{$local_part}{x}{\\N%s\\N}}"


def keys(routed: Routed) -> list[str]:
    return [each.address for each in routed.addresses]


def test_one_child_is_verified_and_several_are_not(world: Any) -> None:
    """Verification goes on with a single child; a list verifies as it is (44.45)."""
    assert world("data = ${if eq{$local_part}{x}{joe}}").verify("x@q.example").status is None
    failed = world("data = ${if eq{$local_part}{x}{nobody}}").verify("x@q.example")
    assert failed.status is not None and failed.status.code == 550
    for data in ("nobody, nobody2", "/dev/null", ":blackhole:"):
        w = world(f"data = ${{if eq{{$local_part}}{{x}}{{{data}}}}}")
        assert w.verify("x@q.example").status is None


@pytest.mark.parametrize(
    ("text", "code", "enhanced", "said"),
    [
        (":fail: gone away", 550, "5.1.1", "gone away"),
        (":fail: 551 5.7.1 no", 551, "5.7.1", "no"),
        (":fail:", 550, "5.1.1", "Unrouteable address"),
        (":defer: later", 451, "4.3.0", "later"),
        (":defer: 450 4.2.1 busy", 450, "4.2.1", "busy"),
        ("joe, :fail: gone", 550, "5.1.1", "gone"),
    ],
)
def test_what_a_client_reads(world: Any, text: str, code: int, enhanced: str, said: str) -> None:
    status = world(FAIL % text).verify("x@q.example").status
    assert (status.code, status.enhanced, status.text) == (code, enhanced, said)


def test_wrong_and_forbidden_codes(world: Any) -> None:
    w = world(FAIL % ":fail: 450 4.1.1 no")
    status = w.verify("x@q.example").status
    assert (status.code, status.text) == (550, "no")
    assert "incorrect digit" in str(w.log.events)
    w = world(FAIL % ":fail: 551 5.7.1 no" + "\nforbid_smtp_code")
    answer = w.verify("x@q.example")
    assert answer.status is not None
    assert (answer.status.code, answer.status.text, answer.reason) == (550, "no", "no")


def test_what_children_get_of_their_parent(world: Any) -> None:
    """Bounces, headers and data of the router stay with the addresses that it makes (22)."""
    w = world(
        "data = ${if eq{$local_part}{x}{joe}}\nerrors_to = jane\naddress_data = d\n"
        "set = r_one = 1\nhide_child_in_errmsg\none_time"
    )
    (joe,) = w.route("x@q.example").addresses
    assert (joe.errors_to, joe.address_data, joe.vars["r_one"]) == ("jane", "d", "1")
    assert joe.hidden and joe.one_time and is_tainted(joe.local_part)
    assert joe.parent is not None and joe.parent.router == "aliases"
    w = world("data = ${if eq{$local_part}{x}{joe}}\nheaders_add = X-A: $local_part\n"
              "headers_remove = X-B")  # fmt: skip
    (joe,) = w.route("x@q.example").addresses
    assert (joe.headers_add, joe.headers_remove) == (["X-A: x"], ["X-B"])


def test_places(world: Any) -> None:
    """A pipe or file is a delivery of its parent (22.6), by the transport that is named for it."""
    w = world(
        "data = ${if eq{$local_part}{x}{\\N|/bin/a b, /m/x, /m/d/\\N}}\n" + aliases.PLACES
        + "user = root\ngroup = daemon\ninitgroups\ntransport_current_directory = /tmp\n"
        "local_part_suffix = -*\nlocal_part_suffix_optional"
    )  # fmt: skip
    pipe, file, folder = w.route("x-1@q.example").addresses
    assert [each.transport for each in (pipe, file, folder)] == ["pipes", "files", "folders"]
    assert (pipe.address, pipe.local_part, pipe.suffix, pipe.domain) == (
        "|/bin/a b", "x", "-1", "q.example",
    )  # fmt: skip
    assert (pipe.user, pipe.group, pipe.initgroups, pipe.directory) == (
        "root", "daemon", True, "/tmp",
    )  # fmt: skip
    assert not is_tainted(pipe.address)
    assert pipe.parent is not None and pipe.parent.address == "x-1@q.example"


def test_a_peer_chooses_no_place(world: Any) -> None:
    (file,) = world("data = /tmp/$local_part\n" + aliases.PLACES).route("x@q.example").addresses
    assert is_tainted(file.address)
    answer = world("data = :include:/tmp/$local_part").route("x@q.example")
    assert answer.status is not None and "tainted" in answer.reason


def test_the_place_of_a_fault(world: Any) -> None:
    """The log tells where a string failed; a report tells strangers no more than Exim's words."""
    answer = world("data = x ${lookup{x}lsearch{/nonexistent}}").route("x@q.example")
    assert answer.reason.startswith(answer.told)
    assert re.fullmatch(r" \(line \d+ of \S+, character 3\)", answer.reason[len(answer.told) :])


@pytest.mark.parametrize(
    "text", ["forbid_file\ndata = /x", "forbid_file\ndata = /x/", "forbid_pipe\ndata = |x",
             "one_time\ndata = |x"],
)  # fmt: skip
def test_forbidden_places_defer(world: Any, text: str) -> None:
    (one,) = world(text + "\n" + aliases.PLACES).route("x@q.example").unrouted
    assert one.status.temporary and one.reason.endswith("forbidden")


def test_equal_children_are_routed_once(world: Any) -> None:
    """Lists that double at each step cost no more than their addresses (22.7)."""
    more = "l${eval:$1+1}, l${eval:$1+2}"
    text = r"data = ${if match{$local_part}{\N^l([0-9]+)$\N}{${if <{$1}{60}{MORE}{joe}}}}"
    text = text.replace("MORE", more)
    assert keys(world(text).route("l0@q.example")) == ["joe@q.example"]


def test_an_endless_chain_ends(world: Any) -> None:
    w = world("data = n$local_part@q.example")
    (one,) = w.route("x@q.example").unrouted
    assert one.status.temporary and one.reason == "routing loop"
    assert len(list(one.address.ancestors())) == 101
    w = world("data = n$local_part@q.example")
    status = w.verify("x@q.example").status
    assert status is not None and status.temporary


def test_files_that_include_each_other(world: Any, tmp_path: Path) -> None:
    w = world("data = :include:DIR/loop")
    (tmp_path / "loop").write_text(f"joe, :include:{tmp_path}/loop")
    answer = w.route("x@q.example")
    assert answer.status is not None and "include each other" in answer.reason


def test_an_included_file_may_not_leave_its_directory(world: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    w = world("data = :include:DIR/in/link\ninclude_directory = DIR/in")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "nl")
    answer = w.route("x@q.example")
    assert answer.status is not None and "is not in directory" in answer.reason


def test_demands_on_the_file(world: Any, tmp_path: Path) -> None:
    w = world("file = DIR/nl\nlocal_parts = x\nmodemask = 002")
    (tmp_path / "nl").chmod(0o664)
    assert keys(w.route("x@q.example")) == ["joe@q.example"]
    (tmp_path / "nl").chmod(0o666)
    assert "bad mode (0100666)" in w.route("x@q.example").reason
    (tmp_path / "nl").chmod(0o644)
    other = "daemon" if os.geteuid() == 0 else "root"
    w = world(f"file = DIR/nl\nlocal_parts = x\nowners = {other}")
    assert "bad owner" in w.route("x@q.example").reason
    w = world(f"file = DIR/nl\nlocal_parts = x\nowngroups = {other}")
    assert "bad group" in w.route("x@q.example").reason


def test_a_pipe_as_the_file_does_not_hang(world: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in world("file = DIR/fifo").route("x@q.example").reason


def test_a_large_list_lets_others_have_their_turn(world: Any, tmp_path: Path) -> None:
    w = world("data = :include:DIR/many\nlocal_parts = x")
    (tmp_path / "many").write_text("".join(f"u{number}@far.example\n" for number in range(2000)))
    assert len(w.route("x@q.example").addresses) == 2000


def test_an_alias_file_of_100_000_lines(world: Any, tmp_path: Path) -> None:
    """It is read once; after that an alias costs about as much as in a small file."""
    w = world("data = ${lookup{$local_part}lsearch{DIR/aliases}}")
    (tmp_path / "aliases").write_text("".join(f"a{n}: joe, jane\n" for n in range(100_000)))
    for number in range(0, 100_000, 500):
        assert len(keys(w.route(f"a{number}@q.example"))) == 2


@pytest.mark.parametrize(
    "text", ["", "data = x\nfile = /x", "data = x\ntransport = users", "data = x\nallow_filter",
             "data = x\none_time\nunseen", "data = x\none_time\nheaders_add = X: y",
             "data = x\nqualify_domain = a\nqualify_preserve_domain"],
)  # fmt: skip
def test_bad_options(world: Any, text: str) -> None:
    with pytest.raises(Exception) as caught:
        world(text)
    assert "aliases router" in str(caught.value)


def test_an_owner_that_nobody_can_be(world: Any) -> None:
    """Exim, too, finds it only when it reads the file."""
    w = world("file = /x\ncheck_owner")
    (error,) = w.routing.routers[0].late()
    assert "check_owner needs check_local_user or owners" in error.problem


def test_redirect_router_must_exist(world: Any) -> None:
    w = world("data = x\nredirect_router = nosuch")
    (error,) = check(w.routing.routers)
    assert isinstance(error, ConfigError) and "nosuch" in error.problem


def test_debians_router_for_forward_files(world: Any, tmp_path: Path) -> None:
    """What Debian's configuration says of .forward files is taken, and no file is no obstacle."""
    w = world("data =", after=f"""
userforward:
  driver = redirect
  domains = q.example
  check_local_user
  file = {tmp_path}/.forward
  require_files = $local_part_data:{tmp_path}
  no_verify
  no_expn
  check_ancestor
  allow_filter
  forbid_smtp_code = true
  directory_transport = folders
  file_transport = files
  pipe_transport = pipes
  reply_transport = replies
  skip_syntax_errors
  syntax_errors_to = real-$local_part@$domain
  syntax_errors_text = An error has been found in your .forward file.
  forbid_filter_run
""")  # fmt: skip
    name = pwd.getpwuid(os.getuid()).pw_name
    assert w.route(f"{name}@q.example").status is not None
    (tmp_path / ".forward").write_text("joe, jane@")
    (tmp_path / ".forward").chmod(0o600)
    assert keys(w.route(f"{name}@q.example")) == ["joe@q.example"]
    assert "skipped error" in str(w.log.events)
    (tmp_path / ".forward").write_text("# Exim filter\nfinish\n")
    answer = w.route(f"{name}@q.example")
    assert answer.status is not None and "known to Exim, not to mailsrv" in answer.reason


def test_children_are_rewritten(tmp_path: Path) -> None:
    """Rules for recipients concern what lists make, unless no_rewrite is set (31.2)."""
    for option, expected in (("", "a@new.example"), ("no_rewrite", "a@old.example")):
        text = f"""
            begin routers
            list:
              driver = redirect
              domains = list.example
              data = a@old.example
              {option}
            all:
              driver = accept
              transport = t
            begin transports
            t:
              driver = appendfile
              file = /nonexistent
            begin rewrite
            *@old.example $1@new.example T
            *@new.example $1@never.example F
        """
        world = World(tmp_path, "\n".join(line.strip() for line in text.split("\n")))
        (child,) = world.route("x@list.example").addresses
        assert child.address == expected
        # A recipient as given is rewritten at reception, and again only for verification.
        assert world.route("b@old.example").addresses[0].address == "b@old.example"
        assert world.verify("b@old.example").addresses[0].address == "b@new.example"


def test_a_verified_sender_stays_rewritten(tmp_path: Path) -> None:
    """Verification of the sender rewrites it for good, and once (31.2)."""
    text = """begin routers
all:
  driver = accept
  verify_only
begin rewrite
*@c c$1@c F
"""
    world = World(tmp_path, text)
    connection = Connection(Origin(), transaction=Transaction(sender=Tainted("a@c")))
    verifier = Verifier(world.routing)
    for _ in range(2):
        sender = connection.transaction.sender if connection.transaction else ""
        routed = world.result(verifier.verify(sender, connection, as_sender=True))
        assert routed.addresses[0].address == "ca@c"
        assert connection.transaction is not None and connection.transaction.sender == "ca@c"
