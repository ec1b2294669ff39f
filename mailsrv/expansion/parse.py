"""Reading a string into its tree (specification 11.1 to 11.8).

The grammar is Exim's, with its messages.  What an item or condition reads
after its name is the business of the tables in ``items.py``,
``operators.py`` and ``conditions.py``.

:raises ExpansionError: for every fault of syntax; :func:`parse` raises nothing else.
"""

from __future__ import annotations

from mailsrv.expansion.arithmetic import whole
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.outline import Recorder
from mailsrv.expansion.tree import Concatenation, Condition, Node, Number, Placed, Text

SPACE = " \t\n\r\v\f"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_NAME = _LETTERS | _DIGITS
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v"}

NOT_BUILT = "known to Exim, not to mailsrv"
MISSING_KET = "missing } at end of string"


class Parser:
    """Reads one string from left to right.

    An error without a position of its own is one of the place that was reached.
    """

    def __init__(self, text: str, recorder: Recorder | None = None) -> None:
        self.text = text
        self.position = 0
        self.recorder = recorder  # told of what is read
        self.bad_header = False  # a header name that holds "}": worth a hint in a later message

    # --- reading -------------------------------------------------------------

    def peek(self) -> str:
        """The next character, "" at the end."""
        return self.text[self.position : self.position + 1]

    def take(self, expected: str) -> bool:
        """Step over ``expected`` if it comes next."""
        if self.text.startswith(expected, self.position):
            self.position += len(expected)
            return True
        return False

    def skip_space(self) -> None:
        """Step over white space."""
        while self.peek() in SPACE and self.peek():
            self.position += 1

    def name(self, extra: str = "_") -> str:
        """Read letters, digits and ``extra`` characters; may be empty."""
        start = self.position
        while self.peek() in _NAME or (self.peek() and self.peek() in extra):
            self.position += 1
        return self.text[start : self.position]

    def rest(self) -> str:
        """What is not yet read."""
        return self.text[self.position :]

    def curly(self, detail: str = "") -> ExpansionError:
        """The error for braces that do not fit."""
        text = "missing or misplaced { or }"
        if self.bad_header:
            text += " - could be header name not terminated by colon"
        return ExpansionError(f"{text}{detail}")

    # --- strings -------------------------------------------------------------

    def string(self, *, nested: bool, dollars: bool = True) -> Node:
        """Read up to the closing brace (not taken), or to the end if not ``nested``.

        ``dollars`` is False where Exim does not expand: only escapes are read.
        """
        start = self.position
        if self.recorder is not None:
            self.recorder.begin_string(start)
        parts: list[Node] = []
        literal: list[str] = []
        while character := self.peek():
            if character == "}" and nested:
                break
            if character == "\\":
                literal.append(self._escape())
            elif character == "$" and dollars:
                if literal:
                    parts.append(self._text(literal))
                    literal = []
                parts.append(self._dollar())
            else:
                literal.append(self._plain(nested))
        if nested and not self.peek():
            hint = " - could be header name not terminated by colon" if self.bad_header else ""
            raise ExpansionError(MISSING_KET + hint, start - 1)  # the brace that is not closed
        if literal:
            parts.append(self._text(literal))
        if self.recorder is not None:
            self.recorder.end_string(self.position)
        parts = _before_nul(parts)
        if len(parts) == 1:
            return parts[0]
        return Concatenation(parts) if parts else Text("")

    def _text(self, literal: list[str]) -> Text:
        text = "".join(literal)
        if self.recorder is not None:
            self.recorder.text(text)
        return Text(text)

    def _plain(self, nested: bool) -> str:
        """Read a run of characters without a meaning of their own (or a lone ``$``)."""
        start = self.position
        self.position += 1
        stop = "\\$}" if nested else "\\$"
        while self.peek() and self.peek() not in stop:
            self.position += 1
        return self.text[start : self.position]

    def _escape(self) -> str:
        self.position += 1
        character = self.peek()
        if not character:
            raise ExpansionError("\\ at end of string")
        if character == "N":
            return self._protected()
        self.position += 1
        if character in "01234567":
            return self._octal(character)
        if character == "x":
            return self._hexadecimal()
        return _ESCAPES.get(character, character)

    def _protected(self) -> str:
        """Read the text between two ``\\N``."""
        self.position += 1
        start = self.position
        end = self.text.find("\\N", start)
        if end < 0:
            self.position = len(self.text)
            return self.text[start:]
        self.position = end + 2
        return self.text[start:end]

    def _octal(self, digits: str) -> str:
        while len(digits) < 3 and self.peek() and self.peek() in "01234567":
            digits += self.peek()
            self.position += 1
        return chr(int(digits, 8) & 0xFF)

    def _hexadecimal(self) -> str:
        digits = ""
        while len(digits) < 2 and self.peek() in _HEX:
            digits += self.peek()
            self.position += 1
        return chr(int(digits or "0", 16))

    # --- after a dollar ------------------------------------------------------

    def _dollar(self) -> Node:
        start = self.position
        if self.recorder is not None:
            self.recorder.begin_item(start)
        self.position += 1
        node = self._reference(start)
        if isinstance(node, Placed):
            node.at = start
        if self.recorder is not None:
            node = self.recorder.end_item(node, self.position)
        return node

    def _reference(self, start: int) -> Node:
        character = self.peek()
        if character in _LETTERS:
            return self._bare_name(start)
        if character in _DIGITS:
            return Number(whole(self._digits()))
        if character != "{":
            raise ExpansionError("$ not followed by letter, digit, or {", start)
        self.position += 1
        if self.peek() in _DIGITS:
            number = Number(whole(self._digits()))
            if not self.take("}"):
                raise ExpansionError("} expected after number")
            return number
        if self.peek() not in _LETTERS:
            raise ExpansionError("letter or digit expected after ${")
        return self._item(start)

    def _digits(self) -> str:
        start = self.position
        while self.peek() in _DIGITS:
            self.position += 1
        return self.text[start : self.position]

    def _bare_name(self, dollar: int) -> Node:
        start = self.position
        name = self.name()
        header = self.header(name, start)
        if header is not None:
            return header
        return self.variable(name, f'unknown variable name "{name}"', dollar)

    def variable(self, name: str, unknown: str, start: int) -> Node:
        """Return the node of a variable that stands at ``start``; ``unknown`` if there is none."""
        from mailsrv.expansion.variables import variable

        try:
            return variable(name, unknown)
        except ExpansionError as error:
            error.found_at(start)
            raise

    def header(self, name: str, start: int) -> Node | None:
        """Read a header's name if ``name``, read from ``start``, begins one; with its colon."""
        from mailsrv.expansion.headers import header_kind, header_node

        prefix, underscore, _ = name.partition("_")
        kind = header_kind(prefix + underscore)
        if kind is None:
            return None
        self.position = start + len(prefix) + 1
        begin = self.position
        while "!" <= self.peek() <= "~" and self.peek() != ":":
            self.position += 1
        field = self.text[begin : self.position]
        if "}" in field:
            self.bad_header = True
        self.take(":")
        if self.recorder is not None:
            self.recorder.header(start, self.position)
        return header_node(field, kind)

    def _item(self, start: int) -> Node:
        from mailsrv.expansion.items import ITEMS
        from mailsrv.expansion.operators import operator

        name = self.name("_-")
        item = ITEMS.get(name)
        if item is not None:
            return item(self)
        if self.take(":"):
            return operator(name, self, start)
        if self.take("}"):
            return self.variable(name, f'unknown variable in "${{{name}}}"', start)
        problem = "is not a known operator (or a } is missing in a variable reference)"
        raise ExpansionError(f'"${{{name}" {problem}', start)

    # --- what items read -----------------------------------------------------

    def braced(self, *, dollars: bool = True) -> Node:
        """Read ``{…}``, whose opening brace is next."""
        if not self.take("{"):
            raise self.curly()
        node = self.string(nested=True, dollars=dollars)
        self.position += 1
        return node

    def verbatim(self) -> tuple[Node, str]:
        """Read ``{…}`` as :meth:`braced` does; returns what stands there, too."""
        start = self.position + 1
        node = self.braced()
        if self.recorder is not None:
            self.recorder.verbatim()
        return node, self.text[start : self.position - 1]

    def each(self, name: str, *what: str) -> list[Node]:
        """Read one braced substring for each of ``what``, by which Exim calls them."""
        found: list[Node] = []
        for words in what:
            self.skip_space()
            if self.peek() != "{":
                raise ExpansionError(f"missing '{{' for {words} of {name}")
            found.append(self.braced())
        self.skip_space()
        return found

    def arguments(self, least: int, most: int, name: str, *, end: bool = True) -> list[Node]:
        """Read braced substrings, and with ``end`` the brace that closes the item."""
        found: list[Node] = []
        self.skip_space()
        while len(found) < most and self.peek() == "{":
            found.append(self.braced())
            self.skip_space()
        if len(found) < least:
            raise ExpansionError(f"Not enough arguments for '{name}' (min is {least})")
        if end and not self.take("}"):
            if self.peek() == "{":
                raise ExpansionError(f"Too many arguments for '{name}' (max is {most})")
            raise ExpansionError(f"missing '}}' after '{name}'")
        return found

    def condition(self) -> Condition:
        """Read a condition (specification 11.7)."""
        from mailsrv.expansion.conditions import parse_condition

        self.skip_space()
        if self.recorder is None:
            return parse_condition(self)
        self.recorder.begin_test(self.position)
        return self.recorder.end_test(parse_condition(self), self.position)

    def close(self, name: str) -> None:
        """Read the brace that ends an item."""
        self.skip_space()
        if not self.take("}"):
            raise self.curly()


def _before_nul(parts: list[Node]) -> list[Node]:
    """Return what stands before a NUL that an escape wrote: it ends a string, as in Exim."""
    for place, part in enumerate(parts):
        if isinstance(part, Text) and "\0" in part.text:
            before = part.text.partition("\0")[0]
            return [*parts[:place], *([Text(before)] if before else [])]
    return parts


def parse(text: str, recorder: Recorder | None = None) -> Node:
    """Read a whole string; ``recorder`` is told of all that is read.

    :raises ExpansionError: if it is not well formed, or nested beyond reason.
    """
    parser = Parser(text, recorder)
    try:
        return parser.string(nested=False)
    except ExpansionError as error:
        error.found_at(parser.position)
        raise
    except RecursionError:
        raise ExpansionError("string is nested too deeply", parser.position) from None
