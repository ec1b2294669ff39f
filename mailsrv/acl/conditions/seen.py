"""``seen``: a host, user or any key was met before (44.38): greylisting in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import Undecided
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.expansion.separated import split_list

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_REFRESH = 10 * 86400.0  # seconds after which a record is written anew


@dataclass(slots=True)
class Request:
    """The parts of an argument: ``[-]interval / options``."""

    before: bool
    interval: float
    key: str | None = None
    readonly: bool = False
    write: bool = False
    refresh: float = _REFRESH


def parse_request(text: str) -> Request:
    """Read an expanded argument.

    :raises ValueError: it is none.
    """
    first, *rest = [part.strip(" \t\n") for part in split_list(f"</{text}")] or [""]
    before = first.startswith("-")
    request = Request(before, _seconds(first.removeprefix("-")))
    for part in rest:
        name, equals, value = part.partition("=")
        if part == "readonly":
            request.readonly = True
        elif part == "write":
            request.write = True
        elif name == "key" and equals:
            request.key = value
        elif name == "refresh" and equals:
            request.refresh = _seconds(value)
        else:
            raise ValueError(f'unrecognised option "{part}"')
    return request


def _seconds(text: str) -> float:
    try:
        return float(parse_time(text))
    except ConfigError:
        raise ValueError(f'"{text}" is not a time value') from None


class Seen(Item):
    """A record for the key is older (``-``) or younger than an interval."""

    name = "seen"

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        try:
            request = parse_request(await run.expanded(self.argument))
        except ValueError as error:
            log = f'error in arguments to "seen" condition: {error}'
            raise Undecided(log=log, error=True) from None
        rates = run.acls.rates
        if rates is None:
            raise Undecided(log="seen database not available")
        key = run.connection.origin.host_address if request.key is None else request.key
        now, at = run.clock.seconds(), await rates.seen(key)
        edge = now - request.interval
        met = at is not None and (at <= edge if request.before else at >= edge)
        refresh = met and request.before and at is not None and at <= now - request.refresh
        update = request.write or at is None or not request.before or refresh
        if update and not request.readonly:
            await rates.set_seen(key, now)
        return met
