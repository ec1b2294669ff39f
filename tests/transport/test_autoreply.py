"""A transport that is taken, and defers what reaches it."""

from __future__ import annotations

from mailsrv.mail.routed import Result
from mailsrv.transport.transports.autoreply import Autoreply
from tests.transport.helpers import World, make, message, routed


def test_it_defers_and_says_so_at_the_start() -> None:
    transport = make(Autoreply, to="$sender_address", text="gone")
    transport.driver = "autoreply"
    (fault,) = transport.late()
    assert "known to Exim, not to mailsrv" in fault.problem
    (outcome,) = World(transport).deliver(message(), routed("a@e"))
    assert outcome.result is Result.DEFERRED and "not built" in outcome.reason
