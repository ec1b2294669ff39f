"""The types of option values: how each is read from a file and printed by ``-bP`` (chapter 6)."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from mailsrv.errors import Position
from mailsrv.expansion.template import Template, compile_string

T = TypeVar("T")


class OptionType(Generic[T]):
    """Reads and prints the values of one type.

    ``word`` is the specification's name of the type ("Type: string†").
    """

    word = "string"
    expanded = False

    def parse(self, text: str, where: Position) -> T:
        """Return the value that ``text`` (unquoted, macros replaced) stands for.

        :raises ConfigError: if the text is no such value.
        """
        raise TypeError(f"{type(self).__name__} cannot be read")

    def show(self, value: T) -> str:
        """Return the value as ``-bP`` prints it after ``name = ``."""
        return str(value)
