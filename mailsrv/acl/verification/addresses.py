"""``verify = recipient``, ``sender``, ``header_sender``: can the address be routed (44.45)?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailsrv.acl.model import Undecided
from mailsrv.acl.verification.callout import CalloutOptions, passes, told
from mailsrv.acl.verification.mailboxes import mailboxes
from mailsrv.interfaces import Routed
from mailsrv.mail.status import Status

if TYPE_CHECKING:
    from mailsrv.acl.evaluation import Evaluation

_USUAL = ((550, 1, 1), (451, 3, 0), (550, 0, 0), (451, 0, 0))


async def recipient(
    run: Evaluation, value: str, options: frozenset[str], callout: CalloutOptions | None
) -> bool:
    """The recipient in hand can be routed; its ``$address_data`` is routing's last."""
    subject = run.scope.address
    assert subject is not None, "the RCPT ACL has a recipient"
    routed = await run.verifier.verify(subject.address, run.connection)
    if routed.addresses:
        subject.address_data = routed.addresses[0].address_data
    if routed.status is None:
        refused = await passes(run, routed, callout, sender=False)
        if refused is None:
            return True
        run.give(recipient_verify_failure=refused.what)
        run.explain(told(refused, sender=False), refused.reason)
        return False
    if routed.status.temporary:
        if "defer_ok" in options:
            return True
        raise Undecided(_spoken(routed.status), routed.reason or routed.status.text)
    run.give(recipient_verify_failure="route")
    run.explain(_spoken(routed.status), routed.reason)
    return False


def _spoken(status: Status) -> str:
    """Return the text of a status, behind its codes if a redirection chose them (22.6)."""
    if (status.code, status.subject, status.detail) in _USUAL:
        return status.text
    return f"{status.code} {status.enhanced} {status.text}"


async def sender(
    run: Evaluation, value: str, options: frozenset[str], callout: CalloutOptions | None
) -> bool:
    """The reverse-path, or the address given, can be routed; true for the null sender."""
    address = value or run.transaction.sender
    if not address:
        return True
    routed = await _verified_sender(run, address)
    if routed.addresses:
        run.give(sender_address_data=routed.addresses[0].address_data)
    if routed.status is None:
        refused = await passes(run, routed, callout, sender=True)
        if refused is None:
            return True
        _keep_details(run, address, told(refused, sender=True), options)
        run.give(sender_verify_failure=refused.what)
        run.explain("Sender verify failed")
        return False
    why = routed.reason or routed.status.text
    if routed.status.temporary:
        if "defer_ok" in options:
            return True
        if run.log.selected("sender_verify_fail"):
            run.warn(f"sender verify defer for <{address}>: {why}")
        raise Undecided(log="Could not complete sender verify")
    _keep_details(run, address, routed.status.text, options)
    run.give(sender_verify_failure="route")
    run.explain("Sender verify failed")
    return False


async def _verified_sender(run: Evaluation, address: str) -> Routed:
    """Route a sender, once a message."""
    answers = run.memory.setdefault("verified senders", {})
    assert isinstance(answers, dict)
    routed = answers.get(address)
    if not isinstance(routed, Routed):
        routed = await run.verifier.verify(address, run.connection, as_sender=True)
        answers[address] = routed
    return routed


def _keep_details(run: Evaluation, address: str, why: str, options: frozenset[str]) -> None:
    """Keep what the next refusal tells of the failure, once for each address (44.50)."""
    told = run.memory.setdefault("told senders", set())
    assert isinstance(told, set)
    if "no_details" not in options and address not in told:
        told.add(address)
        run.memory["sender verify details"] = (address, why)


async def header_sender(
    run: Evaluation, value: str, options: frozenset[str], callout: CalloutOptions | None
) -> bool:
    """Sender:, Reply-To: or From: has an address that verifies as a sender."""
    deferred = ""
    for name in ("Sender", "Reply-To", "From"):
        for header in run.transaction.headers:
            if not header.called(name):
                continue
            for address in mailboxes(header.value).addresses:
                routed = await _verified_sender(run, address)
                if routed.status is None:
                    if await passes(run, routed, callout, sender=True) is None:
                        return True
                    continue
                if routed.status.temporary:
                    deferred = routed.reason or routed.status.text
    if deferred:
        if "defer_ok" in options:
            return True
        raise Undecided(log=deferred)
    run.explain("", "there is no valid sender in any header line")
    return False
