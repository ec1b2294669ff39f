"""The ``twisted.cred`` side of authentication: credentials, avatar and realm.

Any ``ICredentialsChecker`` for ``IUsernamePassword`` can judge a
:class:`PasswordCredentials`; what checks of mailsrv's own need beyond name and
password (the other strings, the connection's facts) is on the same object.
:class:`DialogueCredentials` are for a checker that talks to the client itself.

No ``repr`` and no exception here shows a password.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from zope.interface import Attribute, Interface, implementer

from mailsrv.auth.authenticator import Dialogue
from mailsrv.mail.connection import Connection
from mailsrv.mail.taint import Tainted, tainted


class Refused(UnauthorizedLogin):
    """The login is refused.

    ``reason`` is for the log; ``strings`` are ``$auth1`` … as far as they are known.
    """

    def __init__(self, reason: str, strings: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.strings = strings


class IPasswordStrings(IUsernamePassword):
    """Name and password with the strings they came in (specification 34.3)."""

    strings = Attribute("the client's strings, $auth1 and on, as tainted octet strings")
    connection = Attribute("the mailsrv.mail.connection.Connection of the client")


class IMechanismDialogue(ICredentials):
    """A mechanism whose messages the checker exchanges with the client itself."""

    mechanism = Attribute("the mechanism's name, upper case")
    dialogue = Attribute("the mailsrv.auth.authenticator.Dialogue with the client")


@implementer(IPasswordStrings)
class PasswordCredentials:
    """What a PLAIN, LOGIN or similar exchange brought."""

    def __init__(
        self, strings: tuple[Tainted, ...], user: int, password: int, connection: Connection
    ) -> None:
        self.strings = strings
        self.connection = connection
        self.username = _octets(strings, user)
        self.password = _octets(strings, password)

    def checkPassword(self, password: bytes) -> bool:
        """Compare with a known password, in time that does not depend on where they differ."""
        return hmac.compare_digest(self.password, password)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.username!r}>"


@implementer(IMechanismDialogue)
@dataclass(frozen=True, slots=True)
class DialogueCredentials:
    """A dialogue that the checker takes over."""

    mechanism: str
    dialogue: Dialogue = field(repr=False)


class IMailUser(Interface):
    """Who logged in."""

    user = Attribute("the name that the checker confirmed")
    fields = Attribute("what else the checker knows of the user, by name")


@implementer(IMailUser)
@dataclass(frozen=True, slots=True)
class MailUser:
    """The avatar; our own checkers return it as the avatar's id."""

    user: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


@implementer(IRealm)
class MailRealm:
    """Turns what a checker returned into a :class:`MailUser`."""

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        """Return the avatar; an empty id (an anonymous login) is refused."""
        if IMailUser not in interfaces:
            raise NotImplementedError("this realm knows IMailUser only")
        if isinstance(avatarId, MailUser):
            user = avatarId
        elif isinstance(avatarId, bytes) and avatarId:
            user = MailUser(tainted(avatarId))
        elif isinstance(avatarId, str) and avatarId:
            user = MailUser(tainted(avatarId.encode("utf-8")))
        else:
            raise Refused("anonymous login")
        return IMailUser, user, lambda: None


def portal_for(checker: ICredentialsChecker) -> Portal:
    """Return a portal whose only checker is ``checker``."""
    realm: Any = MailRealm()
    return Portal(realm, [checker])


def _octets(strings: tuple[Tainted, ...], number: int) -> bytes:
    """Return the string that is counted from 1, or none at all."""
    return strings[number - 1].encode("latin-1") if number <= len(strings) else b""
