"""The checker that asks Dovecot: it carries the mechanism's messages between client and Dovecot."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsrv.auth.authsocket import AuthSocket
from mailsrv.auth.portal import DialogueCredentials, IMechanismDialogue, MailUser
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted


@implementer(ICredentialsChecker)
class DovecotChecker:
    """Judges any mechanism by Dovecot's word."""

    credentialInterfaces = (IMechanismDialogue,)

    def __init__(self, socket: AuthSocket) -> None:
        self._socket = socket

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the :class:`MailUser`; fails with ``Refused`` or :class:`TemporaryFailure`."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: DialogueCredentials) -> MailUser:
        dialogue = credentials.dialogue
        fields = await self._socket.login(
            credentials.mechanism,
            parameters(dialogue.connection.origin),
            dialogue.initial,
            dialogue.ask,
        )
        return MailUser(Tainted(fields["user"]), fields)


def parameters(origin: Origin) -> list[tuple[str, str | None]]:
    """Return what Dovecot is told of a client, truthfully (specification chapter 37).

    ``secured`` means TLS, or a client on this very host; a certificate counts
    only if it was verified.
    """
    found: list[tuple[str, str | None]] = [("service", "smtp"), ("nologin", None)]
    if origin.host_address:
        found.append(("rip", origin.host_address))
        found.append(("rport", str(origin.host_port)))
    if origin.interface_address:
        found.append(("lip", origin.interface_address))
        found.append(("lport", str(origin.interface_port)))
    found.append(("session", secrets.token_hex(8)))
    if origin.tls_cipher:
        found.append(("secured", "tls"))
        if origin.tls_sni:
            found.append(("local_name", origin.tls_sni))
        if origin.tls_certificate_verified:
            found.append(("valid-client-cert", None))
    elif origin.host_address and origin.host_address == origin.interface_address:
        found.append(("secured", None))
    return found
