"""``${eval:…}`` and the numbers of conditions (specification 11.6, 11.7): 64-bit integers."""

from __future__ import annotations

import re
from collections.abc import Callable

from mailsrv.expansion.errors import ExpansionError

_SCALE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_INTEGER = re.compile(r"[ \t\n\r\v\f]*([+-]?[0-9]+)([kKmMgG]?)[ \t\n\r\v\f]*\Z", re.ASCII)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+", re.ASCII)
_SPACE = " \t\n\r\v\f"
_MOST_DIGITS = 40
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


def whole(digits: str) -> int:
    """The number that digits write, with a sign or without.

    Python refuses thousands of them, which a peer may send: such a number is too large for
    whatever it counts, and its first forty digits are, too.
    """
    return int(digits[:_MOST_DIGITS])


def wrap(number: int) -> int:
    """A number as 64 bits hold it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _limited(number: int) -> int:
    """A number as it is read: one that is too large is the largest."""
    return min(number, _HIGHEST)


def _might_overflow(left: int, right: int) -> bool:
    """Exim's test before it adds or subtracts: cruder than need be, but its results are known."""
    half = _HIGHEST // 2
    return left >= half or (left <= -half and right <= -half)


def integer(text: str) -> int:
    """The number of a condition: signed decimal with K, M or G; "" is zero.

    :raises ExpansionError: with Exim's words.
    """
    match = _INTEGER.match(text)
    if match:
        number = whole(match[1]) * _SCALE[match[2].upper()]
        if not _LOWEST <= number <= _HIGHEST:
            raise ExpansionError(f'absolute value of integer "{text}" is too large (overflow)')
        return number
    if not text.strip(_SPACE):
        return 0
    head = re.match(r"[ \t\n\r\v\f]*[+-]?[0-9]+[kKmMgG]?", text, re.ASCII)
    if head is None:
        raise ExpansionError(f'integer expected but "{text}" found')
    raise ExpansionError(f'invalid integer "{text}"')


class Evaluator:
    """Evaluates one expression by recursive descent, in C's order of priorities."""

    LEVELS: tuple[dict[str, Callable[[int, int], int]], ...] = (
        {"|": lambda a, b: a | b},
        {"^": lambda a, b: a ^ b},
        {"&": lambda a, b: a & b},
        {"<<": lambda a, b: wrap(a << (b & 63)), ">>": lambda a, b: a >> (b & 63)},
        {"+": lambda a, b: wrap(a + b), "-": lambda a, b: wrap(a - b)},
        {"*": lambda a, b: wrap(a * b), "/": lambda a, b: 0, "%": lambda a, b: 0},
    )

    def __init__(self, text: str, *, decimal: bool) -> None:
        self.text = text
        self.decimal = decimal
        self.position = 0

    def evaluate(self) -> int:
        """Evaluate the whole expression.

        :raises ExpansionError: with Exim's words.
        """
        try:
            number = self._level(0)
            self._skip()
            if self.position < len(self.text):
                raise ExpansionError("expecting operator")
        except ExpansionError as error:
            done = self.text[: self.position]
            raise ExpansionError(
                f'error in expression evaluation: {error.reason} (after processing "{done}")'
            ) from None
        return number

    def _skip(self) -> None:
        text, position = self.text, self.position
        while position < len(text) and text[position] in _SPACE:
            position += 1
        self.position = position

    def _level(self, level: int) -> int:
        if level == len(self.LEVELS):
            return self._unary()
        operators = self.LEVELS[level]
        left = self._level(level + 1)
        while True:
            self._skip()
            sign = self.text[self.position : self.position + 1]
            if sign not in operators:
                sign = self.text[self.position : self.position + 2]
                if sign not in operators:
                    return left
            self.position += len(sign)
            right = self._level(level + 1)
            if sign in "/%":
                left = self._divide(sign, left, right)
                continue
            if sign in "+-" and _might_overflow(left, right):
                raise ExpansionError(f"overflow in {'sum' if sign == '+' else 'difference'}")
            left = operators[sign](left, right)

    def _divide(self, sign: str, left: int, right: int) -> int:
        if right == 0:
            raise ExpansionError("divide by zero" if sign == "/" else "modulo by zero")
        if left == _LOWEST and right == -1:
            return _HIGHEST
        quotient = abs(left) // abs(right)  # C truncates towards zero
        if (left < 0) != (right < 0):
            quotient = -quotient
        return quotient if sign == "/" else left - quotient * right

    def _unary(self) -> int:
        self._skip()
        sign = self.text[self.position : self.position + 1]
        if sign and sign in "+-~":
            self.position += 1
            number = self._unary()
            return {"+": number, "-": wrap(-number), "~": ~number}[sign]
        if sign == "(":
            self.position += 1
            number = self._level(0)
            self._skip()
            if not self.text.startswith(")", self.position):
                raise ExpansionError("expecting closing parenthesis")
            self.position += 1
            return number
        return self._number()

    def _number(self) -> int:
        match = _NUMBER.match(self.text, self.position)
        if not match:
            raise ExpansionError("expecting number or opening parenthesis")
        digits = match[0]
        end = match.end()
        if self.decimal and digits[:2] in ("0x", "0X"):
            digits, end = "0", self.position + 1
        number, end = self._digits(digits, end)
        scale = self.text[end : end + 1].upper()
        if scale and scale in "KMG":
            number *= _SCALE[scale]
            end += 1
        self.position = end
        return wrap(number)

    def _digits(self, digits: str, end: int) -> tuple[int, int]:
        if self.decimal:
            return _limited(whole(digits)), end
        if digits[:2] in ("0x", "0X"):
            return _limited(int(digits[2:42] or "0", 16)), end
        if digits[0] == "0":
            octal = re.match(r"[0-7]*", digits)
            assert octal is not None
            return _limited(int(octal[0][:60] or "0", 8)), end - (len(digits) - octal.end())
        return _limited(whole(digits)), end


def evaluate(text: str, *, decimal: bool = False) -> str:
    """The value of an arithmetic expression, in decimal."""
    return str(Evaluator(text, decimal=decimal).evaluate())
