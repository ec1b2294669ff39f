"""``python``: a function of the administrator's own file says yes or no.

The argument is the function's name and its arguments in braces, as in
``${python{function}{argument}…}``; the result counts as that of ``condition``.
"""

from __future__ import annotations

import re

from mailsrv.acl.conditions.condition import Condition
from mailsrv.errors import ConfigError, Position

_CALL = re.compile(r"(\w+)[ \t]*((?:\{.*\})?)", re.ASCII | re.DOTALL)


class Python(Condition):
    """True and false by what a function returns."""

    name = "python"

    def __init__(self, argument: str, where: Position | None) -> None:
        found = _CALL.fullmatch(argument.strip())
        if found is None:
            problem = f'"python = {argument}" is no call of a function'
            raise ConfigError(problem, where, "python = function{argument}…")
        super().__init__(f"${{python{{{found[1]}}}{found[2]}}}", where)
