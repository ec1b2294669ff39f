"""``mailsrv-sendmail``: what programs call ``sendmail`` (specification chapter 5), without setuid.

Speaks to the server through its socket, or leaves the message in the drop folder.
It must start quickly, so it imports little and does not read the configuration as
a whole: of it, only where the socket is.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from mailsrv.connection.local.frames import (
    DROP,
    DROP_SUFFIX,
    END,
    FRAME_LIMIT,
    GREETING,
    SOCKET,
    Request,
    frame,
)

DEFAULT_FILE = "/etc/mailsrv/exim.conf"
DEFAULT_SPOOL = "/var/spool/mailsrv"
FIRST = 10.0  # seconds until the server's greeting
TIMEOUT = 900.0  # seconds until its answer
OK, FAILED, USAGE, TEMPFAIL = 0, 1, 64, 75  # exit statuses; the last two are of sysexits.h

# Options that Exim or Sendmail have and that change nothing here, and those of
# them whose value is the next argument.
_IGNORED = re.compile(
    r"-(i?o(i|em?|ep|eq|ew|ee|m|o|X.*|Y.*|[A-Za-z].*)|B.*|h.+|x|m|G|n|U|e[emqpw]?|E.*|L.*|v|d.*|O.+"
    r"|ba|bm|A[cm]|N|R.+|V.+)"
)
_WITH_VALUE = re.compile(
    r"-(h|L|O|X|V|oX|oP|oA|oB|B|p|r|f|F|R|N|oMr|oMs|oMa|oMi|oMt|oMaa|oMai|oMas)"
)
_SETTING = re.compile(r"^[ \t]*(spool_directory|local_socket|bi_command)[ \t]*=[ \t]*(.*?)[ \t]*$")


class UsageError(Exception):
    """The command line cannot be obeyed; the text says why."""


class Unreachable(Exception):
    """No server takes the message now; nothing of it was accepted."""


@dataclass(slots=True)
class Invocation:
    """A command line."""

    action: str = "message"  # or bp, q, bi, bs, bS, bV
    words: list[str] = field(default_factory=list)  # of -q and -bp, as they were given
    recipients: list[str] = field(default_factory=list)
    file: str = ""
    sender: str | None = None
    name: str | None = None
    extract: bool = False
    dots: bool = False  # -i: a line with a dot alone ends nothing
    queue_only: bool = False
    protocol: str = ""
    qualify: bool = True
    notify: str = ""
    ret: str = ""
    verbose: bool = False
    errors: str = "m"  # -oe…

    def request(self) -> Request:
        """What the server is asked."""
        return Request(
            smtp=self.action in ("bs", "bS"),
            recipients=tuple(self.recipients),
            sender=self.sender,
            name=self.name,
            extract=self.extract,
            queue_only=self.queue_only,
            protocol=self.protocol,
            qualify=self.qualify,
            notify=self.notify,
            ret=self.ret,
        )


def _octets(text: str) -> str:
    return os.fsencode(text).decode("latin-1")


def parse(program: str, words: Sequence[str]) -> Invocation:
    """Read a command line; ``program`` is the name that it was called by.

    :raises UsageError: an option without its value, or one that nobody knows.
    """
    found = Invocation()
    name = os.path.basename(program)
    if name == "mailq":
        found.action = "bp"
    elif name == "newaliases":
        found.action = "bi"
    elif name == "rmail":
        found.dots, found.errors = True, "e"
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.recipients += map(_octets, rest)
            break
        if not word.startswith("-") or word == "-":
            found.recipients.append(_octets(word))
            continue
        if _WITH_VALUE.fullmatch(word):
            if not rest:
                raise UsageError(f"{word} needs an argument")
            word += rest.pop(0)
        _option(found, word)
    if found.action == "message" and not found.recipients and not found.extract:
        raise UsageError("no recipients: give them as arguments, or -t")
    return found


def _option(found: Invocation, word: str) -> None:
    flags = {"-i": ("dots",), "-oi": ("dots",), "-t": ("extract",), "-ti": ("extract", "dots")}
    flags |= {"-v": ("verbose",), "-odq": ("queue_only",), "-odqs": ("queue_only",)}
    if word in flags:
        for name in flags[word]:
            setattr(found, name, True)
    elif word in ("-bp", "-bpc", "-bpa", "-bpu", "-bpr") or re.fullmatch(r"-q[qifl]*", word):
        found.action = "bp" if word.startswith("-bp") else "q"
        found.words.append(word)
    elif re.fullmatch(r"-q[0-9].*", word):
        raise UsageError(f"{word}: the server runs the queue by itself; -bd starts it")
    elif word in ("-bi", "-bs", "-bS", "-bV"):
        found.action = word[1:]
    elif word == "-bnq":
        found.qualify = False
    elif word in ("-odi", "-odf", "-odb"):
        found.queue_only = False
    elif word.startswith(("-f", "-r")):
        found.sender = _octets(word[2:])
    elif word.startswith("-F"):
        found.name = _octets(word[2:])
    elif word.startswith("-C"):
        found.file = word[2:]
    elif word.startswith(("-p", "-oMr")):
        found.protocol = _octets(word[2:] if word.startswith("-p") else word[4:])
    elif word.startswith("-oe") and word[3:] in tuple("emqpw"):
        found.errors = word[3:]
    elif word.startswith("-N") and len(word) > 2:
        found.notify = _octets(word[2:]).upper()
    elif word.startswith("-R") and word[2:].lower() in ("full", "hdrs"):
        found.ret = word[2:].upper()
    elif not _IGNORED.fullmatch(word):
        raise UsageError(f"unknown option {word}")


# --- where the server is ---------------------------------------------------------


def settings(file: str) -> dict[str, str]:
    """Read the few settings that matter here from a configuration, if it may be read.

    One whose value refers to a macro or a variable is found by reading it whole.
    """
    path = file or DEFAULT_FILE
    found: dict[str, str] = {}
    try:
        with open(path, encoding="latin-1") as lines:
            for line in lines:
                if line.startswith("begin"):
                    break
                match = _SETTING.match(line)
                if match is not None:
                    found[match[1]] = match[2].strip('"')
    except OSError as error:
        if file:
            raise UsageError(f"{path}: {error.strerror}") from error
        return {}
    if any(re.search(r"[$]|\b[A-Z][A-Z_0-9]+\b|\\$", value) for value in found.values()):
        return _expanded(path)
    return found


def _expanded(path: str) -> dict[str, str]:
    from mailsrv.config.read import read
    from mailsrv.lookup import registry
    from mailsrv.service.environment import WallClock, at_start, make_services

    configuration = read(path, {})
    services = make_services(configuration, WallClock(), registry())
    main = configuration.main
    found = {
        name: at_start(getattr(main, name), services, name)
        for name in ("spool_directory", "local_socket")
    }
    return found | ({"bi_command": main.bi_command} if main.bi_command else {})


@dataclass(frozen=True, slots=True)
class Places:
    """Where messages go."""

    socket: str
    drop: str

    @classmethod
    def of(cls, given: dict[str, str]) -> Places:
        """The places that settings name, or those by default."""
        spool = given.get("spool_directory") or DEFAULT_SPOOL
        return cls(given.get("local_socket") or f"{spool}/{SOCKET}", f"{spool}/{DROP}")


def connect(path: str) -> socket.socket:
    """Connect to the server and read its greeting.

    :raises Unreachable: it is not there, or takes nothing now.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(FIRST)
        if len(os.fsencode(path)) < 100:
            made.connect(path)
        else:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            try:
                made.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            finally:
                os.close(folder)
        greeting = _line(made)
    except OSError as error:
        made.close()
        raise Unreachable(error.strerror or str(error)) from error
    if not greeting.startswith(GREETING):
        made.close()
        raise Unreachable(greeting.decode("latin-1").strip())
    made.settimeout(TIMEOUT)
    return made


def _line(connected: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < 4096:
        octet = connected.recv(1)
        if not octet:
            break
        line += octet
    return line


def _reply(connected: socket.socket) -> bytes:
    """Read an SMTP reply; b"" if the connection ends before its last line."""
    lines = b""
    while True:
        line = _line(connected)
        if not line.endswith(b"\n"):
            return b""
        lines += line
        if line[3:4] != b"-":
            return lines


# --- a message -------------------------------------------------------------------


def message_of(stream: BinaryIO, dots: bool) -> bytes:
    """Read the message: all that comes, or up to a line with a dot alone.

    A ``From `` line of mbox at its beginning is dropped.
    """
    if dots:
        text = stream.read()
    else:
        lines = []
        for line in stream:
            if line in (b".\n", b".\r\n", b"."):
                break
            lines.append(line)
        text = b"".join(lines)
    if text.startswith((b"From ", b">From ")):
        text = text.partition(b"\n")[2]
    return text if text.endswith(b"\n") or not text else text + b"\n"


def frames_of(text: bytes) -> bytes:
    """The frames of a message, with its end."""
    pieces = range(0, len(text), FRAME_LIMIT)
    return b"".join(frame(text[start : start + FRAME_LIMIT]) for start in pieces) + END


def send(path: str, request: Request, text: bytes) -> bytes:
    """Give the message to the server; returns its reply, b"" if that is not known.

    :raises Unreachable: the server has not got the message.
    """
    with connect(path) as connected:
        octets = request.octets() + frames_of(text)
        whole = False
        try:
            connected.sendall(octets[: -len(END)])
            whole = True  # from here on the server may have it
            connected.sendall(END)
        except OSError as error:
            answer = _last_words(connected)
            if not answer and not whole:
                raise Unreachable(error.strerror or str(error)) from error
            return answer
        return _last_words(connected)


def _last_words(connected: socket.socket) -> bytes:
    try:
        return _reply(connected)
    except OSError:
        return b""


def drop(folder: str, request: Request, text: bytes) -> None:
    """Leave the message, durably, in the drop folder.

    :raises OSError: that is not possible.
    """
    name = os.path.join(folder, os.urandom(16).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    before = os.umask(0o027)
    try:
        file = os.open(f"{name}.tmp", flags, 0o640)
    finally:
        os.umask(before)
    try:
        octets = memoryview(request.octets() + frames_of(text))
        while octets:
            octets = octets[os.write(file, octets) :]
        os.fsync(file)
        os.rename(f"{name}.tmp", name + DROP_SUFFIX)
        _sync_folder(folder, file)
    except BaseException:
        os.unlink(f"{name}.tmp")
        raise
    finally:
        os.close(file)


def _sync_folder(folder: str, file: int) -> None:
    """Make the new name durable; users may not open the folder, so its file system is synced."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        import ctypes

        if ctypes.CDLL(None).syncfs(file) != 0:
            os.sync()
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def submit(invocation: Invocation, places: Places, stream: BinaryIO) -> int:
    """Read a message and submit it; returns the exit status."""
    text = message_of(stream, invocation.dots)
    request = invocation.request()
    try:
        answer = send(places.socket, request, text)
    except Unreachable as problem:
        try:
            drop(places.drop, request, text)
        except OSError as error:
            tell(f"no server ({problem}), and {places.drop}: {error.strerror}")
            return TEMPFAIL
        if invocation.verbose:
            print(f"left in {places.drop} until the server runs ({problem})")
        return OK
    shown = answer.decode("latin-1").rstrip("\r\n")
    if not answer:
        tell("the connection to the server was lost: it is not known whether it has the message")
        return TEMPFAIL
    if answer.startswith(b"2"):
        if invocation.verbose:
            print(shown)
        return OK
    tell("\n".join(line[4:] for line in shown.split("\r\n")))
    return TEMPFAIL if answer.startswith(b"4") else FAILED


def tell(text: str) -> None:
    """Write to the standard error."""
    shown = "".join(c if " " <= c != "\x7f" or c == "\n" else "?" for c in text)
    print(f"mailsrv-sendmail: {shown}", file=sys.stderr)


# --- SMTP --------------------------------------------------------------------------


def interactive(places: Places, stream: BinaryIO, out: BinaryIO) -> int:
    """``-bs``: the standard input and output are an SMTP client's."""
    import threading

    try:
        connected = connect(places.socket)
    except Unreachable as problem:
        out.write(b"421 no server: " + str(problem).encode("ascii", "replace") + b"\r\n")
        out.flush()
        return TEMPFAIL
    connected.settimeout(None)
    connected.sendall(Request(smtp=True).octets())

    def upstream() -> None:
        fd = stream.fileno()
        try:
            while piece := os.read(fd, 65536):
                connected.sendall(re.sub(rb"(?<!\r)\n", b"\r\n", piece))
            connected.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server ended the session

    threading.Thread(target=upstream, daemon=True).start()
    try:
        while piece := connected.recv(65536):
            out.write(piece)
            out.flush()
    except ConnectionError:
        pass
    return OK


def batched(places: Places, stream: BinaryIO) -> int:
    """``-bS``: SMTP commands in a batch; no replies, an error ends it (47.11)."""
    try:
        connected = connect(places.socket)
    except Unreachable as problem:
        tell(f"no server: {problem}")
        return TEMPFAIL
    with connected:
        connected.sendall(Request(smtp=True).octets())
        said = _reply(connected)
        if said.startswith(b"2"):
            return _batch(lambda octets: _ask(connected, octets), stream)
        tell(said.decode("latin-1").strip())
        return FAILED


def _ask(connected: socket.socket, octets: bytes) -> bytes:
    connected.sendall(octets)
    return _reply(connected)


def _batch(ask: Callable[[bytes], bytes], stream: BinaryIO) -> int:
    """Say the lines of a batch; 0 if all was accepted, 1 with some message taken before, else 2."""
    accepted = 0
    greeted = False
    for number, raw in enumerate(stream, 1):
        line = raw.rstrip(b"\r\n")
        verb = line[:4].upper()
        if not line:
            continue
        if verb == b"MAIL" and not greeted:
            ask(b"EHLO localhost\r\n")
        greeted = greeted or verb in (b"MAIL", b"EHLO", b"HELO")
        said = ask(line + b"\r\n")
        if verb == b"DATA" and said.startswith(b"3"):
            said = ask(_data(stream))
            accepted += said.startswith(b"2")
        if not said.startswith(b"2"):
            shown = said.decode("latin-1").strip() or "the connection to the server was lost"
            tell(f"line {number}: {line[:200].decode('latin-1')}\n{shown}")
            tell(f"{accepted} message(s) accepted before the error")
            return 1 if accepted else 2
        if verb == b"QUIT":
            break
    return OK


def _data(stream: BinaryIO) -> bytes:
    """The lines of a message, with the line that ends it."""
    lines = []
    for raw in stream:
        line = raw.rstrip(b"\r\n")
        if line == b".":
            break
        lines.append(line + b"\r\n")
    return b"".join(lines) + b".\r\n"


# --- the rest ------------------------------------------------------------------------


def newaliases(command: str) -> int:
    """``-bi``: run bi_command, or do nothing."""
    if not command:
        return OK
    import shlex
    import subprocess

    return subprocess.call(shlex.split(command))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (with the program's name); returns the exit status."""
    words = list(sys.argv if argv is None else argv)
    try:
        invocation = parse(words[0], words[1:])
        if invocation.action in ("bp", "q", "bV"):
            from mailsrv.commands.main import main as mailsrv

            file = ["-C", invocation.file] if invocation.file else []
            return mailsrv([*file, *(invocation.words or [f"-{invocation.action}"])])
        given = settings(invocation.file)
    except UsageError as problem:
        tell(str(problem))
        return FAILED
    if invocation.action == "bi":
        return newaliases(given.get("bi_command", ""))
    places = Places.of(given)
    if invocation.action == "bs":
        return interactive(places, sys.stdin.buffer, sys.stdout.buffer)
    if invocation.action == "bS":
        return batched(places, sys.stdin.buffer)
    return submit(invocation, places, sys.stdin.buffer)


if __name__ == "__main__":
    sys.exit(main())
