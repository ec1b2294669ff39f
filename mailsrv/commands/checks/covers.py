"""Whether a list has everything in it that another one has, as far as their texts tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from mailsrv.config.model import Configuration
from mailsrv.expansion.lists import SETTINGS
from mailsrv.expansion.separated import split_list
from mailsrv.expansion.template import Template, compile_string

_DEEPEST = 5
_EVERYTHING = ("*", "^.*", "^.*$", "^")
_EVERY_ADDRESS = {ip_network("0.0.0.0/0"), ip_network("::/0")}


class _Unknown(Exception):
    """The list has more to it than its items."""


@dataclass(frozen=True, slots=True)
class Members:
    """What is in a list; with ``others`` all that is not among the items."""

    items: frozenset[str]
    others: bool = False


def covers(configuration: Configuration, kind: str, wide: str, narrow: str) -> bool:
    """Tell whether what is in ``narrow`` is certainly in ``wide``, both lists of one kind."""
    if wide.strip() == narrow.strip():
        return True
    try:
        more, less = _read(configuration, kind, wide), _read(configuration, kind, narrow)
    except _Unknown:
        return False
    if more.others and less.others:
        more, less = Members(less.items), Members(more.items)
    if more.others or less.others:
        return not more.others and _has_all(kind, more.items)
    return _has_all(kind, more.items) or all(
        any(_has(kind, outer, inner) for outer in more.items) for inner in less.items
    )


def is_everything(kind: str, source: str) -> bool:
    """Tell whether a list has everything in it as it stands; what a name stands for is a switch."""
    text = compile_string(source).constant
    items = split_list(text) if text is not None else []
    return _has_all(kind, frozenset(items)) and not any(item.startswith("!") for item in items)


def complement(configuration: Configuration, kind: str, one: str, other: str) -> bool:
    """Tell whether what is not in ``one`` is certainly in ``other``."""
    try:
        first = _read(configuration, kind, one)
    except _Unknown:
        return False
    if not first.others:
        return _is_others(configuration, kind, other) and complement(
            configuration, kind, other, one
        )
    items = " ; ".join(sorted(first.items))
    return covers(configuration, kind, other, f"<; {items}")


def _is_others(configuration: Configuration, kind: str, source: str) -> bool:
    try:
        return _read(configuration, kind, source).others
    except _Unknown:
        return False


def _has_all(kind: str, items: frozenset[str]) -> bool:
    if any(item in _EVERYTHING for item in items):
        return True
    return kind == "host" and {_network(item) for item in items} >= _EVERY_ADDRESS


def _read(configuration: Configuration, kind: str, source: str, depth: int = 0) -> Members:
    found: set[str] = set()
    negated: set[bool] = set()
    text = compile_string(source).constant
    if text is None:
        raise _Unknown
    for item in split_list(text):
        negated.add(item.startswith("!"))
        found.update(_named(configuration, kind, item.lstrip("! \t"), depth))
    if len(negated) != 1:
        raise _Unknown
    return Members(frozenset(found), others=negated.pop())


def _named(configuration: Configuration, kind: str, item: str, depth: int) -> Iterator[str]:
    """Yield an item, or those of the list that it names."""
    if item.startswith("/") or item[1:] in SETTINGS or depth > _DEEPEST:
        raise _Unknown
    named = configuration.named_lists[kind].get(item[1:]) if item.startswith("+") else None
    if named is None or not isinstance(named.template, Template):
        yield item if kind == "localpart" else item.lower()
        return
    try:
        inner = _read(configuration, kind, named.template.source, depth + 1)
    except _Unknown:
        yield item
        return
    if inner.others:
        yield item
    else:
        yield from inner.items


def _has(kind: str, outer: str, inner: str) -> bool:
    if outer == inner:
        return True
    if any(outer.startswith(mark) or inner.startswith(mark) for mark in "^+@") or ";" in outer:
        return False
    wide, narrow = _network(outer), _network(inner)
    if wide is not None or narrow is not None:
        return (
            wide is not None
            and narrow is not None
            and wide.version == narrow.version
            and wide.supernet_of(narrow)  # type: ignore[arg-type]
        )
    if kind == "address" and "@" in outer and "@" in inner:
        user, _, domain = outer.rpartition("@")
        other, _, its = inner.rpartition("@")
        return _fits(user, other) and _fits(domain, its)
    return kind != "address" and ";" not in inner and _fits(outer, inner)


def _fits(pattern: str, text: str) -> bool:
    return pattern == text or (pattern.startswith("*") and text.endswith(pattern[1:]))


def _network(item: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(item, strict=False)
    except ValueError:
        return None
