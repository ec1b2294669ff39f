"""Paths that are made with values from the network (design, decision 3).

The option's text is cut at its slashes before it is expanded, so that what a
peer chose can only ever fill one component; it must be a harmless one.
"""

from __future__ import annotations

from functools import lru_cache

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import Template, compile_string
from mailsrv.mail.taint import is_harmless_component, is_tainted


async def expand_path(template: Template, scope: Scope, option: str) -> str:
    """Expand an option that names a file or directory.

    :raises TemporaryFailure: a component from the network is not harmless, or
        the path is not absolute or holds a NUL.
    """
    parts = []
    for piece in _pieces(template.source):
        value = await piece.expand(scope)
        if not value and "$" in piece.source:
            raise TemporaryFailure(reason=f"{option}: a component of {template.source} is empty")
        if is_tainted(value) and not is_harmless_component(value):
            raise TemporaryFailure(
                reason=f"{option}: {str(value)!r} comes from the network and cannot be part of a "
                f"path (in {template.source}); use $local_part_data or a lookup"
            )
        parts.append(str(value))
    path = "/".join(parts)
    if not path.startswith("/") or "\0" in path:
        raise TemporaryFailure(reason=f"{option}: {path!r} is not an absolute path")
    return path


def whole_path(path: str, option: str) -> str:
    """Return a path that is given as a whole.

    :raises TemporaryFailure: it comes from the network, is not absolute or holds a NUL.
    """
    if is_tainted(path):
        raise TemporaryFailure(
            reason=f"Tainted '{path}' ({option} or directory name) not permitted: "
            "use $local_part_data or a lookup"
        )
    if not path.startswith("/") or "\0" in path:
        raise TemporaryFailure(reason=f"{option}: {path!r} is not an absolute path")
    return path


@lru_cache(maxsize=1000)
def _pieces(source: str) -> tuple[Template, ...]:
    return tuple(compile_string(piece) for piece in cut(source))


def cut(source: str) -> list[str]:
    """Cut an expansion string at the slashes that are outside all braces."""
    pieces, depth, start = [], 0, 0
    for at, character in enumerate(source):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        elif character == "/" and depth <= 0:
            pieces.append(source[start:at])
            start = at + 1
    pieces.append(source[start:])
    return pieces
