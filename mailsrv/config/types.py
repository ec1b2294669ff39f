"""The types of option values: how each is read from a file and printed by ``-bP`` (chapter 6).

Drivers declare their options with the constants of this module.  A type knows
nothing of the option's name: the reader adds it to the message of an error.
Sizes are octets, times are seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.template import Template, compile_string

T = TypeVar("T")


class OptionType(Generic[T]):
    """Reads and prints the values of one type.

    ``word`` is the specification's name of the type ("Type: string†").
    ``quotable`` tells whether a value may stand in double quotes;
    ``optional_value`` whether the option may stand without a value, or
    negated, as booleans do; ``unset`` is what ``-bP`` prints after the name of
    an option without a value.
    """

    word = "string"
    expanded = False
    quotable = True
    optional_value = False
    unset = " = "

    def parse(self, text: str, where: Position) -> T:
        """Return the value that ``text`` (unquoted, macros replaced) stands for.

        :raises ConfigError: if the text is no such value.
        """
        raise TypeError(f"{type(self).__name__} cannot be read")

    def late(self, value: T) -> ConfigError | None:
        """Return what is wrong with a value that Exim finds only when it uses it."""
        return None

    def show(self, value: T) -> str:
        """Return the value as ``-bP`` prints it after ``name = ``."""
        return str(value)

    def line(self, name: str, value: T | None) -> str:
        """Return the whole line that ``-bP`` prints for an option."""
        return f"{name}{self.unset}" if value is None else f"{name} = {self.show(value)}"


# --- strings -------------------------------------------------------------------

_SHOWN = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\v": "\\v", "\f": "\\f"}
_UNPRINTABLE = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    """Return a string of one line and of ASCII alone, with Exim's escapes for the rest."""
    return _UNPRINTABLE.sub(lambda m: _SHOWN.get(m[0]) or f"\\{ord(m[0]):03o}", text)


class _String(OptionType[str]):
    """A string that is used as it stands."""

    def parse(self, text: str, where: Position) -> str:
        return text

    def show(self, value: str) -> str:
        return printable(value)


class _OneOf(OptionType[str]):
    """A word of a few."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def parse(self, text: str, where: Position) -> str:
        if text not in self.words:
            raise ConfigError(f'"{text}" is not a valid value', where, " or ".join(self.words))
        return text


class _Expanded(OptionType[Template]):
    """A string that is expanded before each use; lists are such strings, too.

    A string that cannot be parsed is no error here: Exim finds it when it is
    reached, so the reader turns it into a warning.
    """

    expanded = True

    def __init__(self, word: str) -> None:
        self.word = word

    def parse(self, text: str, where: Position) -> Template:
        return compile_string(text, where)

    def late(self, value: Template) -> ConfigError | None:
        return unexpandable(value)

    def show(self, value: Template) -> str:
        return printable(value.source)


def unexpandable(value: object) -> ConfigError | None:
    """Return why a string cannot be expanded, if it is one that cannot."""
    if not isinstance(value, Template) or value.error is None:
        return None
    return ConfigError(value.error.shown, value.where)


class _Command(_Expanded):
    """A command line whose words are expanded each; ``$pipe_addresses`` is no variable."""

    def late(self, value: Template) -> ConfigError | None:
        return unexpandable(
            compile_string(value.source.replace("$pipe_addresses", ""), value.where)
        )


class _ExpandedTime(_Expanded):
    """A time, or a string with a ``$`` that expands to one."""

    def parse(self, text: str, where: Position) -> Template:
        value = super().parse(text, where)
        if value.constant is not None:
            parse_time(value.constant, where)
        return value


class _Checked(_Expanded):
    """A string that is expanded before use; the value of one without a ``$`` is checked."""

    def __init__(self, check: Callable[[str, Position], object]) -> None:
        super().__init__("string†")
        self._check = check

    def late(self, value: Template) -> ConfigError | None:
        if value.constant is not None:
            try:
                self._check(value.constant, value.where or Position("", 0))
            except ConfigError as error:
                return error
        return super().late(value)


def _absolute(text: str, where: Position) -> None:
    if not text.startswith("/"):
        raise ConfigError(f'"{text}" is not an absolute path', where)


class _Address(_String):
    """One address with its domain, as a header field has it."""

    def parse(self, text: str, where: Position) -> str:
        from mailsrv.expansion.mailboxes import addresses_of

        found = addresses_of(text)
        if len(found) != 1:
            raise ConfigError(f'"{text}" is not one address', where)
        if "@" not in found[0]:
            raise ConfigError(f'"{text}" does not contain a domain', where)
        return text


# --- booleans ------------------------------------------------------------------

_WORDS = {"true": True, "yes": True, "": True, "false": False, "no": False}


def _boolean(text: str, where: Position) -> bool:
    word = re.match(r"\w*", text, re.ASCII)
    assert word is not None
    value = _WORDS.get(word[0].lower())
    if value is None or (text and not word[0]):
        raise ConfigError(f'"{text}" is not a valid boolean value', where, "yes, no, true or false")
    if word.end() != len(text):
        raise ConfigError(f'extra characters follow "{word[0]}" of the boolean value', where)
    return value


class _Boolean(OptionType[bool]):
    """``option``, ``no_option``, ``not_option``, ``option = yes|no|true|false``."""

    word = "boolean"
    quotable = False
    optional_value = True

    def parse(self, text: str, where: Position) -> bool:
        return _boolean(text, where)

    def line(self, name: str, value: bool | None) -> str:
        return name if value else f"no_{name}"


class _BooleanOrExpanded(OptionType[bool | Template]):
    """A boolean, or a string that expands to one; it is a string if it holds a ``$``."""

    word = "boolean†"
    expanded = True
    optional_value = True

    def parse(self, text: str, where: Position) -> bool | Template:
        return compile_string(text, where) if "$" in text else _boolean(text, where)

    def late(self, value: bool | Template) -> ConfigError | None:
        return unexpandable(value)

    def line(self, name: str, value: bool | Template | None) -> str:
        if isinstance(value, Template):
            return f"{name} = {printable(value.source)}"
        return name if value else f"no_{name}"


# --- numbers -------------------------------------------------------------------

_LARGEST = 2**31 - 1
_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30}
_INTEGER = re.compile(r"[ \t]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)([kKmMgG]?)")


def _integer(text: str, where: Position, largest: int, octal: bool = False) -> int:
    found = _INTEGER.match(text)
    if not found:
        raise ConfigError("integer expected", where)
    sign, digits, suffix = found.groups()
    base = 16 if digits[:2] in ("0x", "0X") else 8 if octal or digits[0] == "0" else 10
    if found.end() != len(text) or (base == 8 and set(digits) & set("89")):
        raise ConfigError("extra characters follow integer value", where)
    value = (whole(digits) if base == 10 else int(digits, base)) << _SUFFIXES[suffix.lower()]
    if value > largest:
        raise ConfigError(f'absolute value of integer "{text}" is too large (overflow)', where)
    return -value if sign == "-" else value


_SIZE = re.compile(r"[ \t]*([0-9]{1,15})[ \t]*([KMGkmg]?)[ \t]*")


def parse_size(text: str, where: Position | None = None) -> int:
    """Return the number that an expanded text with K, M or G stands for; 0 for an empty one.

    :raises ConfigError: if the text is no such number.
    """
    if not text.strip(" \t"):
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ConfigError(f'"{text}" is not a number', where, "for example 100 or 50M")
    return int(found[1]) << _SUFFIXES[found[2].lower()]


def _with_suffix(value: int, suffixes: str) -> str:
    """Return a number with the last of ``suffixes`` (from K on) that divides it."""
    used = ""
    for suffix in suffixes:
        if not value or value % 1024:
            break
        value //= 1024
        used = suffix
    return f"{value}{used}"


class _Integer(OptionType[int]):
    """Decimal, 0x hexadecimal or 0 octal, with K, M or G; shown as a plain number."""

    word = "integer"
    quotable = False

    def parse(self, text: str, where: Position) -> int:
        return _integer(text, where, _LARGEST)


class _SuffixedInteger(_Integer):
    """An integer that ``-bP`` shows with K or M."""

    def show(self, value: int) -> str:
        return _with_suffix(value, "KM")


class _Kibibytes(_Integer):
    """A size that is written in units of 1K (``10`` is 10K); the value is octets."""

    def parse(self, text: str, where: Position) -> int:
        value = _integer(text, where, _LARGEST << 20)
        return value if text[-1:].lower() in ("k", "m", "g") else value << 10

    def show(self, value: int) -> str:
        return _with_suffix(value, "KMGT")


class _Octal(_Integer):
    """An octal number such as a file mode."""

    word = "octal integer"

    def parse(self, text: str, where: Position) -> int:
        return _integer(text, where, _LARGEST, octal=True)

    def show(self, value: int) -> str:
        return f"0{value:o}" if value else "0"


_FIXED_POINT = re.compile(r"\+?([0-9]+)(?:\.([0-9]{0,3})[0-9]*)?")


class _Fixed(OptionType[float]):
    """A fixed-point number with three decimal places, such as a load average."""

    word = "fixed-point"
    quotable = False
    unset = " ="

    def parse(self, text: str, where: Position) -> float:
        found = _FIXED_POINT.match(text)
        if not found:
            raise ConfigError("fixed-point number expected", where)
        if found.end() != len(text):
            raise ConfigError("extra characters follow fixed-point value", where)
        units, places = found.groups()
        return (whole(units) * 1000 + int((places or "").ljust(3, "0"))) / 1000

    def show(self, value: float) -> str:
        text = f"{value:.3f}".rstrip("0")
        return f"{text}0" if text.endswith(".") else text


# --- times ---------------------------------------------------------------------

_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_TIME = re.compile(r"(?:[0-9]+[wdhms])+")


def parse_time(text: str, where: Position | None = None) -> int:
    """Return the seconds of a time such as ``1w2d3h4m5s``.

    :raises ConfigError: if the text is no such time.
    """
    if not _TIME.fullmatch(text):
        raise ConfigError("invalid time value", where, "for example 1h30m or 2d")
    return sum(whole(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)(.)", text))


def show_time(seconds: int) -> str:
    """Return seconds in Exim's form, ``1h30m``; zero is ``0s``."""
    text, rest = "", abs(seconds)
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count:
            text += f"{count}{unit}"
    return ("-" if seconds < 0 else "") + (text or "0s")


class _Time(OptionType[int]):
    """A time, in seconds."""

    word = "time"
    quotable = False

    def parse(self, text: str, where: Position) -> int:
        return parse_time(text, where)

    def show(self, value: int) -> str:
        return show_time(value)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How commands are slowed down: from which on, by how many seconds, ever more, at most."""

    threshold: int
    delay: float
    factor: float
    most: float
    text: str = ""  # as it was given


_PACING = re.compile(
    r"([0-9]+),([0-9]+(?:\.[0-9]{0,3})?)([wdhms]),([0-9]+(?:\.[0-9]{0,3})?),([0-9]+(?:\.[0-9]{0,3})?)([wdhms])"
)


class _Pacing(OptionType[Pacing]):
    """``threshold,initial delay,factor,longest delay``; these times may have decimals."""

    def parse(self, text: str, where: Position) -> Pacing:
        found = _PACING.fullmatch(text)
        if found is None:
            raise ConfigError(
                f'malformed ratelimit data: "{text}"', where, "such as 2,0.5s,1.05,4m"
            )
        count, delay, unit, factor, most, last = found.groups()
        return Pacing(
            whole(count),
            float(delay) * _UNITS[unit],
            float(factor),
            float(most) * _UNITS[last],
            text,
        )

    def show(self, value: Pacing) -> str:
        return value.text


class _TimeList(OptionType[tuple[int, ...]]):
    """Times separated by colons, each longer than the one before; ``0s`` alone is no time."""

    word = "time list"
    quotable = False

    def parse(self, text: str, where: Position) -> tuple[int, ...]:
        items = [item.strip(" \t") for item in text.split(":")] if text else []
        times = tuple(parse_time(item, where) for item in items)
        if times == (0,):
            return ()
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ConfigError("time value out of order", where, "each must be longer than the last")
        return times

    def show(self, value: tuple[int, ...]) -> str:
        return ":".join(show_time(item) for item in value)


# --- users and groups ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    """A system user as configured; ``uid`` is None if this machine has no user of that name.

    Only a default can have no uid: a name in the file that is not found is an
    error.  Whoever needs the user says so then.
    """

    name: str
    uid: int | None = None
    gid: int | None = None  # the login group; None for a bare number that has no name here

    @classmethod
    def called(cls, name: str) -> User:
        """Look a user up by name or number in the password file."""
        import pwd

        try:
            entry = pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
        except (KeyError, OverflowError):
            return cls(name, int(name) if _is_number(name) else None)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True, slots=True)
class Group:
    """A system group as configured; ``gid`` is None if this machine has no group of that name."""

    name: str
    gid: int | None = None

    @classmethod
    def called(cls, name: str) -> Group:
        """Look a group up by name or number in the group file."""
        import grp

        try:
            entry = grp.getgrgid(int(name)) if _is_number(name) else grp.getgrnam(name)
        except (KeyError, OverflowError):
            return cls(name, int(name) if _is_number(name) else None)
        return cls(entry.gr_name, entry.gr_gid)


def _is_number(name: str) -> bool:
    """Whether a name stands for a uid or gid; a longer number is nobody's."""
    return name.isascii() and name.isdigit() and len(name) < 19


def _user(name: str, where: Position) -> User:
    user = User.called(name)
    if user.uid is None:
        hint = f"make it with: adduser --system --group --no-create-home {name}"
        raise ConfigError(f"user {name} was not found", where, hint)
    return user


def _group(name: str, where: Position) -> Group:
    group = Group.called(name)
    if group.gid is None:
        raise ConfigError(
            f"group {name} was not found", where, f"make it with: addgroup --system {name}"
        )
    return group


def _names(text: str, where: Position) -> list[str]:
    """Return the items of a list of users or groups, which Exim expands as it reads the file.

    What such a string could depend on is not there yet: a constant is taken,
    anything else refused.
    """
    template = compile_string(text, where)
    if template.constant is None:
        raise ConfigError("a list of users or groups cannot be expanded here", where)
    items = re.split(r"[ \t]*:[ \t]*", template.constant.strip(" \t"))
    return [item for item in items if item]


class _User(OptionType[User]):
    """A user that is known when the file is read."""

    unset = " ="

    def parse(self, text: str, where: Position) -> User:
        return _user(text, where)

    def show(self, value: User) -> str:
        return value.name


class _Group(OptionType[Group]):
    """A group that is known when the file is read."""

    unset = " ="

    def parse(self, text: str, where: Position) -> Group:
        return _group(text, where)

    def show(self, value: Group) -> str:
        return value.name


class _ExpandedUser(OptionType[User | Template]):
    """A user, or a string with a ``$`` that expands to one."""

    word = "string†"
    expanded = True

    def parse(self, text: str, where: Position) -> User | Template:
        return compile_string(text, where) if "$" in text else _user(text, where)

    def late(self, value: User | Template) -> ConfigError | None:
        return unexpandable(value)

    def show(self, value: User | Template) -> str:
        return value.name if isinstance(value, User) else printable(value.source)


class _ExpandedGroup(OptionType[Group | Template]):
    """A group, or a string with a ``$`` that expands to one."""

    word = "string†"
    expanded = True

    def parse(self, text: str, where: Position) -> Group | Template:
        return compile_string(text, where) if "$" in text else _group(text, where)

    def late(self, value: Group | Template) -> ConfigError | None:
        return unexpandable(value)

    def show(self, value: Group | Template) -> str:
        return value.name if isinstance(value, Group) else printable(value.source)


class _UserList(OptionType[tuple[User, ...]]):
    """Users separated by colons."""

    word = "string list"
    unset = " ="

    def parse(self, text: str, where: Position) -> tuple[User, ...]:
        return tuple(_user(name, where) for name in _names(text, where))

    def line(self, name: str, value: tuple[User, ...] | None) -> str:
        return f"{name} =" + (" " if value else "") + ":".join(user.name for user in value or ())


class _GroupList(OptionType[tuple[Group, ...]]):
    """Groups separated by colons."""

    word = "string list"
    unset = " ="

    def parse(self, text: str, where: Position) -> tuple[Group, ...]:
        return tuple(_group(name, where) for name in _names(text, where))

    def line(self, name: str, value: tuple[Group, ...] | None) -> str:
        return f"{name} =" + (" " if value else "") + ":".join(group.name for group in value or ())


STRING: OptionType[str] = _String()
ADDRESS: OptionType[str] = _Address()
BARE_NEWLINE: OptionType[str] = _OneOf("reject", "mend")
EXPANDED: OptionType[Template] = _Expanded("string†")
COMMAND: OptionType[Template] = _Command("string†")
EXPANDED_PATH: OptionType[Template] = _Checked(_absolute)
EXPANDED_SIZE: OptionType[Template] = _Checked(parse_size)
EXPANDED_TIME: OptionType[Template] = _ExpandedTime("string†")
STRING_LIST: OptionType[Template] = _Expanded("string list†")
DOMAIN_LIST: OptionType[Template] = _Expanded("domain list†")
HOST_LIST: OptionType[Template] = _Expanded("host list†")
ADDRESS_LIST: OptionType[Template] = _Expanded("address list†")
LOCAL_PART_LIST: OptionType[Template] = _Expanded("local part list†")
BOOLEAN: OptionType[bool] = _Boolean()
BOOL_OR_EXPANDED: OptionType[bool | Template] = _BooleanOrExpanded()
INTEGER: OptionType[int] = _Integer()
SIZE: OptionType[int] = _SuffixedInteger()  # octets, shown with K or M
KINT: OptionType[int] = _Kibibytes()  # octets, a number without suffix counts K
OCTAL: OptionType[int] = _Octal()
FIXED: OptionType[float] = _Fixed()
TIME: OptionType[int] = _Time()
PACING: OptionType[Pacing] = _Pacing()
TIME_LIST: OptionType[tuple[int, ...]] = _TimeList()
USER: OptionType[User] = _User()
GROUP: OptionType[Group] = _Group()
EXPANDED_USER: OptionType[User | Template] = _ExpandedUser()
EXPANDED_GROUP: OptionType[Group | Template] = _ExpandedGroup()
USER_LIST: OptionType[tuple[User, ...]] = _UserList()
GROUP_LIST: OptionType[tuple[Group, ...]] = _GroupList()
