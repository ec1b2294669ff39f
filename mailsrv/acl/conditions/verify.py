"""``verify``: something about the client, an address or the header is as it should be (44.26)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailsrv.acl.item import Item, not_in_mailsrv
from mailsrv.acl.model import ALL_PHASES, MESSAGE_PHASES, PHASE_NAMES, WHOLE_PHASES, Undecided
from mailsrv.acl.verification import addresses, client, fields
from mailsrv.acl.verification.callout import CalloutOptions, parse_callout
from mailsrv.errors import ConfigError, Position
from mailsrv.interfaces import AclPhase

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

Check = Callable[..., Awaitable[bool]]  # takes the run, value, options, and a callout


@dataclass(frozen=True, slots=True)
class _Kind:
    """Something that can be verified: where, with which options, how."""

    check: Check
    phases: frozenset[AclPhase] = ALL_PHASES
    options: frozenset[str] = frozenset()
    takes_value: bool = False
    calls: bool = False  # it takes a callout


_DATA = WHOLE_PHASES
_KINDS = {
    "certificate": _Kind(client.certificate),
    "header_names_ascii": _Kind(fields.names_ascii, _DATA),
    "header_sender": _Kind(addresses.header_sender, _DATA, frozenset({"defer_ok"}), calls=True),
    "header_syntax": _Kind(fields.syntax, _DATA),
    "helo": _Kind(client.helo),
    "not_blind": _Kind(fields.not_blind, _DATA, frozenset({"case_insensitive"})),
    "recipient": _Kind(
        addresses.recipient,
        frozenset({AclPhase.RCPT}),
        frozenset({"defer_ok", "no_details"}),
        calls=True,
    ),
    "reverse_host_lookup": _Kind(client.reverse_host_lookup, options=frozenset({"defer_ok"})),
    "sender": _Kind(
        addresses.sender,
        MESSAGE_PHASES,
        frozenset({"defer_ok", "no_details"}),
        takes_value=True,
        calls=True,
    ),
}
_KNOWN_TO_EXIM = frozenset(
    {"csa", "quota", "success_on_redirect", "callout_defer_ok", "check_postmaster"}
)
_SLASH = re.compile(r"(?:[^/]|//)+|(?<=/)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Request:
    """What an argument of ``verify`` asks for; ``value`` is that of ``sender=address``."""

    name: str
    value: str
    options: frozenset[str]
    callout: CalloutOptions | None = None


def parse_request(text: str) -> Request:
    """Read the argument: ``name[=value][/option]…``, a slash in a value doubled.

    :raises ValueError: it is none, in Exim's words.
    :raises NotImplementedError: it is known to Exim, not to mailsrv.
    """
    parts = [part.replace("//", "/").strip(" \t\n") for part in _SLASH.findall(text)] or [""]
    word, equals, value = parts[0].partition("=")
    name, value = word.strip(" \t\n").lower(), value.strip(" \t\n")
    for part in (name, *parts[1:]):
        known = part.partition("=")[0].strip(" \t\n")
        if known in _KNOWN_TO_EXIM:
            raise NotImplementedError(f'"verify = {text}" ({known})')
    kind = _KINDS.get(name)
    if kind is None or (equals and not kind.takes_value):
        raise ValueError(
            'expected "sender[=address]", "recipient", "helo", "header_syntax", "header_sender", '
            '"header_names_ascii" or "reverse_host_lookup" at start of ACL condition '
            f'"verify {text}"'
        )
    callouts = [part for part in parts[1:] if re.match(r"callout[ \t\n]*(=|\Z)", part)]
    parts = [part for part in parts if part not in callouts]
    options = frozenset(parts[1:])
    if callouts and not kind.calls:
        raise ValueError(f'callout is not possible in ACL condition "verify {text}"')
    if options and not kind.options:
        raise ValueError(f"unexpected '/' found in \"{text}\" (this verify item has no options)")
    for option in parts[1:]:
        if option not in kind.options:
            raise ValueError(f'unknown option "{option}" in ACL condition "verify {text}"')
    callout = parse_callout(callouts[-1]) if callouts else None
    return Request(name, value, options, callout)


class Verify(Item):
    """Verify what the argument names."""

    name = "verify"

    def __init__(self, argument: str, where: Position | None) -> None:
        super().__init__(argument, where)
        self._request: Request | None = None
        if self.argument.constant is not None:
            try:
                self._request = parse_request(self.argument.constant)
            except NotImplementedError as error:
                self.late = not_in_mailsrv(str(error), where)
            except ValueError as error:
                self.late = ConfigError(str(error), where)

    def allowed(self) -> frozenset[AclPhase]:
        """The phases that can have what is verified."""
        return ALL_PHASES if self._request is None else _KINDS[self._request.name].phases

    async def test(self, run: Evaluation) -> bool:
        """Tell whether the condition is met."""
        request = self._request or await self._expanded(run)
        kind = _KINDS[request.name]
        if run.phase not in kind.phases:
            phase = PHASE_NAMES[run.phase]
            raise Undecided(log=f"cannot verify {request.name} in ACL for {phase}", error=True)
        if kind.calls:
            return await kind.check(run, request.value, request.options, request.callout)
        return await kind.check(run, request.value, request.options)

    async def _expanded(self, run: Evaluation) -> Request:
        try:
            return parse_request(await run.expanded(self.argument))
        except NotImplementedError as error:
            log = f"{error} is known to Exim, not to mailsrv"
            raise Undecided(log=log, error=True) from None
        except ValueError as error:
            raise Undecided(log=str(error), error=True) from None
