"""Command lines and their arguments as values (RFC 5321 4.1, 3461, 4954, 6531), without IO.

Texts of errors are Exim's.  Octets become octet strings marked as the peer's.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mailsrv.mail.taint import Tainted, tainted

_VERBS = {
    verb.encode("ascii"): verb
    for verb in (
        *("HELO", "EHLO", "LHLO", "AUTH", "STARTTLS", "DATA", "BDAT", "QUIT", "RSET", "NOOP"),
        *("ETRN", "EXPN", "VRFY", "HELP"),
    )
}

# An atom may have octets above 127 (RFC 6531 3.3); that SMTPUTF8 was said is
# checked apart.  As in Exim, a local part may have dots anywhere.
_LOCAL = r'(?:"(?:[^\x00-\x1f\x7f"\\]|\\[\x20-\x7e])*"|[^\x00-\x20\x7f()<>@,;:\\"\[\]]+)'
_LABEL = r"[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]*"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[(?:[0-9.]+|(?:[Ii][Pp][Vv]6:)?[0-9A-Fa-f:.]+)\]"
_ROUTE = rf"@(?:{_DOMAIN})(?:,@(?:{_DOMAIN}))*:"
_MAILBOX = rf"{_LOCAL}(?:@(?:{_DOMAIN}|{_LITERAL}))?"
_PATH = re.compile(
    rf" *(?:<(?P<inner>)>|<(?:{_ROUTE})?(?P<boxed>{_MAILBOX})>|(?P<bare>{_MAILBOX}))(?= |$)",
    re.ASCII,
)
_EXCESS = re.compile(r" *(<{2,})", re.ASCII)
_ADDRESS_WITH_DOT = re.compile(rf" *<?(?:{_ROUTE})?{_LOCAL}@{_DOMAIN}\.(?=>|$| )", re.ASCII)
_SPACE = re.compile(r" *", re.ASCII)
_ONE_DOMAIN = re.compile(rf"{_DOMAIN}|{_LITERAL}", re.ASCII)
_ONE_LOCAL = re.compile(_LOCAL, re.ASCII)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]*))?", re.ASCII)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", re.ASCII)
_UTF8_ORCPT = re.compile(r"(?:[!-*,-<>-\[\]-~]|\\x\{[0-9A-F]{1,6}\}|[\x80-\xff])*", re.ASCII)
_ORCPT_TYPE = re.compile(r"[A-Za-z0-9-]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)  # RFC 1870 3
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9.-]")

_MAX_PATH = 2048  # RFC 5321 4.5.3.1.3 says 256 and more
_MAX_DOMAIN = 255
_MAX_ADDRESS = 256  # RFC 5321 4.5.3.1.3
_MAX_ENVID = 100  # RFC 3461 4.4
_MAX_ORCPT = 500  # RFC 3461 4.2


class SyntaxProblem(Exception):
    """An argument that cannot be taken; ``code`` and the text are the reply."""

    def __init__(self, text: str, code: int = 501) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Command(NamedTuple):
    """A command line: ``verb`` is "" for an unknown one; ``argument`` has no outer blanks."""

    verb: str
    argument: Tainted
    raw: bytes  # the whole

    @property
    def line(self) -> Tainted:
        """The whole as an octet string."""
        return tainted(self.raw)


class Path(NamedTuple):
    """The argument of MAIL or RCPT: the address ("" for ``<>``) and its parameters, as given."""

    address: Tainted
    parameters: tuple[tuple[str, Tainted | None], ...]
    shown: str  # the address as given, in its brackets
    argument: str = ""  # the whole

    @property
    def qualified(self) -> bool:
        """Tell whether the address has a domain; an "@" within quotes begins none."""
        return "@" in self.address and not self.address.endswith('"')


def parse_command(line: bytes) -> Command:
    """Name a command, in any case; "MAIL FROM:" and "RCPT TO:" are the verbs MAIL, RCPT."""
    head, _, rest = line.partition(b" ")
    verb = _VERBS.get(head.upper())
    if verb is not None:
        return Command(verb, tainted(rest.strip(b" \t")), line)
    begin = line[:10].upper()
    if begin == b"MAIL FROM:":
        return Command("MAIL", tainted(line[10:].strip(b" \t")), line)
    if begin.startswith(b"RCPT TO:"):
        return Command("RCPT", tainted(line[8:].strip(b" \t")), line)
    return Command("", tainted(rest), line)


def without_excess_brackets(argument: str) -> str:
    """Return an argument with ``<<a@b>>`` as ``<a@b>`` (strip_excess_angle_brackets)."""
    found = _EXCESS.match(argument)
    if found is None:
        return argument
    before, closing, after = argument[found.end() :].partition(">" * len(found[1]))
    return f"<{before}>{after}" if closing else argument


def without_final_dot(argument: str) -> str:
    """Return an argument without the dot behind the address's domain (strip_trailing_dot)."""
    found = _ADDRESS_WITH_DOT.match(argument)
    if found is None:
        return argument
    return argument[: found.end() - 1] + argument[found.end() :]


def parse_path(argument: str) -> Path:
    """Read a path and the parameters behind it.

    :raises SyntaxProblem: it is none.
    """
    found = _PATH.match(argument) if len(argument) <= _MAX_PATH else None
    if found is None:
        raise SyntaxProblem(f"{argument[:256]}: {_what_is_wrong(argument[:_MAX_PATH])}")
    rest = argument[found.end() :].strip(" ")
    parameters: list[tuple[str, Tainted | None]] = []
    seen: set[str] = set()
    shown = found[0].strip(" ")
    for word in rest.split(" ") if rest else ():
        if not word:
            continue
        item = _PARAMETER.fullmatch(word)
        if item is None:
            raise _may_not_follow(argument, word, shown)
        name = item[1].upper()
        if name in seen:
            raise SyntaxProblem(f"{name} can be specified once only")
        seen.add(name)
        parameters.append((name, None if item[2] is None else Tainted(item[2])))
    address = found["boxed"] or found["bare"] or ""
    if len(address) > _MAX_ADDRESS:
        raise SyntaxProblem(f"{shown[:512]}: address is ridiculously long: {address[:64]}...")
    return Path(Tainted(address), tuple(parameters), shown, argument)


def unknown_parameter(path: Path, name: str, value: str | None) -> SyntaxProblem:
    """The error for a parameter that is not offered to this client."""
    word = name if value is None else f"{name}={value}"
    found = re.search(re.escape(word), path.argument, re.IGNORECASE)
    return _may_not_follow(path.argument, found[0] if found else word, path.shown)


def _may_not_follow(argument: str, word: str, shown: str) -> SyntaxProblem:
    return SyntaxProblem(
        f"{argument[:256]}: malformed address: {word[:128]} may not follow {shown[:256]} "
    )


def _what_is_wrong(argument: str) -> str:
    """Say in Exim's words where a path goes wrong."""
    at = _skip(argument, 0)
    bracket = argument.startswith("<", at)
    if bracket:
        at = _skip(argument, at + 1)
        while argument.startswith("@", at):  # a source route
            domain = _ONE_DOMAIN.match(argument, at + 1)
            if domain is None:
                return "domain missing or malformed"
            at = domain.end()
            if argument.startswith(",@", at):
                at += 1
            elif argument.startswith(",", at):
                return "colon expected after route list"
            elif not argument.startswith(":", at):
                return "no local part"
            else:
                at += 1
                break
    return _wrong_mailbox(argument, at, bracket)


def _wrong_mailbox(argument: str, at: int, bracket: bool) -> str:
    local_part = _ONE_LOCAL.match(argument, at)
    if local_part is None:
        if argument.startswith('"', at):
            return "unmatched doublequote in local part"
        expected = "" if bracket else ' (expected word or "<")'
        return f"missing or malformed local part{expected}"
    at = _skip(argument, local_part.end())
    if argument.startswith("@", at):
        domain = _ONE_DOMAIN.match(argument, at + 1)
        if domain is None and argument.startswith("[", at + 1):
            return "malformed domain literal"
        dot = domain is not None and argument.startswith(".", domain.end())
        if domain is None or (dot and not domain[0].startswith("[")):
            return "domain missing or malformed"
        at = _skip(argument, domain.end())
    elif at < len(argument) and argument[at] != ">":
        return f'"@" or "." expected after "{local_part[0][:64]}"'
    if bracket and at >= len(argument):
        return "'>' missing at end of address"
    if bracket and argument.startswith(">", at):
        at += 1
    rest = argument[at:]
    if not rest:
        return "malformed address"
    return f"malformed address: {rest[:128]} may not follow {argument[:at][:256]}"


def _skip(text: str, at: int) -> int:
    """The place behind the blanks at ``at``."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def is_ascii(text: str) -> bool:
    """Tell whether no octet has its eighth bit set."""
    return text.isascii()


def is_utf8(text: str) -> bool:
    """Tell whether an octet string is UTF-8, as RFC 6531 3.3 wants of an address."""
    try:
        text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return False
    return True


def parse_size(value: str | None) -> int:
    """Read ``SIZE=`` (RFC 1870).

    :raises SyntaxProblem: no decimal number.
    """
    if value is None or _NUMBER.fullmatch(value) is None:
        raise SyntaxProblem("invalid data for SIZE")
    return int(value)


def parse_body(value: str | None) -> int:
    """Read ``BODY=`` (RFC 6152): 7 or 8.

    :raises SyntaxProblem: another value, BINARYMIME too.
    """
    bits = {"7BIT": 7, "8BITMIME": 8}.get((value or "").upper())
    if bits is None:
        raise SyntaxProblem("invalid data for BODY")
    return bits


def parse_ret(value: str | None) -> str:
    """Read ``RET=`` (RFC 3461 4.3).

    :raises SyntaxProblem: neither FULL nor HDRS.
    """
    word = (value or "").upper()
    if word not in ("FULL", "HDRS"):
        raise SyntaxProblem("Value for RET is invalid")
    return word


def parse_envid(value: str | None) -> str:
    """Read ``ENVID=`` (RFC 3461 4.4), which stays xtext.

    :raises SyntaxProblem: empty, too long, or no xtext of printing characters.
    """
    if not value or len(value) > _MAX_ENVID or not is_xtext(value):
        raise SyntaxProblem("Invalid value for ENVID parameter")
    return value


def parse_notify(value: str | None) -> frozenset[str]:
    """Read ``NOTIFY=`` (RFC 3461 4.1).

    :raises SyntaxProblem: an unknown word, or NEVER with another.
    """
    words = (value or "").upper().split(",")
    found = frozenset(words)
    if not found <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"} or len(found) != len(words):
        raise SyntaxProblem("Invalid value for NOTIFY parameter")
    if "NEVER" in found and len(found) > 1:
        raise SyntaxProblem("Invalid value for NOTIFY parameter")
    return found


def parse_orcpt(value: str | None, utf8: bool = False) -> str:
    """Read ``ORCPT=`` (RFC 3461 4.2; with ``utf8``, RFC 6533 3), which stays as given.

    :raises SyntaxProblem: no ``type;xtext``.
    """
    kind, semicolon, text = (value or "").partition(";")
    good = (
        bool(semicolon and text)
        and len(value or "") <= _MAX_ORCPT
        and _ORCPT_TYPE.fullmatch(kind) is not None
        and (is_xtext(text) or (utf8 and kind.lower() == "utf-8" and _is_utf8_xtext(text)))
    )
    if not good:
        raise SyntaxProblem("Syntax error in ORCPT parameter")
    assert value is not None, "it has a semicolon"
    return value


def _is_utf8_xtext(text: str) -> bool:
    return _UTF8_ORCPT.fullmatch(text) is not None and is_utf8(text)


def is_xtext(text: str) -> bool:
    """Tell whether a text is xtext (RFC 3461 4) and all its octets print: no CR LF hides in it."""
    if _XTEXT.fullmatch(text) is None:
        return False
    return all(" " <= octet <= "~" for octet in decode_xtext(text))


def decode_xtext(text: str) -> str:
    """Return the octets that xtext stands for; ``text`` must be xtext."""
    if "+" not in text:
        return text
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def parse_mail_auth(value: str | None) -> str:
    """Read ``AUTH=`` of MAIL (RFC 4954 5): the address, "" for ``<>``.

    :raises SyntaxProblem: no xtext of an address.
    """
    if not value or not is_xtext(value):
        raise SyntaxProblem("invalid data for AUTH")
    if value == "<>":
        return ""
    try:
        path = parse_path(decode_xtext(value))
    except SyntaxProblem:
        raise SyntaxProblem("invalid data for AUTH") from None
    if path.parameters or not path.address:
        raise SyntaxProblem("invalid data for AUTH")
    return Tainted(path.address)


def parse_bdat(argument: str) -> tuple[int, bool]:
    """Read the size and LAST of a BDAT (RFC 3030 2).

    :raises SyntaxProblem: how many octets follow cannot be known.
    """
    words = argument.split(" ")
    if _NUMBER.fullmatch(words[0]) is None:
        raise SyntaxProblem("missing size for BDAT command")
    if len(words) > 2 or (len(words) == 2 and words[1].upper() != "LAST"):
        raise SyntaxProblem("malformed BDAT command")
    return int(words[0]), len(words) == 2


def helo_is_valid(name: str, allowed: str = "") -> bool:
    """Tell whether a HELO argument is a name or an address literal (``helo_allow_chars`` too)."""
    if not name or len(name) > _MAX_DOMAIN:
        return False
    if name.startswith("["):
        return _is_literal(name)
    return all(c in allowed for c in _NOT_IN_NAME.findall(name))


def _is_literal(name: str) -> bool:
    return (
        re.fullmatch(r"\[(?:[0-9.]+|[Ii][Pp][Vv]6:[0-9A-Fa-f:.]+|[0-9A-Fa-f:.]+)\]", name)
        is not None
    )
