"""Authentication against a real Dovecot: right and wrong logins, its absence and its return."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.trial.unittest import TestCase

from mailsrv.auth.authenticators.dovecot import Dovecot as Driver
from mailsrv.auth.sasl import Authentication
from mailsrv.expansion.scope import Services
from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import AuthResult, AuthStep
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from tests.doubles.log import RecordingLog
from tests.real.dovecot import Dovecot

pytestmark = pytest.mark.real

USERS = {"anna@example.com": "right horse", "bert@example.com": "zwei Wörter"}


def connection() -> Connection:
    return Connection(
        Origin(
            host_address="192.0.2.7",
            host_port=4321,
            interface_address="192.0.2.1",
            interface_port=587,
            tls_cipher="TLS1.3:X:256",
            tls_sni="mail.example\tcom\n",
        )
    )


class DovecotAuthTests(TestCase):
    """One Dovecot for each test, and one kept connection to it."""

    timeout = 60

    def setUp(self) -> None:
        self.dovecot = Dovecot(USERS)
        self.addCleanup(self.dovecot.close)
        self.dovecot.start()
        self.log = RecordingLog()
        self.made: list[Authentication] = []
        self.authentication = self.make()
        self.addCleanup(self.close)

    def make(self) -> Authentication:
        drivers = []
        for mechanism in ("PLAIN", "LOGIN", "NTLM"):
            driver = Driver(f"dovecot_{mechanism.lower()}")
            driver.values = {
                "public_name": mechanism,
                "server_socket": str(self.dovecot.auth_socket),
                "server_set_id": compile_string("$auth1"),
            }
            drivers.append(driver)
        services = Services(reactor, {}, lambda name: None)  # type: ignore[arg-type]
        self.made.append(Authentication(reactor, drivers, services, self.log))
        return self.made[-1]

    def close(self) -> Deferred[None]:
        """Close the connections and give the reactor a turn to say so."""
        for authentication in self.made:
            authentication.close()
        done: Deferred[None] = Deferred()
        reactor.callLater(0, done.callback, None)  # type: ignore[attr-defined]
        return done

    async def auth(self, mechanism: str, *responses: bytes | None) -> AuthStep:
        exchange = await self.authentication.begin(mechanism, connection())
        assert exchange is not None
        for response in responses:
            step = await exchange.step(response)
        return step

    def plain(self, user: str, password: str, authzid: str = "") -> Any:
        return self.auth("PLAIN", f"{authzid}\0{user}\0{password}".encode())

    def test_plain_and_login(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.plain_and_login())

    async def plain_and_login(self) -> None:
        for user, password in USERS.items():
            for step in (
                await self.plain(user, password),
                await self.auth("PLAIN", None, f"\0{user}\0{password}".encode()),
                await self.auth("LOGIN", None, user.encode(), password.encode()),
                await self.auth("LOGIN", user.encode(), password.encode()),
            ):
                self.assertEqual((step.result, step.authenticated_id), (AuthResult.SUCCESS, user))
        step = await self.plain("ANNA@example.com", "right horse")
        self.assertEqual(step.authenticated_id, "anna@example.com")  # Dovecot's word counts

    def test_wrong_logins_look_alike(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.wrong_logins())

    async def wrong_logins(self) -> None:
        for step in (
            await self.plain("anna@example.com", "wrong"),
            await self.plain("nobody@example.com", "wrong"),
            await self.auth("LOGIN", None, b"anna@example.com", b"wrong"),
            await self.plain("anna@example.com", ""),
            await self.auth("LOGIN", None, b"anna@example.com", b""),
            await self.auth("PLAIN", b""),
            await self.auth("PLAIN", b"no nul at all"),
            await self.plain("anna@example.com\tuser=bert@example.com\n", "x\tresp=\nOK\t1"),
        ):
            self.assertEqual((step.result, step.text), (AuthResult.FAILURE, ""), step)
            self.assertNotIn("wrong", step.reason)

    def test_mechanism_that_dovecot_has_not(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.unknown_mechanism())

    async def unknown_mechanism(self) -> None:
        step = await self.auth("NTLM", b"x")
        self.assertEqual(step.result, AuthResult.UNAVAILABLE)
        self.assertIn("does not offer NTLM", step.reason)

    def test_stopped_dovecot_is_454_and_a_started_one_works_again(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.stop_and_start())

    async def stop_and_start(self) -> None:
        right = "anna@example.com", "right horse"
        kept = self.authentication
        socket: Any = kept._auth_socket(str(self.dovecot.auth_socket))
        self.assertEqual((await self.plain(*right)).result, AuthResult.SUCCESS)
        link = socket._link
        self.dovecot.stop()
        self.authentication = self.make()  # kept's connection holds an auth process alive
        step = await self.plain(*right)
        self.assertEqual((step.result, step.authenticated_id), (AuthResult.UNAVAILABLE, ""))
        self.dovecot.users["anna@example.com"] = "new horse"
        self.dovecot.write_users()
        self.dovecot.start()
        for authentication in (self.authentication, kept):
            self.authentication = authentication
            self.assertEqual((await self.plain(*right)).result, AuthResult.FAILURE)
            step = await self.plain("anna@example.com", "new horse")
            self.assertEqual(step.result, AuthResult.SUCCESS)
        self.assertIsNot(socket._link, link)

    def test_a_hundred_logins_at_once_share_one_connection(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.hundred())

    async def hundred(self) -> None:
        socket = self.authentication._auth_socket(str(self.dovecot.auth_socket))
        found: Any = await DeferredList(
            [
                Deferred.fromCoroutine(
                    self.plain("anna@example.com", "right horse" if n % 2 else "wrong")
                )
                for n in range(100)
            ]
        )
        results = [step.result for _, step in found]
        self.assertEqual(results[1::2], [AuthResult.SUCCESS] * 50)
        self.assertEqual(results[0::2], [AuthResult.FAILURE] * 50)
        self.assertEqual(socket._link._last_id, 100)

    def test_wrong_socket_is_named(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.wrong_socket())

    async def wrong_socket(self) -> None:
        driver = Driver("wrong")
        driver.values = {
            "public_name": "PLAIN",
            "server_socket": str(self.dovecot.folder / "run" / "auth-userdb"),
        }
        services = Services(reactor, {}, lambda name: None)  # type: ignore[arg-type]
        self.made.append(Authentication(reactor, [driver], services, self.log))
        self.authentication = self.made[-1]
        started = time.monotonic()
        step = await self.plain("anna@example.com", "right horse")
        self.assertEqual(step.result, AuthResult.UNAVAILABLE)
        self.assertIn("wrong socket type", step.reason)
        self.assertLess(time.monotonic() - started, 15)
