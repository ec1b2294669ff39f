"""Exchanges as Exim 4.96 answers them, with what mailsrv adds: empty passwords and quiet logs."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.auth.authenticator import Authenticator
from mailsrv.auth.authenticators.cram_md5 import CramMd5, digest
from mailsrv.auth.authenticators.cred import Cred
from mailsrv.auth.authenticators.dovecot import Dovecot
from mailsrv.auth.authenticators.external import External
from mailsrv.auth.authenticators.plaintext import Plaintext
from mailsrv.auth.portal import PasswordCredentials
from mailsrv.auth.sasl import FAILURE_SECONDS, Authentication
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Services
from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import AuthResult, AuthStep
from mailsrv.mail.connection import Connection
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted, is_tainted
from tests.auth.fake_dovecot import FakeDovecot
from tests.doubles.log import RecordingLog

EXPANDED = ("server_condition", "server_set_id", "server_prompts", "server_advertise_condition",
            "server_mail_auth_condition")  # fmt: skip
SUCCESS, FAILURE = AuthResult.SUCCESS, AuthResult.FAILURE
UNAVAILABLE, MALFORMED = AuthResult.UNAVAILABLE, AuthResult.MALFORMED
CONDITION = "${if and{{eq{$auth2}{u}}{eq{$auth3}{pass}}}}"


class ExchangeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = RecordingLog()
        self.dovecot = FakeDovecot()
        self.connection = Connection(Origin(host_address="192.0.2.7", host_port=99))

    def driver(self, kind: type[Authenticator], name: str, **options: Any) -> Authenticator:
        driver = kind(name)
        for option, value in options.items():
            driver.values[option] = compile_string(value) if option in EXPANDED else value
        driver.check()
        return driver

    def with_drivers(self, *drivers: Authenticator) -> Authentication:
        services = Services(self.dovecot.reactor, {}, lambda name: None)
        self.auth = Authentication(self.dovecot.reactor, drivers, services, self.log)
        return self.auth

    def plaintext(self, mechanism: str = "PLAIN", **options: Any) -> None:
        options = {"server_prompts": ":", "server_condition": CONDITION, **options}
        self.with_drivers(self.driver(Plaintext, "plain", public_name=mechanism, **options))

    def login(self, **options: Any) -> None:
        condition = "${if and{{eq{$auth1}{u}}{eq{$auth2}{pass}}}}"
        prompts = "Username:: : Password::"
        options = {"server_prompts": prompts, "server_condition": condition, **options}
        self.plaintext("LOGIN", **options)

    def begin(self, mechanism: str = "PLAIN") -> Any:
        return self.successResultOf(
            Deferred.fromCoroutine(self.auth.begin(mechanism, self.connection))
        )

    def step(self, exchange: Any, response: bytes | None) -> AuthStep:
        waiting: Deferred[AuthStep] = Deferred.fromCoroutine(exchange.step(response))
        self.dovecot.reactor.advance(FAILURE_SECONDS)
        return self.successResultOf(waiting)

    def run_all(self, *responses: bytes | None, mechanism: str = "PLAIN") -> AuthStep:
        exchange = self.begin(mechanism)
        for response in responses:
            step = self.step(exchange, response)
        return step

    def result(self, *responses: bytes | None, mechanism: str = "PLAIN") -> AuthResult:
        return self.run_all(*responses, mechanism=mechanism).result

    def advertised(self) -> list[str]:
        return self.successResultOf(Deferred.fromCoroutine(self.auth.advertised(self.connection)))


class CramTests(ExchangeCase):
    def answer(self, secret: bytes) -> AuthStep:
        """Log in as ``u`` with a secret."""
        exchange = self.begin("CRAM-MD5")
        challenge = self.step(exchange, None).challenge
        return self.step(exchange, b"u " + digest(secret, challenge))

    def serve(self, secret: str) -> None:
        options = {"public_name": "CRAM-MD5", "server_secret": compile_string(secret)}
        self.with_drivers(self.driver(CramMd5, "cram", **options))

    def test_secrets(self) -> None:
        self.serve("${if eq{$auth1}{u}{tanstaaf}fail}")
        self.assertEqual(self.answer(b"tanstaaf").result, SUCCESS)
        self.assertEqual(self.answer(b"another").result, FAILURE)

    def test_an_empty_secret_lets_nobody_in(self) -> None:
        """As a lookup without ``fail`` gives it for somebody who does not exist."""
        self.serve("${if eq{$auth1}{joe}{tanstaaf}}")
        self.assertEqual(self.answer(b"").result, FAILURE)


class PlainTests(ExchangeCase):
    def test_with_and_without_initial_response(self) -> None:
        self.plaintext(server_set_id="$auth2")
        step = self.run_all(b"\0u\0pass")
        self.assertEqual((step.result, step.authenticated_id), (SUCCESS, "u"))
        self.assertEqual(step.authenticator, "plain")
        self.assertTrue(is_tainted(step.authenticated_id))
        exchange = self.begin()
        self.assertEqual(self.step(exchange, None), AuthStep(AuthResult.CONTINUE, b""))
        self.assertEqual(self.step(exchange, b"\0u\0pass").result, SUCCESS)

    def test_wrong_ones(self) -> None:
        self.plaintext(server_set_id="$auth2")
        for message in (b"\0u\0x", b"\0x\0pass", b"u", b"", b"\0u", b"u\0pass"):
            with self.subTest(message=message):
                step = self.run_all(message)
                self.assertEqual((step.result, step.text), (FAILURE, ""))
        self.assertEqual(self.run_all(b"\0u\0x").authenticated_id, "u")

    def test_a_password_in_the_wrong_place_is_no_id(self) -> None:
        """A client that forgot a NUL: what stands as the user's name may be its password."""
        self.plaintext(server_set_id="$auth2")
        self.assertEqual(self.run_all(b"u\0pass").authenticated_id, "")
        self.assertEqual(self.run_all(b"\0u\0").authenticated_id, "u")

    def test_more_than_two_nuls_are_malformed(self) -> None:
        self.plaintext()
        self.assertEqual(self.result(b"\0u\0pass\0x"), MALFORMED)

    def test_numbered_variables_are_set_too(self) -> None:
        self.plaintext(server_condition="${if eq{$1/$2/$3}{z/u/pass}}")
        self.assertEqual(self.result(b"z\0u\0pass"), SUCCESS)

    def test_set_id_that_fails_is_ignored(self) -> None:
        for set_id in ("${if eq{1}{2}{x}fail}", "${nonsense}"):
            self.plaintext(server_set_id=set_id)
            step = self.run_all(b"\0u\0pass")
            self.assertEqual((step.result, step.authenticated_id), (SUCCESS, ""))


class FailureTimeTests(ExchangeCase):
    """Whether a user exists cannot be read off a clock."""

    def test_refusals_take_the_same_time(self) -> None:
        self.plaintext(server_condition="${if eq{$auth2}{u}{${if eq{$auth3}{pass}}}fail}")
        for message in (b"\0u\0wrong", b"\0unknown\0x", b"\0u\0"):
            with self.subTest(message=message):
                waiting = Deferred.fromCoroutine(self.begin().step(message))
                self.dovecot.reactor.advance(FAILURE_SECONDS - 0.01)
                self.assertNoResult(waiting)
                self.dovecot.reactor.advance(0.01)
                self.assertEqual(self.successResultOf(waiting).result, FAILURE)

    def test_a_success_does_not_wait(self) -> None:
        self.plaintext()
        waiting = Deferred.fromCoroutine(self.begin().step(b"\0u\0pass"))
        self.assertEqual(self.successResultOf(waiting).result, SUCCESS)

    def test_a_client_that_leaves_ends_the_wait(self) -> None:
        self.plaintext()
        exchange = self.begin()
        waiting = Deferred.fromCoroutine(exchange.step(b"\0u\0wrong"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.dovecot.reactor.getDelayedCalls(), [])


class LoginTests(ExchangeCase):
    def test_prompts(self) -> None:
        self.login(server_set_id="$auth1")
        exchange = self.begin("LOGIN")
        self.assertEqual(self.step(exchange, None).challenge, b"Username:")
        self.assertEqual(self.step(exchange, b"u").challenge, b"Password:")
        step = self.step(exchange, b"pass")
        self.assertEqual((step.result, step.authenticated_id), (SUCCESS, "u"))

    def test_initial_responses(self) -> None:
        self.login()
        self.assertEqual(self.result(b"u", b"pass", mechanism="LOGIN"), SUCCESS)
        self.assertEqual(self.result(b"u\0pass", mechanism="LOGIN"), SUCCESS)
        exchange = self.begin("LOGIN")
        self.assertEqual(self.step(exchange, b"").challenge, b"Password:")  # "=": one empty string
        self.assertEqual(self.step(exchange, b"pass").result, FAILURE)

    def test_prompts_in_general(self) -> None:
        """Prompt n is used only while there are fewer than n strings; empty prompts count."""
        self.plaintext(
            "THREE", server_prompts="A : : C", server_condition="${if eq{$auth1$auth2/$auth3}{a/c}}"
        )
        exchange = self.begin("three")
        self.assertEqual(self.step(exchange, None).challenge, b"A")
        self.assertEqual(self.step(exchange, b"a").challenge, b"")
        self.assertEqual(self.step(exchange, b"").challenge, b"C")
        self.assertEqual(self.step(exchange, b"c").result, SUCCESS)
        exchange = self.begin("THREE")
        self.assertEqual(self.step(exchange, b"a\0").challenge, b"C")
        self.assertEqual(self.step(exchange, b"c").result, SUCCESS)

    def test_prompts_that_cannot_be_expanded(self) -> None:
        self.login(server_prompts="${if eq{1}{2}{x}fail}")
        self.assertEqual(self.result(None, mechanism="LOGIN"), UNAVAILABLE)


class ConditionTests(ExchangeCase):
    def test_truth_values(self) -> None:
        for text, expected in {
            "1": SUCCESS, "yes": SUCCESS, "TRUE": SUCCESS, "": FAILURE, "0": FAILURE,
            "No": FAILURE, "false": FAILURE, "2": UNAVAILABLE, "wait a bit": UNAVAILABLE,
            "${if eq{1}{2}{x}fail}": FAILURE, "${nonsense}": UNAVAILABLE,
        }.items():  # fmt: skip
            with self.subTest(text=text):
                self.plaintext(server_condition=text + "${if eq{$auth3}{}{}}")
                self.assertEqual(self.result(b"\0u\0pass"), expected)

    def test_other_text_is_for_the_client(self) -> None:
        self.plaintext(server_condition="wait a bit")
        step = self.run_all(b"\0u\0pass")
        self.assertEqual(step.text, "Unable to authenticate at present: wait a bit")
        self.plaintext(server_condition="${nonsense}")
        self.assertEqual(self.run_all(b"\0u\0pass").text, "")

    def test_attackers_text_is_not_expanded(self) -> None:
        self.plaintext(server_condition="${if eq{$auth2}{$auth3}}")
        self.assertEqual(self.result(b"\0u\0${if eq{1}{1}{u}}"), FAILURE)

    def test_password_is_in_no_reason(self) -> None:
        self.plaintext(server_condition="secret is $auth3")
        self.assertEqual(self.run_all(b"\0u\0sw0rdfish").reason, "secret is ***")


class EmptyPasswordTests(ExchangeCase):
    """A condition that compares with a failed lookup would let unknown users in."""

    ARTICLE = "${if eq{$auth3}{${if eq{$auth2}{u}{pass}}}}"

    def test_plain(self) -> None:
        self.plaintext(server_condition=self.ARTICLE)
        self.assertEqual(self.result(b"\0u\0pass"), SUCCESS)
        for message in (b"\0nobody\0", b"\0nobody", b"nobody", b""):
            with self.subTest(message=message):
                self.assertEqual(self.result(message), FAILURE)

    def test_can_be_allowed(self) -> None:
        self.plaintext(server_condition=self.ARTICLE, server_allow_empty_password=True)
        self.assertEqual(self.result(b"\0nobody\0"), SUCCESS)

    def test_login(self) -> None:
        self.login(server_condition="${if eq{$auth2}{}}")
        for responses in ((b"u", b""), (b"u\0",), (b"u\0\0x",), (b"u", b"\0x")):
            with self.subTest(responses=responses):
                self.assertEqual(self.result(*responses, mechanism="LOGIN"), FAILURE)

    def test_other_names_by_what_the_condition_mentions(self) -> None:
        self.plaintext("X-PLAIN", server_condition=self.ARTICLE)
        for message in (b"\0nobody\0", b"\0nobody", b"\0nobody\0\0junk"):
            with self.subTest(message=message):
                self.assertEqual(self.result(message, mechanism="X-PLAIN"), FAILURE)
        self.assertEqual(self.result(b"\0u\0pass", mechanism="X-PLAIN"), SUCCESS)
        self.plaintext("TOKEN", server_condition="${if eq{$auth1}{t}}")
        self.assertEqual(self.result(b"t", mechanism="TOKEN"), SUCCESS)
        self.assertEqual(self.result(b"", mechanism="TOKEN"), FAILURE)


class AdvertiseTests(ExchangeCase):
    def test_names_and_conditions(self) -> None:
        condition = {"server_condition": "1"}
        self.with_drivers(
            self.driver(Plaintext, "plain", **condition),
            self.driver(Plaintext, "a", public_name="Login", **condition),
            self.driver(Plaintext, "again", public_name="LOGIN", **condition),
            self.driver(Plaintext, "client only"),
            self.driver(Plaintext, "tls", server_advertise_condition="$tls_in_cipher", **condition),
            self.driver(
                Plaintext,
                "forced",
                server_advertise_condition="${if eq{1}{2}{x}fail}",
                **condition,
            ),
            self.driver(Plaintext, "bad", server_advertise_condition="${if foo}", **condition),
        )
        self.assertEqual(self.advertised(), ["PLAIN", "LOGIN"])
        self.assertEqual(len(self.log.events), 1)
        self.assertIn(
            'failed to expand condition "${if foo}" for bad authenticator: ', self.log.events[0][1]
        )
        for name in ("tls", "forced", "bad", "client only", "nothing"):
            self.assertIsNone(self.begin(name))
        self.connection.origin.tls_cipher = "TLS1.3:X:256"
        self.assertIn("TLS", self.advertised())
        self.assertIsNotNone(self.begin("tls"))

    def test_mail_auth_condition(self) -> None:
        def keeps(condition: str) -> Any:
            self.plaintext(server_mail_auth_condition=condition)
            self.connection.origin.authenticator = "plain"
            return self.successResultOf(
                Deferred.fromCoroutine(self.auth.keeps_mail_auth(self.connection))
            )

        self.assertEqual(
            [keeps(one) for one in ("1", "x", "", "no", "${nonsense}")],
            [True, True, False, False, False],
        )


class CancelTests(ExchangeCase):
    def test_cancel_while_the_client_is_asked(self) -> None:
        self.plaintext()
        exchange = self.begin()
        self.step(exchange, None)
        exchange.cancel()
        self.assertEqual(self.log.events, [])

    def test_cancelled_step_cancels_the_request_to_dovecot(self) -> None:
        self.with_drivers(self.driver(Dovecot, "d", public_name="PLAIN", server_socket="/run/auth"))
        exchange = self.begin()
        waiting = Deferred.fromCoroutine(exchange.step(b"\0u\0p"))
        self.dovecot.accept()
        self.dovecot.said()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.dovecot.said(), [b"CANCEL\t1"])
        self.assertEqual(self.log.events, [])
        self.auth.close()


class DovecotDriverTests(ExchangeCase):
    def use(self, **options: Any) -> None:
        self.addCleanup(lambda: self.auth.close())
        self.with_drivers(
            self.driver(
                Dovecot,
                "d",
                public_name="PLAIN",
                server_socket="/run/auth",
                server_set_id="$auth1",
                **options,
            )
        )

    def answered(self, line: bytes) -> AuthStep:
        done = Deferred.fromCoroutine(self.begin().step(b"\0u\0secret"))
        self.dovecot.accept()
        self.line = self.dovecot.said()[-1]
        self.dovecot.send(line)
        self.dovecot.reactor.advance(FAILURE_SECONDS)
        step: AuthStep = self.successResultOf(done)
        return step

    def test_dovecots_name_counts(self) -> None:
        self.use()
        step = self.answered(b"OK\t1\tuser=u@example\n")
        self.assertEqual((step.result, step.authenticated_id), (SUCCESS, "u@example"))

    def test_condition_is_a_further_test(self) -> None:
        self.use(server_condition="${if eq{$auth1}{good}}")
        self.assertEqual(self.answered(b"OK\t1\tuser=u\n").result, FAILURE)
        self.use(server_condition="${if eq{$auth1}{good}}")
        self.assertEqual(self.answered(b"OK\t1\tuser=good\n").result, SUCCESS)

    def test_refusal_names_the_user(self) -> None:
        self.use()
        step = self.answered(b"FAIL\t1\tuser=u\tcode=user_disabled\treason=gone\n")
        self.assertEqual((step.result, step.authenticated_id), (FAILURE, "u"))
        self.assertIn("gone", step.reason)

    def test_temporary_failure(self) -> None:
        self.use()
        step = self.answered(b"FAIL\t1\tuser=u\ttemp\n")
        self.assertEqual((step.result, step.text), (UNAVAILABLE, ""))

    def test_facts_are_told_truthfully(self) -> None:
        origin = self.connection.origin
        self.use()
        self.answered(b"FAIL\t1\n")
        self.assertIn(b"rip=192.0.2.7", self.line.split(b"\t"))
        self.assertNotIn(b"secured", self.line)
        origin.tls_cipher, origin.tls_sni = "X", "a\tsecured\nAUTH"
        self.use()
        self.answered(b"FAIL\t1\n")
        words = self.line.split(b"\t")
        self.assertIn(b"secured=tls", words)
        self.assertIn(b"local_name=a\x01tsecured\x01nAUTH", words)
        self.assertNotIn(b"valid-client-cert", words)
        self.assertTrue(words[-1].startswith(b"resp="))
        origin.tls_certificate_verified = True
        self.use()
        self.answered(b"FAIL\t1\n")
        self.assertIn(b"valid-client-cert", self.line.split(b"\t"))

    def test_relative_socket_is_found_when_it_is_used(self) -> None:
        driver = Dovecot("d")
        driver.values["server_socket"] = "auth"
        self.assertEqual(len(list(driver.late())), 1)


class CredTests(ExchangeCase):
    def use(self, checker: Any, mechanism: str = "PLAIN") -> None:
        driver = self.driver(Cred, "c", public_name=mechanism, checker="x", server_set_id="$auth2")
        self.patch(Cred, "checker", lambda self, environment: checker)
        self.with_drivers(driver)

    def test_any_checker_of_twisted(self) -> None:
        self.use(InMemoryUsernamePasswordDatabaseDontUse(u=b"pass"))
        step = self.run_all(b"\0u\0pass")
        self.assertEqual((step.result, step.authenticated_id), (SUCCESS, "u"))
        for message in (b"\0u\0x", b"\0x\0pass", b"\0u\0", b""):
            self.assertEqual(self.result(message), FAILURE)

    def test_login(self) -> None:
        self.use(InMemoryUsernamePasswordDatabaseDontUse(u=b"pass"), "LOGIN")
        self.assertEqual(self.result(None, b"u", b"pass", mechanism="LOGIN"), SUCCESS)

    def test_checker_from_its_description(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("u:pass\n")
        self.with_drivers(self.driver(Cred, "c", public_name="PLAIN", checker=f"file:{path}"))
        self.assertEqual(self.result(b"\0u\0pass"), SUCCESS)
        self.assertEqual(self.result(b"\0u\0no"), FAILURE)

    def test_checkers_that_cannot_be(self) -> None:
        for text in ("nonsense", "nonsense:x", "anonymous"):
            with self.subTest(text=text):
                driver = self.driver(Cred, "c", public_name="PLAIN", checker=text)
                self.assertRaises(ConfigError, self.with_drivers, driver)

    def test_broken_checker_costs_454_and_its_text_is_withheld(self) -> None:
        class Broken(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                raise RuntimeError(f"oh {credentials.password!r}")

        self.use(Broken())
        self.assertEqual(self.result(b"\0u\0sw0rdfish"), UNAVAILABLE)
        self.assertEqual(self.log.events, [("panic", "c authenticator")])
        self.assertNotIn("sw0rdfish", repr(self.log.failures))

    def test_anonymous_avatar_is_refused(self) -> None:
        class Anyone(InMemoryUsernamePasswordDatabaseDontUse):
            def requestAvatarId(self, credentials: Any) -> Any:
                return Deferred.fromCoroutine(self.nobody())

            async def nobody(self) -> tuple[()]:
                return ()

        self.use(Anyone())
        self.assertEqual(self.result(b"\0u\0pass"), FAILURE)


class CredentialsTests(SynchronousTestCase):
    def test_password_is_not_shown(self) -> None:
        strings = (Tainted("u"), Tainted("sw0rdfish"))
        credentials = PasswordCredentials(strings, 1, 2, Connection(Origin()))
        self.assertNotIn("sw0rdfish", repr(credentials))
        self.assertTrue(credentials.checkPassword(b"sw0rdfish"))
        self.assertFalse(credentials.checkPassword(b"sw0rdfisH"))


class ExternalTests(ExchangeCase):
    """An identity, with parameters that something else gave (chapter 41)."""

    def external(self, **options: Any) -> None:
        given = {"server_condition": "${if eq{$auth1}{$auth2}}", "server_set_id": "$auth1"}
        driver = External("ext")
        for option, value in {"public_name": "EXTERNAL", **given, **options}.items():
            driver.values[option] = compile_string(value) if option != "public_name" else value
        driver.check()
        self.with_drivers(driver)

    def test_the_identity_is_compared(self) -> None:
        self.external(server_param2="ada")
        step = self.run_all(b"ada", mechanism="EXTERNAL")
        self.assertEqual((step.result, step.authenticated_id), (SUCCESS, "ada"))
        self.assertTrue(is_tainted(step.authenticated_id))
        self.assertEqual(self.result(b"bob", mechanism="EXTERNAL"), FAILURE)

    def test_without_an_initial_response(self) -> None:
        self.external(server_param2="ada", server_param3="x$auth2")
        self.assertEqual(self.result(None, b"ada", mechanism="EXTERNAL"), SUCCESS)

    def test_the_third_alone(self) -> None:
        self.external(server_condition="${if eq{$auth2$auth3}{z}}", server_param3="z")
        self.assertEqual(self.result(b"", mechanism="EXTERNAL"), SUCCESS)

    def test_a_parameter_that_fails(self) -> None:
        self.external(server_param2="${if eq{a}{b}{x}fail}")
        self.assertEqual(self.result(b"ada", mechanism="EXTERNAL"), FAILURE)
        self.external(server_param2="${nosuch:x}")
        self.assertEqual(self.result(b"ada", mechanism="EXTERNAL"), UNAVAILABLE)
