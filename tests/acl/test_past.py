"""Conditions on the past: ratelimit and seen."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import AclPhase, Action
from mailsrv.mail.message import Transaction
from mailsrv.mail.origin import Origin
from mailsrv.mail.taint import Tainted
from tests.acl.harness import Bench

SHOWN = "message = $sender_rate/$sender_rate_period (max $sender_rate_limit)"


class RatelimitTests(SynchronousTestCase):
    def new_message(self, bench: Bench) -> None:
        bench.connection.transaction = Transaction(sender=Tainted("x@y.example"))

    def test_the_limit_is_reached(self) -> None:
        """As many as the limit pass in a burst; leaky: what is refused does not count."""
        bench = Bench(f"deny ratelimit = 3 / 1h\n{SHOWN}\naccept")
        replies = []
        for _ in range(5):
            replies.append(bench.shown()[0])
            self.new_message(bench)
        self.assertEqual(replies[:3], [""] * 3)
        self.assertEqual(replies[3:], ["550 4.0/1h (max 3)"] * 2)
        bench.clock.advance(3600 * 2)
        self.assertEqual(bench.shown()[0], "")

    def test_strict_counts_what_is_refused(self) -> None:
        bench = Bench(f"deny ratelimit = 2 / 1h / strict\n{SHOWN}\naccept")
        for _ in range(5):
            reply = bench.shown()[0]
            self.new_message(bench)
        self.assertEqual(reply, "550 5.0/1h (max 2)")

    def test_a_message_is_counted_once(self) -> None:
        """per_mail is computed once a message, per_rcpt and per_cmd for each."""
        for options, rate in (("", "1.0"), ("/ per_rcpt", "2.0"), ("/ per_cmd", "2.0")):
            bench = Bench(f"deny ratelimit = 0 / 1h / strict {options}\n{SHOWN}")
            bench.check()
            self.assertEqual(bench.shown()[0], f"550 {rate}/1h (max 0)", options)

    def test_two_limits_share_a_counter(self) -> None:
        """The key has no limit in it: a second test sees the rate of the first."""
        bench = Bench(
            f"warn ratelimit = 30 / 1m / strict\ndeny ratelimit = 1 / 1m / strict\n{SHOWN}"
        )
        self.assertEqual(bench.shown()[0], "550 1.0/1m (max 1)")

    def test_keys(self) -> None:
        """A key of one's own; slashes in it stay."""
        acl = f"deny ratelimit = 0 / 1h / strict / per_cmd / a/$local_part\n{SHOWN}"
        bench = Bench(acl)
        self.assertEqual(bench.shown("u1@x.example")[0], "550 1.0/1h (max 0)")
        self.assertEqual(bench.shown("u1@x.example")[0], "550 2.0/1h (max 0)")
        self.assertEqual(bench.shown("u2@x.example")[0], "550 1.0/1h (max 0)")

    def test_counts(self) -> None:
        for options, rate in (
            ("per_byte", "5000.0"),
            ("count=2.5", "2.5"),
            ("per_byte / count=3", "3.0"),
        ):
            bench = Bench(f"deny ratelimit = 1 / 1h / {options}\n{SHOWN}")
            bench.transaction.declared_size = 5000
            self.assertEqual(bench.shown()[0], f"550 {rate}/1h (max 1)")

    def test_recipients_of_a_whole_message(self) -> None:
        bench = Bench(f"deny ratelimit = 1 / 1h / per_rcpt\n{SHOWN}", AclPhase.DATA)
        for number in range(7):
            bench.add_recipient(f"u{number}@x.example")
        self.assertEqual(bench.shown()[0], "550 7.0/1h (max 1)")

    def test_different_recipients(self) -> None:
        bench = Bench(f"deny ratelimit = 0 / 1h / per_addr / strict\n{SHOWN}")
        for address in ("a@x.example", "b@x.example", "a@x.example"):
            reply = bench.shown(address)[0]
        self.assertEqual(reply, "550 2.0/1h (max 0)")

    def test_readonly_and_limits_with_letters(self) -> None:
        bench = Bench(f"deny ratelimit = 1K / 1h / readonly\n{SHOWN}\naccept")
        self.assertEqual(bench.shown()[0], "")
        bench = Bench(f"deny ratelimit = 1K / 1h / count=2000\n{SHOWN}")
        self.assertEqual(bench.shown()[0], "550 2000.0/1h (max 1K)")

    def test_where_nothing_can_be_measured_the_rate_is_read(self) -> None:
        bench = Bench(f"warn ratelimit = 1 / 1h\n{SHOWN}\naccept", AclPhase.CONNECT)
        self.assertEqual(bench.check().action, Action.ACCEPT)

    def test_errors(self) -> None:
        for argument, problem in (
            ("", "sender rate limit not set"),
            ("x / 1h", '"x" is not a positive number'),
            ("-1 / 1h", '"-1" is not a positive number'),
            ("5", "smoothing period not set"),
            ("5 / 0s", '"0s" is not a positive time value'),
            ("5 / x", '"x" is not a positive time value'),
            ("5 / 1h / strict / leaky", "conflicting update modes"),
            ("5 / 1h / per_rcpt / per_mail", '"per_mail" conflicts with "per_rcpt"'),
            ("5 / 1h / count=-1", '"-1" is not a positive number'),
        ):
            verdict = Bench(f"deny ratelimit = {argument}").check()
            self.assertEqual(verdict.action, Action.DEFER)
            self.assertEqual(
                verdict.log_message, f'error in arguments to "ratelimit" condition: {problem}'
            )
        verdict = Bench("deny ratelimit = 5 / 1h / per_addr / strict", AclPhase.MAIL).check()
        self.assertIn("cannot be used in MAIL ACL", verdict.log_message)

    def test_local_submission(self) -> None:
        """The article's limits: 30 messages a minute to a few recipients, 3 to many."""
        bench = Bench(
            "deny ratelimit = 2 / 1m / strict\nrecipients = postmaster@local.example\naccept",
            AclPhase.NOT_SMTP,
        )
        bench.connection.origin = Origin()
        actions = []
        for _ in range(3):
            self.new_message(bench)
            bench.add_recipient("postmaster@local.example")
            actions.append(bench.check().action)
        self.assertEqual(actions, [Action.ACCEPT, Action.ACCEPT, Action.DENY])


ARTICLE = """
deny ratelimit = 30 / 1m / strict
 recipients = admin@mydomain.tld : root@hostname.mydomain.tld
 log_message = AL01: $sender_rate / $sender_rate_period.
deny ratelimit = 3 / 1m / strict
 !recipients = admin@mydomain.tld : root@hostname.mydomain.tld
 log_message = AL02: $sender_rate / $sender_rate_period.
deny ratelimit = 10 / 30m / strict
 !recipients = admin@mydomain.tld : root@hostname.mydomain.tld
 log_message = AL03: $sender_rate / $sender_rate_period.
accept
"""


class ArticleTests(SynchronousTestCase):
    """The article's ``acl_local``, as it stands there."""

    def setUp(self) -> None:
        self.bench = Bench(ARTICLE, AclPhase.NOT_SMTP)
        self.assertEqual(self.bench.errors, [])
        self.bench.connection.origin = Origin()

    def send(self, recipient: str) -> str:
        """A message; the log's text if it is refused."""
        self.bench.connection.transaction = Transaction(sender=Tainted("x@y.example"))
        self.bench.add_recipient(recipient)
        verdict = self.bench.check()
        return verdict.log_message if verdict.action is not Action.ACCEPT else ""

    def test_a_burst_to_others(self) -> None:
        """Three a minute pass, as all local users share one key."""
        self.assertEqual([self.send("a@b.example") for _ in range(3)], [""] * 3)
        self.assertEqual(self.send("a@b.example"), "AL02: 4.0 / 1m.")

    def test_a_burst_to_the_administrator(self) -> None:
        found = [self.send("admin@mydomain.tld") for _ in range(31)]
        self.assertEqual(found[:30], [""] * 30)
        self.assertEqual(found[30], "AL01: 31.0 / 1m.")

    def test_a_steady_flow_to_others(self) -> None:
        """One each thirty seconds is too much after some ten of them."""
        found = []
        for _ in range(20):
            found.append(self.send("a@b.example"))
            self.bench.clock.advance(60)
        self.assertEqual(found[:10], [""] * 10)
        self.assertRegex(found[-1], "^AL03: 1[0-9].[0-9] / 30m.")


class SeenTests(SynchronousTestCase):
    def test_since(self) -> None:
        bench = Bench("accept seen = 10m")
        self.assertEqual(bench.check().action, Action.DENY)
        bench.clock.advance(500)
        self.assertEqual(bench.check().action, Action.ACCEPT)
        bench.clock.advance(500)
        self.assertEqual(bench.check().action, Action.ACCEPT)  # written anew each time
        bench.clock.advance(601)
        self.assertEqual(bench.check().action, Action.DENY)

    def test_greylisting(self) -> None:
        """A first attempt is put off; five minutes after it the same is taken."""
        bench = Bench("accept seen = -5m / key=${sender_host_address}_$local_part@$domain\ndefer")
        self.assertEqual(bench.check().action, Action.DEFER)
        bench.clock.advance(200)
        self.assertEqual(bench.check().action, Action.DEFER)
        bench.clock.advance(101)
        self.assertEqual(bench.check().action, Action.ACCEPT)
        self.assertEqual(bench.check("other@local.example").action, Action.DEFER)

    def test_readonly_and_write(self) -> None:
        bench = Bench("accept seen = 10m / readonly")
        for _ in range(2):
            self.assertEqual(bench.check().action, Action.DENY)
        bench = Bench("accept seen = -10m / write")
        bench.check()
        bench.clock.advance(601)
        self.assertEqual(bench.check().action, Action.ACCEPT)
        self.assertEqual(bench.check().action, Action.DENY)

    def test_errors(self) -> None:
        for argument in ("x", "5m / nonsense", "5m / refresh=x"):
            verdict = Bench(f"accept seen = {argument}").check()
            self.assertEqual(verdict.action, Action.DEFER, argument)
            self.assertIn('error in arguments to "seen" condition', verdict.log_message)
