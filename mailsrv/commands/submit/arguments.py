"""The command line of ``mailsrv-sendmail``, and the names that it is called by (chapter 5.1)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mailsrv.connection.local.frames import Request

# Options that Exim or Sendmail have and that change nothing here, and those of
# them whose value is the next argument.
_IGNORED = re.compile(
    r"-(o(m|o|v|[ABPX].+|[rs]([0-9]+[smhdw])+)|B.*|h.+|x|m|G|n|U|E.*|L.*|X.+|d.*|O.+"
    r"|ba|bm|A[cm]|N|R.+|V.+)"
)
_WITH_VALUE = re.compile(r"-(h|L|O|X|V|oX|oP|oA|oB|or|os|B|p|r|f|F|R|N|oM(r|s|a|i|t|m|aa|ai|as))")
_PRETENDED = {  # -oM…: what a trusted caller says of the message's origin
    "a": "host_address",
    "s": "host_name",
    "t": "ident",
    "i": "interface",
    "r": "protocol",
    "aa": "authenticator",
    "ai": "authenticated_id",
    "as": "authenticated_sender",
}
_MESSAGE_ID = re.compile(r"[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}")


class UsageError(Exception):
    """The command line cannot be obeyed; the text says why."""


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
    origin: dict[str, str] = field(default_factory=dict)  # -oM…, -p
    qualify: bool = True
    notify: str = ""
    ret: str = ""
    verbose: bool = False
    errors: str = "m"  # -oe…

    def request(self) -> Request:
        """What the server is asked."""
        request = Request(
            smtp=self.action == "bs",
            recipients=tuple(self.recipients),
            sender=self.sender,
            name=self.name,
            extract=self.extract,
            queue_only=self.queue_only,
            qualify=self.qualify,
            notify=self.notify,
            ret=self.ret,
        )
        return replace(request, **self.origin)  # type: ignore[arg-type]


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
    elif name == "runq":
        found.action = "q"
    elif name == "rsmtp":
        found.action = "bS"
    elif name == "rmail":
        found.dots, found.errors = True, "e"
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.recipients += map(_octets, rest)
            break
        if not word.startswith("-"):
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
    flags: dict[str, tuple[str, ...]] = dict.fromkeys(("-i", "-oi", "-oitrue"), ("dots",))
    flags |= {"-t": ("extract",), "-ti": ("extract", "dots"), "-v": ("verbose",)}
    flags |= dict.fromkeys(("-odq", "-odqs"), ("queue_only",))
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
    elif word.startswith("-p"):
        found.origin["protocol"], _, host = _octets(word[2:]).partition(":")
        found.origin |= {"host_name": host} if host else {}
    elif word.startswith("-oM"):
        _pretend(found, word)
    elif word.startswith(("-oe", "-e")) and word.partition("e")[2] in ("e", "m", "p", "q", "w"):
        found.errors = word[-1]
    elif word.startswith("-N") and len(word) > 2:
        found.notify = _octets(word[2:]).upper()
    elif word.startswith("-R") and word[2:].lower() in ("full", "hdrs"):
        found.ret = word[2:].upper()
    elif not _IGNORED.fullmatch(word):
        raise UsageError(f"unknown option {word}")


def _pretend(found: Invocation, word: str) -> None:
    """Take one of the options ``-oM…``: the longer names first, for a value may follow at once."""
    for letters in sorted(_PRETENDED, key=len, reverse=True):
        if word.startswith(f"-oM{letters}"):
            found.origin[_PRETENDED[letters]] = _octets(word[3 + len(letters) :])
            return
    if not word.startswith("-oMm"):
        raise UsageError(f"unknown option {word}")
    if not _MESSAGE_ID.fullmatch(word[4:]):
        raise UsageError("-oMm must be a valid message ID")
