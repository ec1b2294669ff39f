"""The command line of ``mailsrv-sendmail``, and the names that it is called by (chapter 5.1)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailsrv.connection.local.frames import Request

# Options that Exim or Sendmail have and that change nothing here, and those of
# them whose value is the next argument.
_IGNORED = re.compile(
    r"-(i?o(i|em?|ep|eq|ew|ee|m|o|X.*|Y.*|[A-Za-z].*)|B.*|h.+|x|m|G|n|U|e[emqpw]?|E.*|L.*|v|d.*|O.+"
    r"|ba|bm|A[cm]|N|R.+|V.+)"
)
_WITH_VALUE = re.compile(
    r"-(h|L|O|X|V|oX|oP|oA|oB|B|p|r|f|F|R|N|oMr|oMs|oMa|oMi|oMt|oMaa|oMai|oMas)"
)


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
