"""The checker behind ``cram_md5``: it asks the client itself (RFC 2195, specification 35.1)."""

from __future__ import annotations

import hmac
import os
import time
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsrv.auth.authenticators.cram_md5 import digest
from mailsrv.auth.checkers.condition import with_strings
from mailsrv.auth.portal import DialogueCredentials, IMechanismDialogue, MailUser, Refused
from mailsrv.expansion.errors import ForcedFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.expansion.template import Template
from mailsrv.mail.taint import tainted
from mailsrv.wire.sasl import SaslError


@implementer(ICredentialsChecker)
class CramChecker:
    """Compares the client's digest with that of the expanded ``server_secret``."""

    credentialInterfaces = (IMechanismDialogue,)

    def __init__(self, secret: Template, services: Services) -> None:
        self._secret = secret
        self._services = services

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the :class:`MailUser`; fails with ``Refused``, ``SaslError`` or a deferral."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: DialogueCredentials) -> MailUser:
        dialogue = credentials.dialogue
        if dialogue.initial is not None:
            raise SaslError("CRAM-MD5 has no initial response")
        host = self._services.settings.get("primary_hostname", "localhost")
        challenge = f"<{os.urandom(8).hex()}.{int(time.time())}@{host}>".encode("latin-1")
        response = await dialogue.ask(challenge)
        name, blank, theirs = response.rpartition(b" ")
        if not blank:
            raise SaslError("malformed CRAM-MD5 response")
        user = tainted(name)
        connection = dialogue.connection
        scope = Scope(self._services, connection=connection, origin=connection.origin)
        try:
            secret = await self._secret.expand(with_strings(scope, (user,)))
        except ForcedFailure:
            raise Refused("no such user", (user,)) from None
        if not secret:  # what a lookup gives for an unknown user: anybody knows it
            raise Refused("empty secret", (user,))
        if not hmac.compare_digest(digest(secret.encode("latin-1"), challenge), theirs.lower()):
            raise Refused("", (user,))
        return MailUser(user)
