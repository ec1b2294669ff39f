"""What SQL lookups give back (specification 9.21): rows as lines, fields with their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_NEEDS_QUOTES = frozenset(" \t\n\r\v\f")


def rows_text(names: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str | None:
    """Return rows as Exim does: one field alone, several as ``name=value`` pairs; None for no row.

    A value that is NULL is ``<NULL>``.
    """
    lines = []
    for row in rows:
        values = ["<NULL>" if value is None else value for value in row]
        if len(values) == 1:
            lines.append(values[0])
        else:
            pairs = (f"{n}={_quoted(v)} " for n, v in zip(names, values, strict=True))
            lines.append("".join(pairs))
    return "\n".join(lines) if lines else None


def _quoted(value: str) -> str:
    """Return a value in quotes if it is empty, has white space or begins with a quote."""
    if value and not _NEEDS_QUOTES & set(value) and value[0] != '"':
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
