"""The reactor's turn without what nobody reads.

Twisted calls each socket within a logging context of its own, so that lines which
code below writes to Twisted's log say for whom.  mailsrv writes its own log; nine
calls for each event are saved.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

_USED = ("_poller", "_selectables", "_doReadOrWrite")  # not public: a Twisted may be without


def poll_plainly(reactor: Any) -> None:
    """Let an epoll reactor call its sockets directly from now on; others stay as they are."""
    if type(reactor) is EPollReactor and all(hasattr(reactor, name) for name in _USED):
        vars(reactor)["doIteration"] = partial(_turn, reactor)


def _turn(reactor: Any, timeout: float | None) -> None:
    """As ``EPollReactor.doPoll``; what a socket raises ends its connection (``_doReadOrWrite``)."""
    known = reactor._selectables
    try:
        events = reactor._poller.poll(-1 if timeout is None else timeout, len(known))
    except OSError as error:
        if error.errno == errno.EINTR:
            return
        raise
    for descriptor, event in events:
        selectable = known.get(descriptor)
        if selectable is None:  # an event before has closed it
            continue
        try:
            reactor._doReadOrWrite(selectable, descriptor, event)
        except Exception:
            log.err()
