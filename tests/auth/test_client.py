"""Authenticators as a client uses them: what is sent, and what is tried."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.auth.authenticator import Authenticator
from mailsrv.auth.authenticators.cram_md5 import CramMd5
from mailsrv.auth.authenticators.plaintext import Plaintext
from mailsrv.auth.client import ClientAuthentication, with_nuls
from mailsrv.auth.sasl import Authentication
from mailsrv.errors import Position, TemporaryFailure
from mailsrv.expansion.scope import Scope, Services
from mailsrv.interfaces import AuthResult, IClientExchange
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from tests.doubles.log import RecordingLog

WHERE = Position("test.conf", 1)
SERVICES = Services(Clock(), {"primary_hostname": "me.example"}, lambda name: None)


def made(kind: type[Authenticator], name: str = "a", **settings: str) -> Any:
    authenticator = kind(name, WHERE)
    for key, text in settings.items():
        authenticator.values[key] = kind.options()[key].type.parse(text, WHERE)
    authenticator.check()
    return authenticator


def run(work: Coroutine[Any, Any, Any]) -> Any:
    done: list[Any] = []
    failed: list[Any] = []
    Deferred.fromCoroutine(work).addCallbacks(done.append, failed.append)
    if failed:
        failed[0].raiseException()
    return done[0]


def attempts(
    offered: Sequence[str], *authenticators: Any, **values: str
) -> Sequence[IClientExchange]:
    scope = Scope(SERVICES, values=values)
    found: Sequence[IClientExchange] = run(
        ClientAuthentication(authenticators).attempts(offered, scope)
    )
    return found


def plain(send: str, name: str = "PLAIN", **settings: str) -> Any:
    return made(Plaintext, name.lower(), public_name=name, client_send=send, **settings)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("^user^pass", b"\0user\0pass"), ("a^^b", b"a^b"), ("^u^p^^w", b"\0u\0p^w"), ("", b"")],
)
def test_circumflexes(text: str, octets: bytes) -> None:
    assert with_nuls(text) == octets


def test_plain_goes_with_the_command() -> None:
    (exchange,) = attempts(["PLAIN"], plain("^user^pass"))
    assert run(exchange.initial()) == b"\0user\0pass"
    assert run(exchange.respond(b"")) is None


def test_login_answers_prompts() -> None:
    (exchange,) = attempts(["LOGIN"], plain(": me@x.example : ${auth2}secret", "LOGIN"))
    assert run(exchange.initial()) is None
    assert run(exchange.respond(b"Username:")) == b"me@x.example"
    assert run(exchange.respond(b"Password:")) == b"Password:secret"
    assert run(exchange.respond(b"More:")) is None


def test_what_is_tried() -> None:
    """Offered names in any case, in the configuration's order, if the condition holds."""
    one = plain("^a^b", "PLAIN", client_condition="${if def:tls_out_cipher}")
    two = plain(": a : b", "LOGIN")
    server = made(Plaintext, "s", public_name="PLAIN", server_condition="yes")
    assert [e.name for e in attempts(["login", "plain"], one, two, server)] == ["login"]
    found = attempts(["login", "plain"], one, two, server, tls_out_cipher="x")
    assert [e.name for e in found] == ["plain", "login"]
    assert attempts(["CRAM-MD5"], one, two) == []


def test_forced_failure_skips_and_another_defers() -> None:
    skipped = plain("${if eq{$host}{a}{^u^p}fail}")
    assert attempts(["PLAIN"], skipped, host="b") == []
    assert len(attempts(["PLAIN"], skipped, host="a")) == 1
    with pytest.raises(TemporaryFailure):
        attempts(["PLAIN"], plain("${bad"))


def test_identity_for_the_log() -> None:
    (exchange,) = attempts(["PLAIN"], plain("^u^p", client_set_id="me at $host"), host="h")
    assert run(exchange.identity()) == "me at h"
    (exchange,) = attempts(["PLAIN"], plain("^u^p"))
    assert run(exchange.identity()) == ""


# --- CRAM-MD5 ------------------------------------------------------------------


def cram(**settings: str) -> Any:
    return made(CramMd5, "c", public_name="CRAM-MD5", **settings)


def test_the_digest_of_the_rfc() -> None:
    """The example of RFC 2195."""
    (exchange,) = attempts(["CRAM-MD5"], cram(client_name="tim", client_secret="tanstaaftanstaaf"))
    assert run(exchange.initial()) is None
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert run(exchange.respond(challenge)) == b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert run(exchange.respond(challenge)) is None


def test_a_secret_is_needed() -> None:
    assert list(cram(client_name="x").late())


def server_says(client: Any, server: Any) -> tuple[AuthResult, str, list[str]]:
    """Let our client log in at our server; result, set_id, and the server's log."""
    log = RecordingLog()
    clock = Clock()
    authentication = Authentication(clock, [server], SERVICES, log)
    connection = Connection(Origin(host_address="192.0.2.1"))

    async def converse() -> tuple[AuthResult, str]:
        (offered,) = await authentication.advertised(connection)
        (ours,) = await ClientAuthentication([client]).attempts([offered], Scope(SERVICES))
        theirs = await authentication.begin(offered, connection)
        assert theirs is not None
        step = await theirs.step(await ours.initial())
        while step.result is AuthResult.CONTINUE:
            step = await theirs.step(await ours.respond(step.challenge))
        return step.result, step.authenticated_id

    done: list[Any] = []
    Deferred.fromCoroutine(converse()).addBoth(done.append)
    clock.advance(1)
    return (*done[0], [])


def test_client_and_server_meet() -> None:
    server = cram(server_secret="${if eq{$auth1}{tim}{sesame}fail}", server_set_id="$auth1")
    right = cram(client_name="tim", client_secret="sesame")
    assert server_says(right, server)[:2] == (AuthResult.SUCCESS, "tim")
    for name, secret in (("tim", "wrong"), ("tom", "sesame"), ("tim", "")):
        wrong = cram(client_name=name, client_secret=secret)
        assert server_says(wrong, server)[0] is AuthResult.FAILURE
    broken = cram(server_secret="${lookup", server_set_id="$auth1")
    assert server_says(right, broken)[0] is AuthResult.UNAVAILABLE
