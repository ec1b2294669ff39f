"""From the physical lines of a configuration file to logical ones (chapters 6.2, 6.3, 6.10).

In the order of Exim: macros are replaced in a physical line, then comments are
dropped, ``.ifdef`` and its kin and ``.include`` obeyed, and what is left is
joined to logical lines at backslashes.  So all of these also work in the middle
of a continued line.  Which lines are macro definitions depends on the section:
:mod:`mailsrv.config.read` knows, and calls :meth:`Macros.define`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mailsrv.config.macros import Macros
from mailsrv.errors import ConfigError, Position

BLANKS: Final = " \t\n\r\v\f"
_DIRECTIVE: Final = re.compile(r"\.(ifdef|ifndef|elifdef|elifndef|else|endif)(?![^ \t])(.*)")
_INCLUDE: Final = re.compile(r"\.include(_if_exists)?(?:[ \t]+(.*)|$)")
_DEEPEST_INCLUDE: Final = 100  # a file that includes itself ends here


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line, without surrounding white space; ``where`` its first physical line."""

    text: str
    where: Position


@dataclass(slots=True)
class _Condition:
    """An open ``.ifdef``: whether its lines count now, and whether a branch was taken already."""

    where: Position
    active: bool
    taken: bool


class Files:
    """Texts of configuration files, by path: from the disk, or only those that are ``given``.

    What was read from the disk is kept in ``texts``: a process that may not read
    the files gets these, and reads the same.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.texts: dict[str, str] = dict(given or {})
        self._given = given is not None

    def read(self, path: str) -> str:
        """Return a file's octets.

        :raises OSError: it cannot be read.
        """
        if not self._given:
            with open(path.encode("latin-1"), encoding="latin-1", newline="\n") as file:
                self.texts[path] = file.read()
        if path not in self.texts:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.texts[path]

    def exist(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return path in self.texts if self._given else os.path.exists(path.encode("latin-1"))


class LineReader:
    """Gives the logical lines of a file and what it includes.

    Paths are octet strings, as all text of a configuration.  Faults do not end
    the reading: they are added to ``errors``, in the order of the file.  A file
    that cannot be opened at all is such a fault, too.
    """

    def __init__(
        self, path: str, macros: Macros, errors: list[ConfigError], files: Files | None = None
    ) -> None:
        self.path = path
        self._files = files or Files()
        self.macros = macros
        self.errors = errors
        self._conditions: list[_Condition] = []
        self._joining = False  # inside a continued line
        self._depth = 0

    def __iter__(self) -> Iterator[Line]:
        """Join physical lines; white space before a backslash stays, as in Exim."""
        text, where = "", Position(self.path, 0)
        for piece in self._physical(self.path, None):
            where = where if self._joining else piece.where
            text = (text + piece.text).rstrip(BLANKS)
            self._joining = text.endswith("\\")
            if self._joining:
                text = text[:-1]
                continue
            if text:
                yield Line(text, where)
            text = ""
        if text:
            yield Line(text, where)
        for condition in self._conditions:
            self._fault("Unexpected end of configuration file: .endif missing", condition.where)

    # --- physical lines ------------------------------------------------------------

    def _physical(self, path: str, included_at: Position | None) -> Iterator[Line]:
        """Yield the lines that count, with macros replaced and without leading white space."""
        try:
            content = self._files.read(path)
        except OSError as error:
            what = "included configuration file" if included_at else "configuration file"
            self._fault(f"failed to open {what} {path}: {error.strerror}", included_at)
            return
        for number, raw in enumerate(content.removesuffix("\n").split("\n"), 1):
            where = Position(path, number)
            if number == 1 and raw.startswith("\xef\xbb\xbf"):
                self._fault("found unexpected BOM (Byte Order Mark)", where)
                raw = raw[3:]
            if "\0" in raw:
                self._fault("a NUL octet is in the line", where)
                continue
            text, macro_found = self.macros.replace(
                raw.lstrip(BLANKS), starts_line=not self._joining
            )
            text = text.strip(BLANKS)
            if text.startswith("#"):
                continue
            if text.startswith("."):
                if self._directive(text, macro_found, where):
                    continue
                if self._skipping():
                    continue
                include = _INCLUDE.match(text)
                if include:
                    yield from self._include(include, where)
                    continue
            elif self._skipping():
                continue
            yield Line(text, where)

    def _include(self, include: re.Match[str], where: Position) -> Iterator[Line]:
        """Yield the lines of an included file; relative to the folder of the including one."""
        path = (include[2] or "").strip(BLANKS)
        if len(path) > 1 and path[0] == path[-1] == '"':
            path = path[1:-1]
        if not path:
            self._fault("the file's name is missing after .include", where)
            return
        if not path.startswith("/"):
            if include[1]:
                self._fault(f'.include_if_exists specifies a non-absolute path "{path}"', where)
                return
            path = os.path.join(os.path.dirname(where.file), path)
        if include[1] and not self._files.exist(path):
            return
        if self._depth >= _DEEPEST_INCLUDE:
            self._fault(f"files are included too deeply: {path}", where)
            return
        self._depth += 1
        yield from self._physical(path, where)
        self._depth -= 1

    # --- conditions ----------------------------------------------------------------

    def _skipping(self) -> bool:
        return bool(self._conditions) and not self._conditions[-1].active

    def _directive(self, text: str, macro_found: bool, where: Position) -> bool:
        """Obey a conditional directive; return whether ``text`` is one."""
        found = _DIRECTIVE.match(text)
        if found is None:
            return False
        word = found[1]
        if word in ("ifdef", "ifndef"):
            passing = not self._skipping()
            true = macro_found == (word == "ifdef")
            # inside skipped lines no branch is ever taken
            self._conditions.append(_Condition(where, passing and true, not passing or true))
            return True
        if not self._conditions:
            self._fault(f".{word} without matching .ifdef", where)
        elif word == "endif":
            self._conditions.pop()
        else:
            true = word == "else" or macro_found == (word == "elifdef")
            condition = self._conditions[-1]
            condition.active = true and not condition.taken
            condition.taken = condition.taken or true
        return True

    def _fault(self, problem: str, where: Position | None) -> None:
        self.errors.append(ConfigError(problem, where))
