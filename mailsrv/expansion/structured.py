"""Finding a part of structured text: keyed, by number, JSON (specification 11.5, ``extract``)."""

from __future__ import annotations

import json
import re

from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.errors import ExpansionError

_SPACE = " \t\n\r\v\f"
_ESCAPED = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] == "x" and len(code) > 1:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    return _LETTERS.get(code, code)


def unescape(text: str) -> str:
    """Replace the backslash sequences of a quoted string (6.17)."""
    return _ESCAPED.sub(_unescape, text)


_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"?|([^ \t\n\r\v\f]*)', re.DOTALL)
_KEY = re.compile(r"[^ \t\n\r\v\f=]*")
_GAP = re.compile(r"[ \t\n\r\v\f]*")
_EQUALS = re.compile(r"[ \t\n\r\v\f]*=?[ \t\n\r\v\f]*")


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def keyed(key: str, text: str) -> str | None:
    """The value of ``key`` in ``key=value key=value …``, in any case."""
    position = _end(_GAP, text, 0)
    while position < len(text):
        end = _end(_KEY, text, position)
        name = text[position:end]
        position = _end(_EQUALS, text, end)
        match = _VALUE.match(text, position)
        assert match is not None
        value = match[2] if match[1] is None else unescape(match[1])
        if name.lower() == key.lower():
            return value
        position = max(_end(_GAP, text, match.end()), end + 1)
    return None


def field(number: int, separators: str, text: str) -> str | None:
    """Field ``number`` (from 1; negative from the end; 0 is the whole text)."""
    if number == 0:
        return text
    fields = re.split(f"[{re.escape(separators)}]", text) if separators else [text]
    if abs(number) > len(fields):
        return None
    return fields[number - 1 if number > 0 else number]


_DECODER = json.JSONDecoder(strict=False)


def _skip(text: str, position: int) -> int:
    return _end(_GAP, text, position)


def json_elements(text: str) -> list[tuple[str, str]]:
    """The members of an object or the elements ("" as name) of an array, as they are written.

    What is not well formed within ends the list.

    :raises ExpansionError: the last bracket is missing.
    """
    text = text.strip(_SPACE)
    closing = {"{": "}", "[": "]"}.get(text[:1])
    found: list[tuple[str, str]] = []
    if closing is None:
        return found
    if not text.endswith(closing):
        what = "object" if closing == "}" else "array"
        raise ExpansionError(f"missing '{closing}' wrapping {what} for extract json")
    position = _skip(text, 1)
    while position < len(text) and text[position] != closing:
        name = ""
        try:
            if closing == "}":
                name, position = _DECODER.raw_decode(text, position)
                position = _skip(text, position)
                if not isinstance(name, str) or text[position : position + 1] != ":":
                    return found
                position = _skip(text, position + 1)
            _, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return found
        found.append((name, text[position:end]))
        position = _skip(text, end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
    return found


def json_member(key: str, text: str, *, unquote: bool) -> str | None:
    """The value of a member, or of the element whose number (from 1) ``key`` is."""
    is_number = re.fullmatch(r"-?[0-9]+", key, re.ASCII) is not None
    opening, what = ("[", "array") if is_number else ("{", "object")
    if not text.lstrip(_SPACE).startswith(opening):
        raise ExpansionError(f"missing '{opening}' wrapping {what} for extract json")
    elements = json_elements(text)
    value: str | None = None
    if is_number:
        number = whole(key)
        if number <= 0:
            raise ExpansionError('first argument of "extract" must be greater than zero')
        value = elements[number - 1][1] if number <= len(elements) else None
    else:
        value = next((value for name, value in elements if name == key), None)
    return json_unquoted(value) if unquote and value is not None else value


def json_unquoted(value: str) -> str:
    """A JSON string without its quotes, as written inside.

    :raises ExpansionError: it is no string.
    """
    if len(value) < 2 or value[0] != '"':
        raise ExpansionError("missing '\"' wrapping string result for extract jsons")
    return value[1:-1]
