"""What makes a value fit to stand in a query of a lookup (specification 9.9, 9.15, 9.22)."""

from __future__ import annotations

import re
from collections.abc import Callable

_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b"}
_URL_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!$'-._()*+")


def mysql(text: str) -> str:
    """Backslashes before quotes and backslashes; escapes for what is not printed."""
    return "".join(_ESCAPES.get(c) or ("\\" + c if c in "\\'\"" else c) for c in text)


def pgsql(text: str) -> str:
    """As for MySQL, but a single quote is doubled."""
    return mysql(text).replace("\\'", "''")


def sqlite(text: str) -> str:
    """Single quotes are doubled."""
    return text.replace("'", "''")


def redis(text: str) -> str:
    """Backslashes before white space and backslashes, for they divide a command's words."""
    return re.sub(r"([ \t\n\r\v\f\\])", r"\\\1", text)


def _url(character: str) -> str:
    return character if character in _URL_PLAIN else f"%{ord(character):02X}"


def ldap(text: str) -> str:
    """For a filter in an LDAP URL (9.15): RFC 4515's ``\\2A``, then the URL's percent signs."""
    return "".join(f"%5C{ord(c):02X}" if c in "*()\\\0" else _url(c) for c in text)


def ldap_dn(text: str) -> str:
    """For a distinguished name in an LDAP URL (9.15, RFC 4514 2.4)."""
    start = len(text) - len(text.lstrip(" "))
    end = len(text.rstrip(" "))
    found = ""
    for place, character in enumerate(text):
        special = character in ',+"\\<>;' or not start <= place < end
        if special or (character == "#" and place == 0):
            found += "%5C"
        found += _url(character)
    return found


# by the operator's name: the family of lookups that take the result in their queries
QUOTERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "mysql": ("mysql", mysql),
    "pgsql": ("pgsql", pgsql),
    "sqlite": ("sqlite", sqlite),
    "redis": ("redis", redis),
    "ldap": ("ldap", ldap),
    "ldapm": ("ldap", ldap),
    "ldapdn": ("ldap", ldap),
    "ldap_dn": ("ldap", ldap_dn),
}
