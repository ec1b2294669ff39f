"""One connection to Dovecot carries many logins; its faults cost a 454 and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.auth.authsocket import AuthSocket
from mailsrv.auth.portal import Refused
from mailsrv.errors import TemporaryFailure
from tests.auth.fake_dovecot import HANDSHAKE, FakeDovecot
from tests.doubles.log import RecordingLog

Login = Deferred[Mapping[str, str]]


class AuthSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dovecot = FakeDovecot()
        self.log = RecordingLog()
        self.socket = AuthSocket(self.dovecot.reactor, "/run/auth", self.log)
        self.asked: list[bytes] = []
        self.client: Deferred[bytes] = Deferred()  # the client's next response
        self.addCleanup(self.socket.close)

    async def ask(self, challenge: bytes) -> bytes:
        self.asked.append(challenge)
        return await self.client

    def login(self, mechanism: str = "PLAIN", initial: bytes | None = b"\0u\0secret") -> Login:
        return Deferred.fromCoroutine(
            self.socket.login(mechanism, [("service", "smtp")], initial, self.ask)
        )

    def connected(self) -> Login:
        """A login that was sent on a connection that stands."""
        login = self.login()
        self.dovecot.accept()
        self.dovecot.said()
        return login

    def reason_of(self, login: Login) -> str:
        failure: Any = self.failureResultOf(login, TemporaryFailure)
        return str(failure.value.reason)

    def logged(self) -> str:
        return "\n".join(text for _, text in self.log.events)

    # --- handshake ---

    def test_client_speaks_first_and_login_waits_for_the_handshake(self) -> None:
        """Servers from 2.4 on send their list only after the client's VERSION."""
        login = self.login()
        self.dovecot.accept(b"VERSION\t1\t2\n")
        hello = self.dovecot.said()
        self.assertEqual(hello[0], b"VERSION\t1\t2")
        self.assertEqual(hello[1].split(b"\t")[0], b"CPID")
        self.assertNoResult(login)
        self.dovecot.send(HANDSHAKE.partition(b"\n")[2])
        self.assertEqual(self.dovecot.said(), [b"AUTH\t1\tPLAIN\tservice=smtp\tresp=AHUAc2VjcmV0"])
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)

    def test_handshake_may_be_cut_anywhere(self) -> None:
        for cut in range(len(HANDSHAKE)):
            self.setUp()
            login = self.login()
            self.dovecot.accept(HANDSHAKE[:cut])
            self.dovecot.send(HANDSHAKE[cut:])
            self.dovecot.send(b"OK\t1\tuser=u\n")
            self.assertEqual(self.successResultOf(login), {"user": "u"})

    def test_wrong_socket_type_is_named(self) -> None:
        login = self.login()
        self.dovecot.accept(b"VERSION\t1\t2\nSPID\t10\n")
        self.dovecot.reactor.advance(9.9)
        self.assertNoResult(login)
        self.dovecot.reactor.advance(0.2)
        self.assertIn("wrong socket type", self.reason_of(login))

    def test_wrong_socket_type_that_closes_is_named(self) -> None:
        login = self.login()
        self.dovecot.accept(b"VERSION\t1\t2\nSPID\t10\n")
        self.dovecot.lose()
        self.assertIn("wrong socket type", self.reason_of(login))

    def test_silent_server_times_out(self) -> None:
        login = self.login()
        self.dovecot.accept(b"")
        self.dovecot.reactor.advance(10.1)
        self.assertIn("no handshake in time", self.reason_of(login))

    def test_unknown_version_and_nonsense_are_refused(self) -> None:
        for greeting in (b"VERSION\t2\t0\n", b"VERSION\tx\n", b"DONE\n", b"x" * 20000):
            with self.subTest(greeting=greeting[:20]):
                self.setUp()
                login = self.login()
                self.dovecot.accept(greeting)
                self.failureResultOf(login, TemporaryFailure)
                self.assertTrue(self.dovecot.transport.disconnecting)

    def test_mechanism_that_is_not_offered(self) -> None:
        login = self.login("SCRAM-SHA-256")
        self.dovecot.accept()
        self.assertIn("does not offer SCRAM-SHA-256", self.reason_of(login))

    def test_refused_connection(self) -> None:
        """A fresh connection that cannot be made is not tried again: 454 at once."""
        login = self.login()
        self.dovecot.refuse()
        self.assertIn("cannot connect", self.reason_of(login))
        self.assertEqual(self.dovecot.attempts, 1)
        later = self.login()
        self.dovecot.accept()
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(later)

    # --- outcomes ---

    def test_success_gives_the_fields(self) -> None:
        login = self.connected()
        self.dovecot.send(b"OK\t1\tuser=real\x01tname\tquota=1\n")
        self.assertEqual(self.successResultOf(login), {"user": "real\tname", "quota": "1"})

    def test_success_without_user_is_no_success(self) -> None:
        for line in (b"OK\t1\n", b"OK\t1\tuser=\n"):
            self.setUp()
            login = self.connected()
            self.dovecot.send(line)
            self.failureResultOf(login, TemporaryFailure)

    def test_refusals(self) -> None:
        for code in (b"", b"\tcode=authz_fail", b"\tcode=user_disabled", b"\tcode=pass_expired"):
            with self.subTest(code=code):
                self.setUp()
                login = self.connected()
                self.dovecot.send(b"FAIL\t1\tuser=u" + code + b"\treason=why\n")
                refused: Any = self.failureResultOf(login, Refused).value
                self.assertEqual(refused.strings, ("u",))
                self.assertIn("why", refused.reason)

    def test_temporary_failures(self) -> None:
        for code in (b"\ttemp", b"\tcode=temp_fail"):
            with self.subTest(code=code):
                self.setUp()
                login = self.connected()
                self.dovecot.send(b"FAIL\t1\tuser=u" + code + b"\n")
                self.failureResultOf(login, TemporaryFailure)

    def test_challenges_go_to_the_client_and_back(self) -> None:
        login = self.login("CRAM-MD5", None)
        self.dovecot.accept()
        self.assertEqual(self.dovecot.said()[-1], b"AUTH\t1\tCRAM-MD5\tservice=smtp")
        self.dovecot.send(b"CONT\t1\tPDE+\n")
        self.assertEqual(self.asked, [b"<1>"])
        self.client.callback(b"u digest")
        self.assertEqual(self.dovecot.said(), [b"CONT\t1\tdSBkaWdlc3Q="])
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)

    # --- many logins ---

    def test_many_logins_share_a_connection_and_answers_find_theirs(self) -> None:
        logins = [self.login() for _ in range(100)]
        self.assertEqual(self.dovecot.attempts, 1)
        self.dovecot.accept()
        ids = [int(line.split(b"\t")[1]) for line in self.dovecot.said()[2:]]
        self.assertEqual(len(set(ids)), 100)
        for id in reversed(ids):
            self.dovecot.send(b"OK\t%d\tuser=u%d\n" % (id, id))
        for id, login in zip(ids, logins, strict=True):
            self.assertEqual(self.successResultOf(login)["user"], f"u{id}")
        self.assertEqual(self.dovecot.attempts, 1)

    def test_unknown_id_is_ignored_and_logged_some_times(self) -> None:
        login = self.connected()
        self.dovecot.send(b"OK\t77\tuser=evil\n" * 50)
        self.assertNoResult(login)
        self.assertIn("unknown request 77", self.logged())
        self.assertLessEqual(len(self.log.events), 10)
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.assertEqual(self.successResultOf(login)["user"], "u")

    # --- faults ---

    def test_restart_before_any_answer_is_tried_once_more(self) -> None:
        login = self.connected()
        self.dovecot.lose()
        self.assertNoResult(login)
        self.assertEqual(self.dovecot.attempts, 2)
        self.dovecot.accept()
        self.assertEqual(self.dovecot.said()[-1].split(b"\t")[0], b"AUTH")
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)

    def test_second_loss_is_a_temporary_failure(self) -> None:
        login = self.connected()
        self.dovecot.lose()
        self.dovecot.accept()
        self.dovecot.lose()
        self.failureResultOf(login, TemporaryFailure)
        self.assertEqual(self.dovecot.attempts, 2)

    def test_loss_and_refusal_is_a_temporary_failure(self) -> None:
        login = self.connected()
        self.dovecot.lose()
        self.dovecot.refuse()
        self.failureResultOf(login, TemporaryFailure)

    def test_loss_after_a_challenge_is_not_repeated(self) -> None:
        for answered in (True, False):
            self.setUp()
            login = self.connected()
            self.dovecot.send(b"CONT\t1\t\n")
            if answered:
                self.client.callback(b"\0u\0p")
            self.dovecot.lose()
            if not answered:
                self.client.callback(b"\0u\0p")
            self.failureResultOf(login, TemporaryFailure)
            self.assertEqual(self.dovecot.attempts, 1)

    def test_idle_loss_is_silent_and_next_login_connects_anew(self) -> None:
        login = self.connected()
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)
        self.dovecot.lose()
        self.assertEqual(self.log.events, [])
        again = self.login()
        self.assertEqual(self.dovecot.attempts, 2)
        self.dovecot.accept()
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(again)

    def test_no_answer_in_time_cancels_the_request(self) -> None:
        login = self.connected()
        self.dovecot.reactor.advance(30.1)
        self.assertIn("no answer in time", self.reason_of(login))
        self.assertEqual(self.dovecot.said(), [b"CANCEL\t1"])

    def test_client_that_leaves_cancels_its_request_only(self) -> None:
        login, other = self.connected(), self.login()
        self.dovecot.said()
        login.cancel()
        self.failureResultOf(login, CancelledError)
        self.assertEqual(self.dovecot.said(), [b"CANCEL\t1"])
        self.dovecot.send(b"FAIL\t1\tuser=u\nOK\t2\tuser=u\n")
        self.successResultOf(other)
        self.assertEqual(self.log.events, [])

    def test_client_that_leaves_before_the_connection_stands(self) -> None:
        login, other = self.login(), self.login()
        login.cancel()
        self.failureResultOf(login, CancelledError)
        self.dovecot.accept()
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(other)

    def test_challenge_out_of_turn_fails_that_login_only(self) -> None:
        login, other = self.connected(), self.login()
        self.dovecot.send(b"CONT\t1\t\n" * 100)
        self.client.callback(b"\0u\0p")
        self.failureResultOf(login, TemporaryFailure)
        self.dovecot.send(b"OK\t2\tuser=u\n")
        self.successResultOf(other)

    def test_success_before_the_client_spoke_is_no_success(self) -> None:
        login = self.connected()
        self.dovecot.send(b"CONT\t1\t\nOK\t1\tuser=u\n")
        self.client.callback(b"\0u\0p")
        self.failureResultOf(login, TemporaryFailure)

    def test_refusal_while_the_client_thinks_is_kept(self) -> None:
        login = self.connected()
        self.dovecot.send(b"CONT\t1\t\nFAIL\t1\treason=slow\n")
        self.client.callback(b"\0u\0p")
        self.failureResultOf(login, Refused)

    def test_endless_challenges_end(self) -> None:
        login = self.connected()
        self.client.callback(b"x")
        client, rounds = self.client, 0
        while not login.called and rounds < 100:
            self.client = client = Deferred()
            client.callback(b"x")
            self.dovecot.send(b"CONT\t1\t\n")
            rounds += 1
        self.failureResultOf(login, TemporaryFailure)
        self.assertLess(rounds, 30)
        self.assertEqual(self.dovecot.said()[-1], b"CANCEL\t1")

    def test_malformed_line_closes_and_logins_fail_for_now(self) -> None:
        """The connection is of no more use; a login without an answer goes to a new one."""
        login = self.connected()
        self.dovecot.send(b"OK\tx\n")
        self.assertTrue(self.dovecot.transport.disconnecting)
        self.dovecot.accept(b"VERSION\t1\t2\nOK\tx\n")
        self.failureResultOf(login, TemporaryFailure)

    def test_over_long_message_is_refused(self) -> None:
        login = self.login(initial=b"x" * 16000)
        self.dovecot.accept()
        self.assertIn("too long", self.reason_of(login))

    def test_close_fails_what_waits(self) -> None:
        waiting = self.login()
        self.socket.close()
        self.failureResultOf(waiting, TemporaryFailure)

    def test_close_is_for_good(self) -> None:
        login = self.connected()
        self.socket.close()
        self.failureResultOf(login, TemporaryFailure)
        self.failureResultOf(self.login(), TemporaryFailure)
        self.assertEqual(self.dovecot.attempts, 1)

    def test_close_in_the_handshake(self) -> None:
        waiting = self.login()
        self.dovecot.accept(b"VERSION\t1\t2\n")
        self.socket.close()
        self.failureResultOf(waiting, TemporaryFailure)
        self.assertTrue(self.dovecot.transport.disconnecting)
        self.assertEqual(self.dovecot.reactor.getDelayedCalls(), [])

    def test_idle_connection_is_closed_and_leaves_no_timer(self) -> None:
        login = self.connected()
        self.dovecot.reactor.advance(20)
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)
        self.dovecot.reactor.advance(59)
        self.assertFalse(self.dovecot.transport.disconnecting)
        self.dovecot.reactor.advance(1)
        self.assertTrue(self.dovecot.transport.disconnecting)
        self.assertEqual(self.dovecot.reactor.getDelayedCalls(), [])

    def test_connection_is_not_idle_while_a_client_thinks(self) -> None:
        login, other = self.connected(), self.login()
        self.dovecot.send(b"OK\t2\tuser=u\nCONT\t1\t\n")
        self.successResultOf(other)
        self.dovecot.reactor.advance(100)
        self.assertFalse(self.dovecot.transport.disconnecting)
        self.client.callback(b"\0u\0p")
        self.dovecot.send(b"OK\t1\tuser=u\n")
        self.successResultOf(login)

    def test_socket_made_anew_is_connected_anew_and_old_logins_end_in_peace(self) -> None:
        """A Dovecot that was restarted may have left its old auth process alive."""
        folder = tempfile.mkdtemp()  # a socket's path is short
        self.addCleanup(shutil.rmtree, folder)
        path = os.path.join(folder, "auth")
        with open(path, "w"):
            self.socket.path = path
        old = self.connected()
        link, transport = self.dovecot.protocol, self.dovecot.transport
        os.rename(path, path + ".old")
        with open(path, "w"):
            new = self.login()
        self.dovecot.accept()
        self.assertFalse(transport.disconnecting)
        link.dataReceived(b"OK\t1\tuser=old\n")
        self.dovecot.send(b"OK\t1\tuser=new\n")
        self.assertEqual(self.successResultOf(old)["user"], "old")
        self.assertEqual(self.successResultOf(new)["user"], "new")
        self.assertTrue(transport.disconnecting)
        self.assertFalse(self.dovecot.transport.disconnecting)

    def test_password_is_in_no_text(self) -> None:
        for line in (b"FAIL\t1\tuser=u\n", b"FAIL\t1\ttemp\n", b"OK\t1\n", b"OK\tx\n"):
            self.setUp()
            login = self.connected()
            self.dovecot.send(line)
            if not login.called:
                self.dovecot.accept(b"DONE\n")
            failure: Any = self.failureResultOf(login, Refused, TemporaryFailure)
            text = failure.getTraceback(detail="verbose") + repr(failure.value) + self.logged()
            self.assertNotIn("AHUAc2VjcmV0", text)
            self.assertNotIn("secret'", failure.getTraceback())
