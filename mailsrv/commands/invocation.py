"""What a command line asks for: the value that every command is given."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_FILE = "/etc/mailsrv/exim.conf"


class UsageError(Exception):
    """The command line cannot be obeyed; the text says why."""


@dataclass(slots=True)
class Invocation:
    """A command line: what to do with which configuration.

    ``action`` is the option that names the command without its hyphen (``bV``,
    ``bP``, ``Mvh`` …), or a word (``check``).  ``arguments`` are octet strings;
    of a command that is a word, all words after it.  ``sender`` is that of
    ``-f``, None without one.
    """

    action: str = ""
    arguments: list[str] = field(default_factory=list)
    file: str = DEFAULT_FILE
    macros: dict[str, str] = field(default_factory=dict)
    names: bool = True  # False for -n
    verbose: bool = False  # -v
    period: str = ""  # -q30m: taken with -bd, where it changes nothing
    sender: str | None = None
    extract: bool = False  # -t: recipients are those of the header
    value: str = ""  # the word after an option that takes one (-bem FILE)
