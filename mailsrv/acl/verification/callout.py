"""The callout option of ``verify`` (44.46, 44.47): what it says, and what comes of asking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mailsrv.acl.model import Undecided
from mailsrv.config.types import parse_time
from mailsrv.errors import ConfigError
from mailsrv.interfaces import Called, Callout, Routed

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_PLAIN = ("defer_ok", "fullpostmaster", "no_cache", "postmaster", "random", "use_postmaster",
          "use_sender")  # fmt: skip


@dataclass(frozen=True, slots=True)
class CalloutOptions:
    """A callout as the configuration wants it.

    ``sender`` is ``use_sender``, ``use_postmaster``, or ``=`` and the address of ``mailfrom``.
    """

    callout: Callout
    defer_ok: bool = False
    sender: str = ""


def parse_callout(text: str) -> CalloutOptions:
    """Read ``callout[=parameter,…]``.

    :raises ValueError: a parameter is not known, or malformed.
    :raises NotImplementedError: it is known to Exim, not to mailsrv.
    """
    words: list[str] = []
    values: dict[str, str] = {}
    timeout = 30.0
    for item in text.partition("=")[2].split(","):
        word, equals, value = (part.strip(" \t\n") for part in item.partition("="))
        if not word:
            continue
        if word == "hold":
            raise NotImplementedError(f'"{text}" (hold)')
        if equals and word in ("connect", "maxwait", "mailfrom", "postmaster_mailfrom"):
            values[word] = value
        elif not equals and word in _PLAIN:
            words.append(word)
        else:
            timeout = _seconds(item, text)
    postmaster = values.get("postmaster_mailfrom")
    if postmaster is None and {"postmaster", "fullpostmaster"} & set(words):
        postmaster = ""
    sender = f"={values['mailfrom']}" if "mailfrom" in values else ""
    for word in ("use_sender", "use_postmaster"):
        sender = word if word in words else sender
    callout = Callout(
        timeout=timeout,
        connect=_seconds(values["connect"], text) if "connect" in values else timeout,
        maxwait=_seconds(values["maxwait"], text) if "maxwait" in values else 4 * timeout,
        random="random" in words,
        postmaster=postmaster,
        full_postmaster="fullpostmaster" in words,
        cached="no_cache" not in words,
    )
    return CalloutOptions(callout, "defer_ok" in words, sender)


def _seconds(item: str, text: str) -> float:
    try:
        return float(parse_time(item.strip(" \t\n")))
    except ConfigError:
        problem = f'bad time value or unknown parameter "{item}" in "{text}"'
        raise ValueError(problem) from None


async def passes(
    run: Evaluation, routed: Routed, options: CalloutOptions | None, *, sender: bool
) -> Called | None:
    """Ask about an address that was routed; None if it passes, else what was refused.

    One that became several is not asked about, and none without a callout.

    :raises Undecided: nobody could be asked, and that matters.
    """
    if options is None or run.callout is None or len(routed.addresses) != 1:
        return None
    wanted = replace(options.callout, sender=_sender(run, options.sender))
    found = await run.callout.call(routed.addresses[0], wanted, run.connection)
    if found.status is None:
        return None
    if found.status.temporary:
        if options.defer_ok:
            return None
        kind = "sender" if sender else "recipient"
        raise Undecided(f"Could not complete {kind} verify callout", found.reason)
    return found


def _sender(run: Evaluation, wanted: str) -> str:
    """The address for MAIL."""
    if wanted == "use_sender":
        return run.transaction.sender
    if wanted == "use_postmaster":
        return f"postmaster@{run.scope.services.settings['qualify_domain']}"
    return wanted[1:]


def told(found: Called, *, sender: bool) -> str:
    """Return what the client reads of a refusal."""
    assert found.status is not None, "it was refused"
    if not found.host:
        return "(result of an earlier callout reused)."
    if sender:
        return f"Called:   {found.host}\nSent:     {found.sent}\nResponse: {found.status.text}"
    return f"Callout verification failed:\n{found.status.text}"
