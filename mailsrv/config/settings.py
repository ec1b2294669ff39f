"""One option line: ``[hide] [no_|not_]name [= value]`` (chapter 6.11 to 6.17)."""

from __future__ import annotations

import re
from typing import Any, Final

from mailsrv.config.known import ALIASES, DOUBLE_OPTIONS, explain, joined
from mailsrv.config.lines import BLANKS, Line
from mailsrv.config.options import Option, OptionSet
from mailsrv.errors import ConfigError, Position
from mailsrv.expansion.template import Template

_SETTING: Final = re.compile(
    r"(hide[ \t]+)?([A-Za-z]\w*)[ \t]*(=)?[ \t]*(.*)", re.ASCII | re.DOTALL
)
_ESCAPE: Final = re.compile(r"\\([0-7]{1,3}|x[0-9a-fA-F]{0,2}|.)", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def unquote(text: str, where: Position) -> str:
    """Return a string value without its quotes and escapes, if it has any.

    :raises ConfigError: no closing quote, more after it, or a NUL octet.
    """
    if not text.startswith('"'):
        return text
    found = _QUOTED.match(text)
    if found is None:
        raise ConfigError("missing quote at end of string value", where)
    if found.end() != len(text):
        raise ConfigError("extra characters follow string value", where)
    value = _ESCAPE.sub(_unescape, found[1])
    if "\0" in value:
        raise ConfigError("a string cannot hold a NUL octet", where)
    return value


def _unescape(found: re.Match[str]) -> str:
    escape = found[1]
    if escape[0] in "01234567":
        return chr(int(escape, 8) & 0xFF)
    if escape[0] == "x":
        return chr(int(escape[1:] or "0", 16))
    return _ESCAPED.get(escape, escape)


def set_options(target: OptionSet, line: Line, known: frozenset[str]) -> list[str]:
    """Set what an option line says; return the names that it set.

    ``known`` are the names that Exim has here, for the words of an error.

    :raises ConfigError: with the option's name and, if it can help, a hint.
    """
    found = _SETTING.fullmatch(line.text)
    if found is None:
        raise ConfigError(f"option setting expected: {line.text}", line.where)
    hide, written, equals, rest = found.groups()
    if written == "hide" and not equals and not rest:
        raise ConfigError('the option is missing after "hide"', line.where)
    names, negated = _declared(target, written, line.where, known)
    for name in names:
        _set(target, name, written, negated, bool(equals), rest.rstrip(BLANKS), line.where)
        if hide:
            target.hidden.add(name)
    return names


def _declared(
    target: OptionSet, written: str, where: Position, known: frozenset[str]
) -> tuple[list[str], bool]:
    """Return the options that a written name stands for, and whether it negates them."""
    declared = type(target).options()
    for prefix in ("", "no_", "not_"):
        if not written.startswith(prefix):
            continue
        name = written.removeprefix(prefix)
        name = ALIASES.get(name, name)
        names = list(DOUBLE_OPTIONS.get((target.kind, name), (name,)))
        if all(each in declared for each in names):
            if prefix and not declared[names[0]].type.optional_value:
                raise ConfigError("negation prefix applied to a non-boolean option", where)
            return names, bool(prefix)
    option = "main option" if target.kind == "main" else "option"
    plain = re.sub("^not?_", "", written)
    if plain in known or written in known:
        raise ConfigError(f'{option} "{plain}" is known to Exim, not to mailsrv', where)
    _, hint = explain(written, known, declared)
    raise ConfigError(f'{option} "{written}" unknown', where, hint)


def _set(
    target: OptionSet,
    name: str,
    written: str,
    negated: bool,
    equals: bool,
    rest: str,
    where: Position,
) -> None:
    declared = type(target).options()[name]
    value = _value(declared, written, negated, equals, rest, where)
    if name in target.places:
        before = target.values[name]
        text = (
            joined(name, before.source, value.source)
            if isinstance(before, Template) and isinstance(value, Template)
            else None
        )
        if text is None:
            raise ConfigError(
                f'"{written}" option set for the second time',
                where,
                f"first in {target.places[name]}",
            )
        value = declared.type.parse(text, where)
    target.values[name] = value
    target.places.setdefault(name, where)


def _value(
    declared: Option[Any], written: str, negated: bool, equals: bool, rest: str, where: Position
) -> Any:
    if declared.type.optional_value and (negated or not equals):
        if equals or rest:
            raise ConfigError(f"extra characters follow boolean option {written}", where)
        return not negated
    if not equals:
        if rest:
            raise ConfigError(f'missing "=" after {written}', where)
        raise ConfigError(f"unexpected end of line (data missing) after {written}", where)
    try:
        return declared.type.parse(unquote(rest, where) if declared.type.quotable else rest, where)
    except ConfigError as error:
        raise ConfigError(f"{error.problem} for {written}", where, error.hint) from None
