"""``ratelimit``: a sender's rate has reached a limit (44.39 to 44.43)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item
from mailsrv.acl.model import PHASE_NAMES, Undecided
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.expansion.separated import split_list
from mailsrv.interfaces import AclPhase, RateEvent, RateMode

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_LIMIT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMG]?)", re.IGNORECASE)
_SUFFIXES = {"": 0, "K": 10, "M": 20, "G": 30}
_KINDS = ("per_addr", "per_byte", "per_cmd", "per_conn", "per_mail", "per_rcpt")
_BATCHES = frozenset({AclPhase.PREDATA, AclPhase.DATA, AclPhase.NOT_SMTP})
_IN_MESSAGE = _BATCHES | {AclPhase.MAIL, AclPhase.RCPT}
_PHASES = {
    "per_addr": frozenset({AclPhase.RCPT}),
    "per_byte": _IN_MESSAGE,
    "per_mail": _IN_MESSAGE,
    "per_rcpt": _BATCHES | {AclPhase.RCPT},
}


@dataclass(slots=True)
class Request:
    """The parts of an argument: ``m / p / options / key``."""

    limit: float
    limit_text: str
    period: float
    period_text: str
    kind: str = ""  # per_…
    mode: str = ""  # strict, leaky, readonly
    count: float | None = None
    unique: str | None = None
    key: str | None = None


def parse_request(text: str) -> Request:
    """Read an expanded argument; a slash in the key is written twice, or stands in its middle.

    :raises ValueError: it is none.
    """
    parts = [part.strip(" \t\n") for part in split_list(f"</{text}")]
    limit, period = [*parts, "", ""][:2]
    found = _LIMIT.fullmatch(limit)
    if not limit:
        raise ValueError("sender rate limit not set")
    if found is None:
        raise ValueError(f'"{limit}" is not a positive number')
    if not period:
        raise ValueError("smoothing period not set")
    try:
        seconds = parse_time(period)
    except ConfigError:
        seconds = 0
    if seconds <= 0:
        raise ValueError(f'"{period}" is not a positive time value')
    scaled = float(found[1]) * (1 << _SUFFIXES[found[2].upper()])
    request = Request(scaled, limit, float(seconds), period)
    for part in parts[2:]:
        _option(request, part)
    return request


def _option(request: Request, part: str) -> None:
    word = part.lower()
    if word in ("strict", "leaky", "readonly", "noupdate"):
        mode = "readonly" if word == "noupdate" else word
        if request.mode not in ("", mode):
            raise ValueError("conflicting update modes")
        request.mode = mode
    elif word in _KINDS:
        if request.kind:
            raise ValueError(f'"{part}" conflicts with "{request.kind}"')
        request.kind = word
    elif word.startswith("count="):
        try:
            request.count = float(part[6:])
        except ValueError:
            request.count = -1.0
        if not 0 <= request.count < float("inf"):
            raise ValueError(f'"{part[6:]}" is not a positive number')
    elif word.startswith("unique="):
        request.unique = part[7:]
    elif part or request.key is not None:
        request.key = part if request.key is None else f"{request.key}/{part}"


class Ratelimit(Item):
    """The average rate is at or over a limit; sets ``$sender_rate`` and its kin."""

    name = "ratelimit"

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        try:
            request = parse_request(await run.expanded(self.argument))
            kind, mode = kind_and_mode(request, run.phase)
        except ValueError as error:
            log = f'error in arguments to "ratelimit" condition: {error}'
            raise Undecided(log=log, error=True) from None
        key = run.connection.origin.host_address if request.key is None else request.key
        counted = "per_rcpt" if kind == "per_addr" else kind
        unique = request.unique
        if kind == "per_addr":
            address = run.scope.address
            unique = "*" if address is None else f"{address.local_part}@{address.domain}"
        stored = "/".join(
            [request.period_text, counted, *(["unique"] if unique is not None else []), key]
        )
        event = RateEvent(
            stored, _count(request, kind, run), request.period, request.limit, mode, unique
        )
        rate = await _rate(run, kind, event)
        run.give(
            sender_rate=f"{rate:.1f}",
            sender_rate_limit=request.limit_text,
            sender_rate_period=request.period_text,
        )
        return rate >= request.limit


def kind_and_mode(request: Request, phase: AclPhase) -> tuple[str, RateMode]:
    """Return what is counted, and how; what a phase cannot count it reads only.

    Without a word for it, messages are counted in any phase, as Exim does.

    :raises ValueError: it is to be updated there.
    """
    kind = request.kind or "per_mail"
    mode = request.mode
    if request.kind and phase not in _PHASES.get(kind, frozenset(AclPhase)):
        if mode in ("strict", "leaky"):
            raise ValueError(
                f'"{kind}" must not have /leaky or /strict option, or cannot be used in '
                f"{PHASE_NAMES[phase]} ACL"
            )
        mode = "readonly"
    return kind, RateMode(mode or "leaky")


def _count(request: Request, kind: str, run: Evaluation) -> float:
    """How much is added to the rate: by default one, octets, or recipients of a whole message."""
    if request.count is not None:
        return request.count
    transaction = run.transaction
    if kind == "per_byte":
        return float(transaction.size or transaction.declared_size)
    if kind == "per_rcpt" and run.phase in _BATCHES:
        return float(len(transaction.recipients))
    return 1.0


async def _rate(run: Evaluation, kind: str, event: RateEvent) -> float:
    """Return the rate; for one key it is computed once a connection, message or command."""
    if run.acls.rates is None:
        raise Undecided(log="ratelimit database not available")
    if event.mode is RateMode.READONLY:
        return await run.acls.rates.measure(event)
    known = _known(run, kind)
    if event.key not in known or kind == "per_cmd":
        known[event.key] = await run.acls.rates.measure(event)
    return known[event.key]


def _known(run: Evaluation, kind: str) -> dict[str, float]:
    """The rates that were computed already: how long they stay depends on what is measured."""
    if kind == "per_conn":
        return run.connection.rates
    if kind in ("per_mail", "per_byte") or (kind == "per_rcpt" and run.phase in _BATCHES):
        found = run.memory.setdefault("rates", {})
        assert isinstance(found, dict)
        return found
    return run.rates
