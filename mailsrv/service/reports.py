"""What the main options say of bounces and warnings, as the queue's ``Bouncer`` takes it."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from mailsrv.config.main import MainOptions
from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.lists import match_address, split_list
from mailsrv.expansion.rewrite import RECIPIENT, Rewriter
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template, compile_string
from mailsrv.interfaces import IMailLog
from mailsrv.mail.address import split
from mailsrv.mail.message import Message, counted_size
from mailsrv.mail.taint import is_tainted
from mailsrv.net.threads import IThreads
from mailsrv.queue.bounce import Kind, ReportSettings, delay_words

_FALSE = ("", "0", "no", "false")


class ReportOptions(TypedDict):
    """Arguments of :class:`~mailsrv.queue.bouncer.Bouncer`."""

    settings: Callable[[], ReportSettings]
    panic: Callable[[str, BaseException | None], None]
    delay_warning: Sequence[float]
    copies: Callable[[str], Awaitable[Sequence[str]]]
    may_warn: Callable[[Message, str], Awaitable[bool]]
    received: Callable[[Message], str]
    texts: Callable[[Message, Kind, str, float], Awaitable[Sequence[str]]]
    freeze_tell: Sequence[str]
    rewritten: Callable[[Message], Awaitable[Message]]


def report_options(
    main: MainOptions,
    services: Services,
    log: IMailLog,
    threads: IThreads,
    rewriter: Rewriter | None = None,
) -> ReportOptions:
    """Return them for a configuration; ``threads`` read files."""

    ident = _own_name()

    def settings() -> ReportSettings:
        return ReportSettings(
            primary_hostname=main.primary_hostname or "",
            qualify_domain=main.qualify_domain or "",
            dsn_from=_now(main.dsn_from, "dsn_from", Scope(services), log),
            errors_reply_to=main.errors_reply_to or "",
            bounce_message_text=main.bounce_message_text or "",
            bounce_return_message=main.bounce_return_message,
            bounce_return_body=main.bounce_return_body,
            bounce_return_size_limit=main.bounce_return_size_limit,
            bounce_return_linesize_limit=main.bounce_return_linesize_limit,
            bounce_sender_authentication=main.bounce_sender_authentication or "",
            ident=ident,
        )

    async def may_warn(message: Message, domain: str) -> bool:
        return await _wanted(main.delay_warning_condition, message, domain, services, log)

    def received(report: Message) -> str:
        scope = Scope(services, message=report, origin=report.origin)
        return _now(main.received_header_text, "received_header_text", scope, log)

    files = {Kind.FAILED: main.bounce_message_file, Kind.DELAYED: main.warn_message_file}

    async def texts(message: Message, kind: Kind, to: str, delay: float) -> Sequence[str]:
        scope = Scope(
            services,
            message=message,
            origin=message.origin,
            values={
                "bounce_recipient": to,
                "warn_message_recipients": to,
                "warnmsg_recipients": to,
                "warn_message_delay": delay_words(delay),
                "warnmsg_delay": delay_words(delay),
            },
        )
        return await _texts(files.get(kind), scope, log, threads)

    async def rewritten(report: Message) -> Message:
        if rewriter is None or not rewriter.active:
            return report
        scope = Scope(services, message=report, origin=report.origin)
        headers = await rewriter.headers(report.headers, scope)
        recipients = [
            replace(each, address=await rewriter.address(each.address, RECIPIENT, scope))
            for each in report.recipients
        ]
        return replace(
            report,
            headers=headers,
            recipients=tuple(recipients),
            size=counted_size(headers, report.body),
        )

    copies = errors_copies(main.errors_copy, services, log)
    return {
        "settings": settings,
        "panic": log.panic,
        "delay_warning": main.delay_warning,
        "copies": copies,
        "may_warn": may_warn,
        "received": received,
        "texts": texts,
        "rewritten": rewritten,
        "freeze_tell": [
            each for a in (main.freeze_tell or "").split(",") if (each := a.strip(" "))
        ],
    }


async def _texts(
    file: Template | None, scope: Scope, log: IMailLog, threads: IThreads
) -> Sequence[str]:
    """Read and expand the items of a file of texts (chapter 50); what fails is as if empty."""
    if file is None:
        return ()
    try:
        path = await file.expand(scope)
        if is_tainted(path) or not path.startswith("/"):
            raise TemporaryFailure(reason=f"{path!r} is no absolute, untainted path")
        content = (await threads.run(Path(path).read_bytes)).decode("latin-1")
    except (TemporaryFailure, OSError) as error:
        reason = error.explained if isinstance(error, TemporaryFailure) else str(error)
        log.panic(f"failed to open {file.source} for bounce or warning texts: {reason}")
        return ()
    return [await _item(text, file.source, scope, log) for text in _SEPARATOR.split(content)]


_SEPARATOR = re.compile(r"(?m)^\*\*\*\*(?:\n|\Z)")


async def _item(text: str, source: str, scope: Scope, log: IMailLog) -> str:
    try:
        return (await compile_string(text).expand(scope)).strip("\n") if text.strip() else ""
    except TemporaryFailure as error:
        log.panic(f"failed to expand a text of {source}: {error.explained}")
        return ""


def _now(template: Template | None, name: str, scope: Scope, log: IMailLog) -> str:
    """Expand a text of the report itself; one that fails is left out, with a line in the log."""
    if template is None:
        return ""
    try:
        return template.value(scope)
    except ForcedFailure:
        return ""
    except (TemporaryFailure, TypeError) as error:
        log.panic(f"failed to expand {name} {template.source!r}: {error}")
        return ""


def _own_name() -> str:
    """Return the login name of the user that this process runs as, or its number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


async def _wanted(
    condition: Template | None, message: Message, domain: str, services: Services, log: IMailLog
) -> bool:
    """Expand ``delay_warning_condition`` (specification 14.23); a failure sends the warning."""
    if condition is None:
        return True
    scope = Scope(services, message=message, origin=message.origin, values={"domain": domain})
    try:
        return (await condition.expand(scope)).lower() not in _FALSE
    except TemporaryFailure as error:
        log.panic(f"failed to expand delay_warning_condition: {error.explained}")
        return True


def errors_copies(
    option: Template | None, services: Services, log: IMailLog
) -> Callable[[str], Awaitable[Sequence[str]]]:
    """Return what gives, for the address that a bounce goes to, who gets copies.

    ``errors_copy`` is a list of items, each a pattern and the addresses for
    bounces to what matches it; the first match decides (specification 14.23).
    ``$local_part`` and ``$domain`` are those of the address.
    """
    items = []
    for item in split_list(option.source) if option is not None else ():
        pattern, _, addresses = item.strip(" \t\n").partition(" ")
        where = option.where if option is not None else None
        items.append((compile_string(pattern, where), compile_string(addresses.strip(" "), where)))

    async def copies(address: str) -> Sequence[str]:
        local_part, domain = split(address)
        scope = Scope(services, values={"local_part": local_part, "domain": domain})
        for pattern, addresses in items:
            try:
                found = await match_address(pattern, address, scope)
                if found is not None:
                    text = await addresses.expand(scope.within({}, found.numbers))
                    return [each.strip(" ") for each in text.split(",") if each.strip(" ")]
            except TemporaryFailure as error:
                log.panic(f"errors_copy: {error.explained}")
        return ()

    return copies
