"""What a string that chooses between constants can come to."""

from __future__ import annotations

from collections.abc import Iterator

from mailsrv.commands.checks.braces import argument, closing
from mailsrv.commands.checks.outside import Outside
from mailsrv.commands.checks.variables import used
from mailsrv.expansion.errors import ExpansionError
from mailsrv.expansion.parse import Parser
from mailsrv.expansion.template import Template, compile_string

_IF = "${if"


def outcomes(outside: Outside, template: Template) -> set[str]:
    """Return the constants among the branches of ``${if``, and what a stranger would have it be.

    A branch counts if its condition can change: one without a variable is a switch.
    """
    found = {text for text in _branches(template.source.strip()) if text is not None}
    text = outside.said(template)
    return found | ({text.strip()} if text else set())


def _branches(source: str) -> Iterator[str | None]:
    constant = compile_string(source).constant
    if constant is not None:
        yield constant.strip()
    if not source.startswith(_IF) or closing(source, 1) != len(source) - 1:
        return
    parser = Parser(source)
    parser.position = len(_IF)
    try:
        parser.condition()
    except ExpansionError:
        return  # told of by another check
    if not used(source[: parser.position]):
        return
    at = parser.position
    while (begin := source.find("{", at)) >= 0:
        yield from _branches(argument(source, begin).strip())
        at = closing(source, begin) + 1
