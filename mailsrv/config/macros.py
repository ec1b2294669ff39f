"""Macros of a configuration (chapters 6.4 to 6.9): definition and substitution.

Substitution is applied to physical lines, for each macro in the order of
definition, without looking at a replacement again for the same macro.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mailsrv.errors import ConfigError, Position

_DEFINITION = re.compile(r"(\w*)[ \t]*=(=?)[ \t]*(.*)", re.ASCII | re.DOTALL)
_AT_START = re.compile(r"[A-Z]\w*[ \t]*(?==)", re.ASCII)
_BUILTIN = re.compile(r"_[A-Z]")

LONGEST_NAME = 63  # of macros, drivers and ACLs, in Exim


class Macros:
    """The macros in force at a point of the file, in the order of their definition.

    ``given`` are those of the command line (``-D``), which no definition in the
    file changes.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = dict(given or {})
        self._given = frozenset(self.values)

    def define(self, text: str, where: Position) -> None:
        """Take a definition ``NAME = text`` or a redefinition ``NAME == text``.

        :raises ConfigError: for what Exim refuses.
        """
        found = _DEFINITION.fullmatch(text)
        if found is None:
            raise ConfigError("malformed macro definition", where, "NAME = replacement")
        name, again, value = found.groups()
        if len(name) > LONGEST_NAME:
            raise ConfigError(f"macro name too long (maximum is {LONGEST_NAME} characters)", where)
        if name in self.values:
            if name in self._given:
                return
            if not again:
                raise ConfigError(
                    f'macro "{name}" is already defined', where, 'use "==" to redefine it'
                )
        else:
            part = next((other for other in self.values if other in name), None)
            if part is not None:
                raise ConfigError(
                    f'"{name}" cannot be defined as a macro because previously defined macro '
                    f'"{part}" is a substring',
                    where,
                    "define the longer name first",
                )
            if again:
                raise ConfigError(f'can\'t redefine an undefined macro "{name}"', where)
        self.values[name] = value

    def replace(self, text: str, *, starts_line: bool) -> tuple[str, bool]:
        """Return a physical line with its macros replaced, and whether there was one.

        The name in a definition is left alone: that is text before ``=`` where
        a logical line starts with an upper case letter.
        """
        defined = _AT_START.match(text) if starts_line else None
        name, rest = (text[: defined.end()], text[defined.end() :]) if defined else ("", text)
        found = False
        if _BUILTIN.search(rest):
            from mailsrv.config.builtin import builtin_pattern

            rest, count = builtin_pattern().subn("y", rest)
            found = count > 0
        for macro, value in self.values.items():
            if macro in rest:
                rest = rest.replace(macro, value)
                found = True
        return name + rest, found
