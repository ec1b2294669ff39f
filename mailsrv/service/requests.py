"""The requests of the control socket, and their answers, without the socket (design, decision 11).

A request and each piece of its answer is one JSON object.  A request has ``do``
(list, count, headers, body, whole, log, remove, freeze, thaw, give_up, edit,
mark, each, run) and, for one message, ``message``.  The last piece of an answer
has ``done`` or ``error``; listings and bodies come in pages, so that neither side
holds more than a page.

The same code answers a command that opened the spool itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from mailsrv.errors import Locked, MailFailure
from mailsrv.expansion.mailboxes import address_of
from mailsrv.interfaces import IMailLog, IQueueControl, ISpool, QueueEntry
from mailsrv.mail.address import split
from mailsrv.mail.header import render
from mailsrv.mail.msgid import is_message_id
from mailsrv.service.spoolform import header_file
from mailsrv.wire.command import SyntaxProblem, parse_path

# Octets of a request's line.
REQUEST_LIMIT = 64 * 1024
# Messages in a page of a listing, octets in a page of a body.
PAGE_ENTRIES = 50
PAGE_OCTETS = 16 * 1024
# Name of the socket in a worker's folder.
SOCKET = "control"

_EACH = ("remove", "freeze", "thaw", "give_up")

T = TypeVar("T")
Request = dict[str, Any]
Answer = dict[str, Any]


class BadRequest(Exception):
    """A request that cannot be understood; the text is the answer."""


def pack_entry(entry: QueueEntry) -> list[Any]:
    """Return a line of a listing as JSON takes it."""
    return [
        entry.id,
        entry.sender,
        entry.size,
        entry.received_at,
        entry.next_attempt,
        entry.frozen,
        list(entry.recipients),
        list(entry.delivered),
        entry.quarantined,
        entry.reason,
        list(entry.made),
    ]


def unpack_entry(packed: list[Any]) -> QueueEntry:
    """Return the entry that :func:`pack_entry` packed."""
    id, sender, size, received_at, next_attempt, frozen, left, done, *rest = packed
    quarantined, reason, made = rest
    return QueueEntry(
        id,
        sender,
        size,
        received_at,
        next_attempt,
        frozen,
        tuple(left),
        tuple(done),
        quarantined,
        reason,
        tuple(made),
    )


class Requests:
    """Answers requests about one spool; ``queue`` is None where no server runs.

    ``log`` is told of what is removed there.
    """

    def __init__(
        self, spool: ISpool, queue: IQueueControl | None, log: IMailLog | None = None
    ) -> None:
        self._spool = spool
        self._queue = queue
        self._log_of_removal = log
        self._answers: dict[str, Callable[[Request], AsyncIterator[Answer]]] = {
            "list": self._list,
            "count": self._count,
            "headers": self._headers,
            "body": self._body,
            "whole": self._whole,
            "log": self._log,
            "remove": self._remove,
            "freeze": self._freeze,
            "thaw": self._thaw,
            "give_up": self._give_up,
            "edit": self._edit,
            "mark": self._mark,
            "each": self._each,
            "run": self._run,
        }

    async def answer(self, request: object) -> AsyncIterator[Answer]:
        """Give the pieces of the answer; what goes wrong is the last one, as ``error``."""
        try:
            do = request.get("do") if isinstance(request, dict) else None
            if not isinstance(request, dict) or not isinstance(do, str) or do not in self._answers:
                raise BadRequest("unknown request")
            async for piece in self._answers[do](request):
                yield piece
            yield {"done": True}
        except BadRequest as error:
            yield {"error": str(error)}
        except MailFailure as failure:
            yield {"error": failure.reason}

    async def _list(self, request: Request) -> AsyncIterator[Answer]:
        """All messages, or those from the id ``start`` to the id ``stop``."""
        page: list[Any] = []
        stop = _text(request.get("stop", ""))
        async for entry in self._spool.listing(_text(request.get("start", ""))):
            if stop and entry.id > stop:
                break
            page.append(pack_entry(entry))
            if len(page) >= PAGE_ENTRIES:
                yield {"entries": page}
                page = []
        if page:
            yield {"entries": page}

    async def _count(self, request: Request) -> AsyncIterator[Answer]:
        yield {"count": await self._spool.count()}

    async def _headers(self, request: Request) -> AsyncIterator[Answer]:
        message = await self._spool.load(_message_id(request))
        if message is not None:
            text = header_file(message)
            for start in range(0, len(text), PAGE_OCTETS):
                yield {"text": text[start : start + PAGE_OCTETS]}

    async def _body(self, request: Request) -> AsyncIterator[Answer]:
        message = await self._spool.load(_message_id(request))
        if message is None:
            return
        yield {"text": f"{message.id}-D\n"}
        async for piece in message.body.chunks():
            text = piece.decode("latin-1")
            for start in range(0, len(text), PAGE_OCTETS):
                yield {"text": text[start : start + PAGE_OCTETS]}

    async def _whole(self, request: Request) -> AsyncIterator[Answer]:
        """The message as it would be sent: header and body."""
        message = await self._spool.load(_message_id(request))
        if message is None:
            return
        text = render(message.headers).decode("latin-1") + "\r\n"
        for start in range(0, len(text), PAGE_OCTETS):
            yield {"text": text[start : start + PAGE_OCTETS]}
        async for piece in message.body.chunks():
            text = piece.decode("latin-1")
            for start in range(0, len(text), PAGE_OCTETS):
                yield {"text": text[start : start + PAGE_OCTETS]}

    async def _log(self, request: Request) -> AsyncIterator[Answer]:
        history = await self._spool.history(_message_id(request))
        if history is not None:
            text = history if history.endswith("\n") or not history else f"{history}\n"
            for start in range(0, max(len(text), 1), PAGE_OCTETS):
                yield {"text": text[start : start + PAGE_OCTETS]}

    async def _remove(self, request: Request) -> AsyncIterator[Answer]:
        id = _message_id(request)
        if self._queue is not None:
            yield {"removed": await _unlocked(id, self._queue.remove(id))}
            return
        message = await self._spool.load(id)
        known = message is not None or await self._spool.history(id) is not None  # quarantined
        await self._spool.remove(id)
        if known and self._log_of_removal is not None:
            self._log_of_removal.main("removed by administrator", id)
            if message is not None:
                self._log_of_removal.completed(message)
        yield {"removed": known}

    async def _freeze(self, request: Request) -> AsyncIterator[Answer]:
        id = _message_id(request)
        yield {"changed": await _unlocked(id, self._server().freeze(id))}

    async def _thaw(self, request: Request) -> AsyncIterator[Answer]:
        id = _message_id(request)
        yield {"changed": await _unlocked(id, self._server().thaw(id))}

    async def _give_up(self, request: Request) -> AsyncIterator[Answer]:
        id = _message_id(request)
        found = await _unlocked(id, self._server().give_up(id))
        yield {"changed": True if found else None}

    async def _edit(self, request: Request) -> AsyncIterator[Answer]:
        id, sender = _message_id(request), request.get("sender")
        if sender is not None:
            sender = _address(sender, empty=True)
        added = [_address(address) for address in _list(request.get("added", []))]
        found = await _unlocked(id, self._server().edit(id, sender=sender, added=added))
        yield {"changed": True if found else None}

    async def _mark(self, request: Request) -> AsyncIterator[Answer]:
        id, wanted = _message_id(request), request.get("addresses")
        addresses = None if wanted is None else [_bare(_text(each)) for each in _list(wanted)]
        unknown = await _unlocked(id, self._server().mark_delivered(id, addresses))
        yield {"changed": None if unknown is None else True, "unknown": unknown or []}

    async def _each(self, request: Request) -> AsyncIterator[Answer]:
        """One change of many messages at once: they share commits.

        ``what`` is remove, freeze, thaw or give_up; ``results`` has, for each of the
        ``messages``, true, false, null for a message that is not here, or a text.
        """
        from twisted.internet.defer import Deferred

        what = request.get("what")
        if what not in _EACH:
            raise BadRequest("unknown request")
        ids = [_message_id({"message": id}) for id in _list(request.get("messages"))]
        work = [Deferred.fromCoroutine(self._one(what, id)) for id in ids]
        yield {"results": [await one for one in work]}

    async def _one(self, what: str, id: str) -> bool | str | None:
        """Change a message of several; what is wrong with one is its result."""
        result: bool | None = None
        try:
            async for piece in self._answers[what]({"message": id}):
                result = piece.get("removed", piece.get("changed"))
        except BadRequest as error:
            return str(error)
        except MailFailure as failure:
            return failure.reason
        return None if what == "remove" and not result else result

    def _server(self) -> IQueueControl:
        if self._queue is None:
            raise BadRequest("no server is running")
        return self._queue

    async def _run(self, request: Request) -> AsyncIterator[Answer]:
        if self._queue is None:
            raise BadRequest("no server is running: deliveries begin when it is started")
        queue = self._queue
        ids = request.get("messages") or None
        if ids is not None and not (
            isinstance(ids, list) and all(isinstance(id, str) and is_message_id(id) for id in ids)
        ):
            raise BadRequest("malformed message id")
        force, frozen = bool(request.get("force")), bool(request.get("frozen"))
        count = await queue.run_now(ids, force=force, frozen=frozen)
        if request.get("wait") and ids is not None:
            await queue.ended(ids)
        yield {"count": count}


async def _unlocked(id: str, change: Awaitable[T]) -> T:
    """Wait for a change of a message.

    :raises BadRequest: it is being delivered.
    """
    try:
        return await change
    except Locked:
        raise BadRequest(f"Message {id} is locked") from None


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest("malformed request")
    return value


def _text(value: object) -> str:
    """Return an octet string of a request."""
    if not isinstance(value, str) or any(ord(character) > 255 for character in value):
        raise BadRequest("malformed request")
    return value


def _address(value: object, *, empty: bool = False) -> str:
    """Return an address of a request that may stand in an envelope.

    It is bare, in angle brackets, or has a name before those; ``empty``: it may be ``<>``.
    """
    text = _text(value)
    if empty and text.strip() == "<>":
        return ""
    try:
        path = parse_path(_bare(text))
    except SyntaxProblem as problem:
        raise BadRequest(f"bad address {problem.text.rstrip()}") from None
    if path.parameters:
        raise BadRequest(f"bad address {text}: malformed")
    if not all(split(path.address)):
        raise BadRequest(f"bad address {text}: domain missing")
    return str(path.address)


def _bare(text: str) -> str:
    """Return the address of ``NAME <ADDRESS>``, and a bare one as it is."""
    if not text.strip() or text.strip() == "<>":
        raise BadRequest(f"bad address {text}: empty address")
    return (address_of(text) if "<" in text else None) or text


def _message_id(request: Request) -> str:
    id = request.get("message")
    if not isinstance(id, str) or not is_message_id(id):
        raise BadRequest("malformed message id")
    return id
