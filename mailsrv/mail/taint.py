"""Values from the network stay marked as such (design, decision 3).

mailsrv keeps octets as ``str``: each character is one octet (latin-1), as
Exim keeps them, so that lengths, comparisons and hashes give Exim's results.
A value that a peer chose is a :class:`Tainted` string.  ``str`` methods return
plain strings: whoever derives a value from a tainted one marks it again, which
the expansion engine does in one place for all its items.
"""

from __future__ import annotations

import re

_HARMFUL = re.compile(r"[\x00-\x1f\x7f/]")  # in a component of a path


class Tainted(str):
    """An octet string that a peer chose: never a path, query or command as it is."""

    __slots__ = ()


class Quoted(Tainted):
    """Text of the configuration with peers' values that all went through one family's quoter.

    It stays marked, but may be a query of a lookup of that ``family`` ("mysql", "ldap" ...).
    ``values`` are the quoted values in it.
    """

    family: str
    values: tuple[str, ...]

    @classmethod
    def of(cls, text: str, family: str, values: tuple[str, ...]) -> Quoted:
        """Mark a text."""
        made = cls(text)
        made.family, made.values = family, values
        return made


def octets(raw: bytes) -> str:
    """Return ``raw`` as an octet string (one character an octet)."""
    return raw.decode("latin-1")


def tainted(raw: bytes) -> Tainted:
    """Return what a peer sent as a marked octet string."""
    return Tainted(raw, "latin-1")


def is_tainted(*values: str) -> bool:
    """Tell whether any of ``values`` came from the network."""
    for value in values:  # noqa: SIM110 - a generator would take twice as long
        if type(value) is not str and isinstance(value, Tainted):
            return True
    return False


def like(result: str, *sources: str) -> str:
    """Return ``result`` marked if any of the ``sources`` it was made from is."""
    for source in sources:
        if type(source) is not str and isinstance(source, Tainted):
            return Tainted(result) if result else result
    return result


def piece(part: str, source: str) -> str:
    """Return ``part``, which was cut out of ``source`` where the configuration divides it.

    It keeps the kind of the mark.
    """
    if not isinstance(source, Tainted) or not part:
        return part
    if isinstance(source, Quoted):
        return Quoted.of(part, source.family, source.values)
    return type(source)(part)


def is_harmless_component(value: str) -> bool:
    """Tell whether a marked value may stand as one component of a path.

    It may if it is not empty, has no slash, no leading dot and no control
    character, and fits in a directory entry (255 octets).
    """
    return 0 < len(value) <= 255 and value[0] != "." and _HARMFUL.search(value) is None
