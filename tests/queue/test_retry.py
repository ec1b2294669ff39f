"""Retry rules and times are those of chapter 32."""

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError, Position
from mailsrv.interfaces import RetryHint
from mailsrv.queue.retry import after_failure, timed_out
from mailsrv.queue.rules import RetryRules, error_matches, matches, parse_rule, parse_section

HERE = Position("exim.conf", 7)
DEFAULT = parse_rule("*   *   F,2h,15m; G,16h,1h,1.5; F,4d,6h", HERE)


@dataclass
class Line:
    text: str
    where: Position = HERE


class RuleTests(SynchronousTestCase):
    def find(self, text: str, *arguments: Any, **options: Any) -> Any:
        rules, errors = parse_section([Line(line) for line in text.split("\n")])
        self.assertEqual(errors, [])
        found = self.successResultOf(Deferred.fromCoroutine(rules.find(*arguments, **options)))
        return found and found.pattern

    def test_the_first_rule_that_matches(self) -> None:
        """The specification's example of 32.4: host first, then domain, rule by rule."""
        text = "p.q.r.example * F,24h,30m;\na.b.c.example * F,4d,45m;"
        domain = "a.b.c.example"
        self.assertEqual(self.find(text, ["x.y.z.example", domain], "refused"), domain)
        self.assertEqual(self.find(text, ["p.q.r.example", domain], "refused"), "p.q.r.example")
        self.assertIsNone(self.find(text, ["other.example"], "refused"))

    def test_senders(self) -> None:
        """senders=: is the null sender alone; without a sender such a rule never matches."""
        text = "* rcpt_4xx senders=: F,1h,30m"
        self.assertEqual(self.find(text, ["a@b"], "rcpt_450", ""), "*")
        self.assertIsNone(self.find(text, ["a@b"], "rcpt_450", "x@y"))
        self.assertIsNone(self.find(text, ["a@b"], "rcpt_450"))
        self.assertEqual(parse_rule("* * senders = a F,1h,5m", HERE).senders, "a")
        text = 'a.domain rcpt_452 senders="xb.dom : yc.dom" G,8h,10m,1.5'
        self.assertEqual(self.find(text, ["u@a.domain"], "rcpt_452", "s@yc.dom"), "a.domain")

    def test_patterns(self) -> None:
        """Domains match in any case, local parts do not; *.d is not d."""
        self.assertTrue(matches("*.Example", "a@x.example"))
        self.assertFalse(matches("*.example", "a@example"))
        self.assertTrue(matches("alice@d", "alice@D"))
        self.assertFalse(matches("alice@d", "Alice@d"))
        self.assertFalse(matches("alice@d", "d"))
        self.assertTrue(matches("*@d", "d"))

    def test_other_patterns_go_to_the_matcher(self) -> None:
        """A pattern that is no plain domain is an address list's; * stands for no local part."""
        asked = []

        async def match(pattern: str, address: str) -> bool:
            asked.append((pattern, address))
            return True

        rules = RetryRules([parse_rule("^\\N[^@]+@x\\d\\N * F,1h,10m", HERE)]).matching(match)
        self.successResultOf(Deferred.fromCoroutine(rules.find(["x1"], "*")))
        self.assertEqual(asked, [("^\\N[^@]+@x\\d\\N", "*@x1")])

    def test_error_names(self) -> None:
        for rule, error, more, expected in (
            ("rcpt_4xx", "rcpt_452", "", True), ("rcpt_45x", "rcpt_452", "", True),
            ("rcpt_436", "rcpt_452", "", False), ("rcpt_452", "rcpt_4xx", "52", True),
            ("mail_4xx", "rcpt_452", "", False), ("timeout", "timeout_connect_MX", "", True),
            ("timeout_MX", "timeout_connect", "MX", True), ("timeout_A", "timeout_MX", "", False),
            ("timeout_connect", "timeout", "", False),
            ("refused", "refused", "A", True), ("refused_MX", "refused_A", "", False),
            ("quota_4d", "quota_345600", "", True), ("quota_4d", "quota", "345599", False),
            ("quota_4d", "quota", "", False), ("quota", "quota_5", "", True), ("*", "x", "", True),
        ):  # fmt: skip
            with self.subTest(rule=rule, error=error, more=more):
                self.assertEqual(error_matches(rule, error, more), expected)

    def test_faults_name_their_line(self) -> None:
        for text in (
            "*", "* bogus F,1h,1m", "* * X,1h,1m", "* * F,1h", "* * G,1h,1m", "* * F,1q,1m",
            "* quota_x F,1h,1m", "* * G,1h,1m,0.5", "* * F,0s,1m", "* rcpt_5xx F,1h,1m",
        ):  # fmt: skip
            with self.subTest(text=text):
                error = self.assertRaises(ConfigError, parse_rule, text, HERE)
                self.assertEqual(error.where, HERE)

    def test_no_parameters(self) -> None:
        """A rule without parameters is valid: it fails at once."""
        self.assertEqual(parse_rule("wonderland.example quota_5d", HERE).parameters, ())


class TimeTests(SynchronousTestCase):
    def attempts(self, text: str, until: float, **options: Any) -> list[float]:
        """The minutes at which attempts happen if each is made on time, until it expires."""
        rule, now, hint = parse_rule(text, HERE), 0.0, None
        times = [0.0]
        while now < until:
            hint = after_failure(rule, hint, now, **options)
            if hint.expired:
                break
            now = hint.next_try
            times.append(now / 60)
        return times

    def test_default_rule_over_five_days(self) -> None:
        """F,2h,15m; G,16h,1h,1.5; F,4d,6h: the table, in minutes, derived from 32.7.

        Every 15 min while failing <= 2 h; then 1 h, 1.5 h ... while failing <= 16 h;
        then every 6 h; the first attempt past 4 d expires.
        """
        quarter_hours = [15.0 * n for n in range(10)]  # the one at 2 h is the last that adds 15 min
        growing = [195.0, 285.0, 420.0, 622.5, 926.25, 1381.875]
        six_hours = [1381.875 + 360 * n for n in range(1, 14)]
        self.assertEqual(
            self.attempts(DEFAULT_TEXT, 5 * 86400), quarter_hours + growing + six_hours
        )
        self.assertGreater(six_hours[-1], 4 * 1440)
        self.assertLess(six_hours[-2], 4 * 1440)

    def test_largest_interval(self) -> None:
        """retry_interval_max bounds every interval."""
        times = self.attempts("* * G,4d,1h,2", 86400, interval_max=7200.0)
        self.assertEqual(times[:5], [0, 60, 180, 300, 420])

    def test_randomized(self) -> None:
        """H lies between its first argument and the grown previous interval."""
        for random, expected in ((0.0, 1800.0), (1.0, 1800 * 2.0)):
            rule = parse_rule("* * H,4d,30m,2", HERE)
            hint = RetryHint(0, 0, 1800)
            self.assertEqual(
                after_failure(rule, hint, 1800, random=lambda r=random: r).next_try, 1800 + expected
            )

    def test_expired_has_a_next_time(self) -> None:
        """Past the last cutoff the last parameters still give a time for new messages."""
        hint = after_failure(DEFAULT, RetryHint(0, 0, 1), 4 * 86400 + 1)
        self.assertTrue(hint.expired)
        self.assertEqual(hint.next_try, 4 * 86400 + 1 + 6 * 3600)

    def test_giving_up(self) -> None:
        """No rule, an empty rule, the cutoff, or the message's age end it."""
        fresh = after_failure(DEFAULT, None, 100.0)
        self.assertTrue(timed_out(None, fresh, 100, 100))
        self.assertTrue(timed_out(parse_rule("* *", HERE), fresh, 100, 100))
        self.assertFalse(timed_out(DEFAULT, fresh, 100, 100))
        self.assertTrue(timed_out(DEFAULT, fresh, 0, 4 * 86400 + 1))

    def test_message_error_counts_from_arrival(self) -> None:
        """32.11: a message older than the first failure counts from its own arrival."""
        hint = after_failure(DEFAULT, None, 5 * 86400, arrived=0)
        self.assertTrue(hint.expired)


DEFAULT_TEXT = "* * F,2h,15m; G,16h,1h,1.5; F,4d,6h"


class RecordedTests(SynchronousTestCase):
    def test_as_exim_does(self) -> None:
        """Next intervals that Exim 4.96 gave: seconds of failing, the last interval, the next."""
        for failing, last, following, expired in (
            (0, 0, 900, False), (900, 900, 900, False), (6300, 900, 900, False),
            (8100, 900, 3600, False), (11700, 3600, 5400, False), (17100, 5400, 8100, False),
            (25200, 8100, 12150, False), (30000, 4200, 6300, False),
            (50000, 27000, 40500, False), (70000, 900, 21600, False),
            (70000, 40000, 21600, False), (349200, 21600, 21600, True),
        ):  # fmt: skip
            with self.subTest(failing=failing, last=last):
                now = 1e6
                before = RetryHint(now - failing, now - last, now) if failing else None
                hint = after_failure(DEFAULT, before, now)
                self.assertEqual((hint.next_try - now, hint.expired), (following, expired))
