"""ACLs decide as Exim 4.96 does: the table is what ``exim4 -bh`` printed."""

# ruff: noqa: E501  (a row of a table, or a dialogue, is one line)

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import TemporaryFailure
from mailsrv.expansion.template import compile_string
from mailsrv.interfaces import AclPhase, Action
from mailsrv.mail.header import Header
from tests.acl.harness import Bench

PROHIBITED = "550 Administrative prohibition"
ENDLESS = "${if match{" + "a" * 60 + "b}{\\N^(?:(a+))+$\\N}}"
LATER = "451 Temporary local problem - please try later"

# ACL, recipient, reply, text of the log line ("" for none)
DIALOGUES = [
    ("deny", "alice", PROHIBITED, ""),
    ("defer", "alice", LATER, ""),
    ("drop", "alice", PROHIBITED, ""),
    ("discard", "alice", "", ""),
    ("accept", "alice", "", ""),
    ("require condition = no", "alice", PROHIBITED, ""),
    ("warn condition = yes", "alice", PROHIBITED, ""),
    ("accept message = Fine by me", "alice", "250 Fine by me", "Fine by me"),
    ("accept message = 251 2.1.5 Fine", "alice", "251 2.1.5 Fine", "251 2.1.5 Fine"),
    ("deny message = 4505 abc", "alice", "550 4505 abc", "4505 abc"),
    ("deny message = 554 text", "alice", "554 text", "554 text"),
    (
        "deny message = 550 5.7.1 foo $local_part",
        "alice",
        "550 5.7.1 foo alice",
        "550 5.7.1 foo alice",
    ),
    ("deny message = 550 4.7.1 x", "alice", "550 4.7.1 x", "550 4.7.1 x"),
    ("deny message = 550 5.7 x", "alice", "550 5.7 x", "550 5.7 x"),
    ("deny message = 550", "alice", "550 550", "550"),
    ("deny message = 550-foo", "alice", "550 550-foo", "550-foo"),
    (r"deny message = one\ntwo\n\nthree\n", "alice", "550 one\ntwo\nthree", "one"),
    ("deny message = ${if eq{a}{b}{x}fail}", "alice", PROHIBITED, ""),
    ("deny message =", "alice", PROHIBITED, ""),
    ('deny message = "quoted"', "alice", '550 "quoted"', '"quoted"'),
    ("deny log_message = LM", "alice", PROHIBITED, "LM"),
    ("deny log_message = LM\nmessage = MM", "alice", "550 MM", "LM"),
    (r"deny log_message = L1\nL2" + "\n" + r"message = M1\nM2", "alice", "550 M1\nM2", "L1"),
    ("deny condition = maybe", "alice", LATER, 'invalid "condition" value "maybe"'),
    (
        "deny condition = ${if eq{a}{b}{x}fail}\nmessage = as if true",
        "alice",
        "550 as if true",
        "as if true",
    ),
    ("deny !condition = ${if eq{a}{b}{x}fail}\nmessage = too", "alice", "550 too", "too"),
    ("accept hosts = ${if eq{a}{b}{*}fail}", "alice", PROHIBITED, ""),
    ("accept domains = ${if eq{a}{b}{*}fail}", "alice", PROHIBITED, ""),
    ("accept senders = ${if eq{a}{b}{*}fail}", "alice", PROHIBITED, ""),
    ("accept authenticated = ${if eq{a}{b}{*}fail}", "alice", PROHIBITED, ""),
    ("accept encrypted = ${if eq{a}{b}{*}fail}", "alice", PROHIBITED, ""),
    ("accept !local_parts = ${if eq{a}{b}{*}fail}", "alice", "", ""),
    ("deny condition = -1\nmessage = neg", "alice", "550 neg", "neg"),
    ("deny condition = 00\nmessage = zz", "alice", PROHIBITED, ""),
    ("deny condition = 1x", "alice", LATER, 'invalid "condition" value "1x"'),
    ("deny condition = True\nmessage = zz", "alice", "550 zz", "zz"),
    ("accept endpass\nmessage = late\nverify = recipient", "bad", "550 late", "user gone"),
    ("accept endpass\nmessage = late\nverify = recipient", "alice", "", ""),
    ("accept message = before\nendpass\nverify = recipient", "bad", "550 before", "user gone"),
    (
        "accept endpass\nverify = recipient\nmessage = late",
        "tmp",
        "451 later please",
        "later please",
    ),
    (
        f"deny condition = {ENDLESS}\naccept",  # the search is given up, and nothing is let in
        "alice",
        LATER,
        f'failed to expand ACL string "{ENDLESS}": regular expression "^(?:(a+))+$": '
        "the match takes too many steps or too much memory (line 2 of exim.conf, character 6)",
    ),
    ("require verify = recipient\naccept", "bad", "550 user gone", "user gone"),
    ("require verify = recipient\naccept", "tmp", "451 later please", "later please"),
    ("require verify = recipient/defer_ok\naccept", "tmp", "", ""),
    (
        "require verify = recipient\naccept",
        "nosuch",
        "550 Unrouteable address",
        "Unrouteable address",
    ),
    (
        "require message = got $acl_verify_message\nverify = recipient",
        "bad",
        "550 got user gone",
        "user gone",
    ),
    ("deny !verify = recipient\nlog_message = L\naccept", "bad", "550 user gone", "L: user gone"),
    (
        "deny !verify = recipient\nlog_message = x $acl_verify_message",
        "bad",
        "550 user gone",
        "x user gone: user gone",
    ),
    (
        "warn !verify = recipient\nset acl_m0 = <$acl_verify_message>\ndeny message = foo $acl_m0 $recipient_verify_failure",
        "bad",
        "550 foo <user gone> route",
        "foo <user gone> route",
    ),
    ("deny message = a\ncondition = yes\nmessage = b\ncondition = yes", "alice", "550 b", "b"),
    (
        "require message = a\ncondition = yes\nmessage = b\ncondition = no\nmessage = c",
        "alice",
        "550 b",
        "b",
    ),
    (
        "warn set acl_m0 = x$local_part\nset acl_c_foo = y\ndeny message = $acl_m0 $acl_c_foo $acl_m_un",
        "alice",
        "550 xalice y",
        "xalice y ",
    ),
    ("accept message = X\ncondition = no\ndeny", "alice", PROHIBITED, ""),
    (
        "deny message = $local_part@$domain",
        "ALICE",
        "550 alice@local.example",
        "alice@local.example",
    ),
    ("accept control = caseful_local_part\nmessage = $local_part", "ALICE", "250 ALICE", "ALICE"),
    (
        "accept delay = 5",
        "alice",
        LATER,
        'syntax error in argument for "delay" modifier: "5" is not a time value',
    ),
    # nested ACLs
    ("b:\naccept\na:\ndeny acl = n\naccept\nn:\ndeny message = from n", "alice", "", ""),
    (
        "b:\naccept\na:\ndeny acl = n\nmessage = outer\naccept\nn:\naccept message = inner",
        "alice",
        "550 outer",
        "inner",
    ),
    (
        "b:\naccept\na:\ndeny acl = n\naccept\nn:\naccept message = inner",
        "alice",
        "550 inner",
        "inner",
    ),
    (
        "b:\naccept\na:\nrequire acl = n\naccept\nn:\ndeny message = inner\nlog_message = innerlog",
        "alice",
        "550 inner",
        "innerlog",
    ),
    (
        "b:\naccept\na:\nrequire message = outer $acl_verify_message\nacl = n\nn:\ndeny message = inner\nlog_message = innerlog",
        "alice",
        "550 outer inner",
        "innerlog",
    ),
    (
        "b:\naccept\na:\naccept acl = n\naccept\nn:\ndiscard message = disc",
        "alice",
        "250 disc",
        "disc",
    ),
    (
        "b:\naccept\na:\ndeny acl = n\naccept\nn:\ndiscard",
        "alice",
        LATER,
        'nested ACL returned "discard" for "deny" command (only allowed with "accept" or "discard")',
    ),
    ("b:\naccept\na:\ndeny acl = n\naccept\nn:\ndefer message = def", "alice", "451 def", "def"),
    ("b:\naccept\na:\ndeny acl = a", "alice", LATER, "ACL nested too deep: possible loop"),
    (
        "b:\naccept\na:\nrequire acl = n one ${uc:two} $acl_arg1\nn:\ndeny message = <$acl_arg1><$acl_arg2><$acl_arg3>$acl_narg",
        "alice",
        "550 <one><TWO><>3",
        "<one><TWO><>3",
    ),
    ("deny acl = accept message = foo", "alice", "550 foo", "foo"),
    ("deny message = a\\tb\\x01", "alice", "550 a\tb?", "a\tb\x01"),
    ("deny acl = ac1", "alice", LATER, 'unknown ACL verb "ac1" in "ac1"'),
]


class DialogueTests(SynchronousTestCase):
    """Replies and log texts are Exim's."""

    def test_dialogues(self) -> None:
        """Each ACL of the table gives the reply and the log text that Exim gives."""
        for acl, local_part, reply, log in DIALOGUES:
            bench = Bench(acl)
            self.assertEqual(bench.errors, [], acl)
            self.assertEqual(bench.shown(f"{local_part}@local.example"), (reply, log), acl)

    def test_wrong_class_of_code(self) -> None:
        """A code of another class is not used, and the panic log says so."""
        bench = Bench("deny message = 450 4.7.1 soft")
        self.assertEqual(bench.shown(), ("550 soft", "550 soft"))
        self.assertIn("incorrect digit (expected 5)", bench.logged("panic")[0])

    def test_actions(self) -> None:
        """Verbs give their actions; a nested drop closes only if its condition denies."""
        nested = "b:\naccept\na:\n{} acl = n\naccept\nn:\ndrop"
        for acl, action in [
            ("drop", Action.DROP),
            ("discard", Action.DISCARD),
            ("defer", Action.DEFER),
            (nested.format("require"), Action.DROP),
            (nested.format("accept"), Action.ACCEPT),
            (nested.format("deny !"), Action.DENY),
            ("b:\naccept\na:\naccept endpass\nacl = n\nn:\ndrop", Action.DROP),
        ]:
            self.assertEqual(Bench(acl).check().action, action, acl)

    def test_bad_message_is_ignored(self) -> None:
        """A message that cannot be expanded gives the default text and a panic line."""
        bench = Bench("deny message = ${bad}")
        self.assertEqual(bench.shown(), (PROHIBITED, ""))
        self.assertIn("failed to expand ACL message", bench.logged("panic")[0])

    def test_refusal_by_default_is_bare(self) -> None:
        """Without a text of the ACL's own, the log line has none."""
        self.assertTrue(Bench("deny").check().bare)
        self.assertFalse(Bench("deny message = x").check().bare)

    def test_refusal_that_is_not_logged(self) -> None:
        """An empty log_reject_target keeps the refusal out of the log."""
        self.assertFalse(Bench("deny log_reject_target =").check().log)
        self.assertTrue(Bench("deny").check().log)


class CalledTests(SynchronousTestCase):
    """ACLs that strings call (11.5, 11.7)."""

    def test_item_and_condition(self) -> None:
        """The item gives the message of an accepting or denying ACL; the condition, whether it accepts."""
        section = "a:\n{}\nyes:\naccept message = <$acl_arg1> $acl_narg\nno:\ndeny message = never\nlater:\ndefer"
        for acl, reply in [
            ("deny message = ${acl{yes}{one}{two}}", "550 <one> 2"),
            ("deny message = ${acl{no}}", "550 never"),
            ("deny message = ${acl{later}}", PROHIBITED),
            ("deny condition = ${if acl{{yes}}}\nmessage = y", "550 y"),
            ("deny !condition = ${if acl{{no}}}\nmessage = n", "550 n"),
            ("deny message = ${acl{nosuch}}", PROHIBITED),
        ]:
            self.assertEqual(Bench(section.format(acl)).shown()[0], reply, acl)

    def test_arguments_are_the_callers_again(self) -> None:
        """What a called ACL had as arguments is gone when it returns."""
        bench = Bench("a:\ndeny message = ${acl{n}{x}}<$acl_arg1>\nn:\naccept message = $acl_arg1")
        self.assertEqual(bench.shown()[0], "550 x<>")


class PhaseTests(SynchronousTestCase):
    """What depends on the moment."""

    def test_wrong_phase(self) -> None:
        """What cannot be tested at a phase defers, with Exim's words in the log."""
        for phase, item, words in [
            (AclPhase.CONNECT, "domains = x", "cannot test domains condition in connection ACL"),
            (AclPhase.HELO, "senders = x", "cannot test senders condition in EHLO or HELO ACL"),
            (AclPhase.HELO, "encrypted = *", "cannot test encrypted condition in EHLO or HELO ACL"),
            (AclPhase.DATA, "recipients = x", "cannot test recipients condition in DATA ACL"),
            (AclPhase.AUTH, "add_header = X: y", "cannot use add_header condition in AUTH ACL"),
            (AclPhase.MAIL, "verify = recipient", "cannot verify recipient in ACL for MAIL"),
            (
                AclPhase.RCPT,
                "verify = header_syntax",
                "cannot verify header_syntax in ACL for RCPT",
            ),
            (AclPhase.DATA, "control = submission", 'cannot use "control=submission" in DATA ACL'),
            (AclPhase.HELO, "control = freeze", 'cannot use "control=freeze" in EHLO or HELO ACL'),
            (AclPhase.VRFY, "control = queue_only", 'cannot use "control=queue" in VRFY ACL'),
        ]:
            bench = Bench(
                f"warn {item}\naccept", phase, in_message=phase.value in ("mail", "rcpt", "data")
            )
            self.assertEqual(bench.shown(), (LATER, words), item)

    def test_unset(self) -> None:
        """Unset ACLs of RCPT, VRFY, EXPN and ETRN deny; the others accept."""
        bench = Bench("accept", AclPhase.QUIT)
        refused = {}
        for phase in AclPhase:
            if phase is AclPhase.QUIT:
                continue
            bench.phase = phase
            verdict = bench.check()
            if not verdict.accepted:
                assert verdict.status is not None
                refused[phase] = verdict.status.code
        self.assertEqual(
            refused,
            {AclPhase.RCPT: 550, AclPhase.VRFY: 252, AclPhase.EXPN: 550, AclPhase.ETRN: 458},
        )
        self.assertFalse(bench.acls.configured(AclPhase.RCPT))
        self.assertTrue(bench.acls.configured(AclPhase.QUIT))

    def test_codes_of_phases(self) -> None:
        """The default codes follow the command."""
        for phase, acl, reply in [
            (AclPhase.VRFY, "deny", "252 Administrative prohibition"),
            (AclPhase.VRFY, "deny message = 599 5.9.9 no", "599 5.9.9 no"),
            (AclPhase.AUTH, "deny", "503 Administrative prohibition"),
            (AclPhase.CONNECT, "accept message = my banner", "220 my banner"),
            (AclPhase.PREDATA, "accept message = go", "354 go"),
            (AclPhase.QUIT, "accept message = 550 bye", "221 550 bye"),
        ]:
            self.assertEqual(Bench(acl, phase, in_message=False).shown()[0], reply)

    def test_quit_decides_nothing(self) -> None:
        """The QUIT ACL accepts whatever its verbs say; a verb that refuses is a panic line."""
        bench = Bench("drop", AclPhase.QUIT, in_message=False)
        self.assertEqual(bench.check().action, Action.ACCEPT)
        self.assertIn("may not fail ('drop' verb used incorrectly)", bench.logged("panic")[0])
        quiet = Bench("warn condition = no", AclPhase.QUIT, in_message=False)
        self.assertEqual(quiet.check().action, Action.ACCEPT)
        self.assertEqual(quiet.logged("panic"), [])

    def test_discard(self) -> None:
        """Discard is for messages: not for PREDATA; at MAIL and DATA it takes all recipients."""
        bench = Bench("discard", AclPhase.PREDATA)
        self.assertEqual(bench.shown()[0], LATER)
        self.assertEqual(bench.logged("panic"), ['"discard" verb not allowed in PREDATA ACL'])
        bench = Bench("discard", AclPhase.MAIL)
        self.assertEqual(bench.check().action, Action.DISCARD)
        self.assertTrue(bench.transaction.discarded)

    def test_variables_outside_of_a_message(self) -> None:
        """$acl_m set before MAIL lasts for that ACL."""
        bench = Bench("accept set acl_m0 = x\nmessage = <$acl_m0>", AclPhase.HELO, in_message=False)
        self.assertEqual(bench.shown()[0], "250 <x>")


class WhichAclTests(SynchronousTestCase):
    """Finding the ACL (44.12)."""

    def test_options(self) -> None:
        """An option is a name, inline text, empty, or fails."""
        for option, reply, log in [
            ("accept message = inline yes", "250 inline yes", "inline yes"),
            ("nosuch", LATER, 'unknown ACL verb "nosuch" in "nosuch"'),
            ("", PROHIBITED, ""),
            ("${if eq{a}{a}{}{x}}", PROHIBITED, ""),
            ("${if eq{a}{b}{x}fail}", "", ""),
            ("/nonexist", LATER, 'failed to open ACL file "/nonexist": No such file or directory'),
        ]:
            self.assertEqual(Bench("accept", option=option).shown(), (reply, log), option)

    def test_file(self) -> None:
        """A file is read once; comments, empty lines and continued lines are as in a configuration."""
        bench = Bench("accept", option="/etc/acl")
        reads: list[str] = []

        def read(path: str) -> str:
            reads.append(path)
            return "# ours\n\ndeny message = from \\\n   the file\n"

        bench.acls._read_file = read
        self.assertEqual(bench.shown()[0], "550 from the file")
        self.assertEqual(bench.shown()[0], "550 from the file")
        self.assertEqual(reads, ["/etc/acl"])

    def test_text_that_a_peer_chose(self) -> None:
        """A peer never names or writes an ACL."""
        bench = Bench("accept", option="$local_part")
        self.assertEqual(
            bench.shown("accept@local.example"), (LATER, "internal configuration error")
        )
        self.assertEqual(bench.logged("panic"), ['attempt to use tainted ACL text "accept"'])

    def test_data_is_not_expanded(self) -> None:
        """What a peer sends is never expanded again."""
        bench = Bench("warn set acl_m0 = $local_part\ndeny message = $acl_m0 $sender_address")
        bench.transaction.sender = "${run{x}}@y"
        self.assertEqual(
            bench.shown('"$acl_c0${eval:1+1}"@local.example')[0],
            "550 $acl_c0${eval:1+1} ${run{x}}@y",
        )


class UnbuiltTests(SynchronousTestCase):
    """What would have judged a message and cannot lets none in (docs/differences.md)."""

    def test_the_phase_is_decided_for_the_time_being(self) -> None:
        for phase, name in (
            (AclPhase.DATA, "acl_smtp_mime"),
            (AclPhase.NOT_SMTP, "acl_not_smtp_mime"),
        ):
            bench = Bench("accept", phase, unbuilt={phase: [name]})
            self.assertEqual(
                bench.shown(), (LATER, f"{name}: known to Exim, not to mailsrv"), phase
            )
            self.assertEqual(Bench("accept", phase).shown()[0], "")

    def test_also_without_an_acl(self) -> None:
        bench = Bench("accept", AclPhase.DATA, unbuilt={AclPhase.DATA: ["acl_smtp_dkim"]})
        bench.acls.options = {}
        self.assertTrue(bench.acls.configured(AclPhase.DATA))
        self.assertEqual(bench.shown()[0], LATER)


class WarnTests(SynchronousTestCase):
    """The warn verb."""

    def test_log_lines_once_a_message(self) -> None:
        """The same line is logged once a message; conditions that fail log nothing."""
        bench = Bench(
            "warn log_message = W1\nwarn log_message = W1\nwarn log_message = W2\nwarn condition = no\nlog_message = W3\naccept"
        )
        bench.check()
        bench.check()
        client = "H=(me) [192.0.2.1]"
        self.assertEqual(bench.logged(), [f"{client} Warning: W1", f"{client} Warning: W2"])

    def test_defer_skips(self) -> None:
        """A condition that defers skips the statement and says so; an error ends the ACL."""
        bench = Bench(
            "b:\naccept\na:\nwarn acl = n\nset acl_m0 = x\naccept\nn:\ndefer message = def"
        )
        self.assertTrue(bench.check().accepted)
        self.assertEqual(bench.transaction.acl_m, {})
        self.assertEqual(
            bench.logged(),
            [
                'H=(me) [192.0.2.1] Warning: ACL "warn" statement skipped: condition test deferred: def'
            ],
        )
        self.assertTrue(Bench("warn condition = maybe\naccept").check().accepted)
        bad = Bench("warn condition = ${nosuch}\naccept")
        self.assertEqual(bad.check().action, Action.DEFER)

    def test_message_adds_headers(self) -> None:
        """An old message with warn is an add_header that waits for all conditions."""
        bench = Bench(
            "warn message = X-W: 1\nwarn message = bad\nwarn message = no\ncondition = no\naccept"
        )
        bench.check()
        self.assertEqual(bench.transaction.added_headers, ["X-W: 1", "X-ACL-Warn: bad"])

    def test_verify_message_is_forgotten(self) -> None:
        """$acl_verify_message lasts for one statement."""
        bench = Bench(
            "warn !verify = recipient\nlog_message = v: $acl_verify_message\ndeny message = after <$acl_verify_message>"
        )
        self.assertEqual(bench.shown("bad@local.example")[0], "550 after <>")
        self.assertEqual(bench.logged(), ["H=(me) [192.0.2.1] Warning: v: user gone"])


class SenderTests(SynchronousTestCase):
    """verify = sender."""

    def test_details_are_told_once(self) -> None:
        """The first refusal of a message tells why; routing is asked once."""
        bench = Bench("require verify = sender\naccept", sender="bad@local.example")
        self.assertEqual(
            bench.shown(),
            (
                "550 Verification failed for <bad@local.example>\nuser gone\nSender verify failed",
                "Sender verify failed",
            ),
        )
        self.assertEqual(bench.shown(), ("550 Sender verify failed", "Sender verify failed"))
        self.assertEqual(bench.verifier.asked, [("bad@local.example", True)])
        self.assertEqual(
            bench.logged(),
            ["H=(me) [192.0.2.1] sender verify fail for <bad@local.example>: user gone"],
        )

    def test_variants(self) -> None:
        """Options, the null sender, another address and a later statement."""
        for acl, sender, reply in [
            ("require verify = sender/no_details", "bad@local.example", "550 Sender verify failed"),
            ("require verify = sender\naccept", "", ""),
            ("require verify = sender\naccept", "alice@local.example", ""),
            ("require verify = sender", "tmp@local.example", LATER),
            ("require verify = sender/defer_ok\naccept", "tmp@local.example", ""),
            (
                "warn !verify = sender/no_details\ndeny message = foo $sender_verify_failure",
                "bad@local.example",
                "550 foo route",
            ),
            (
                "require verify = sender=bad@local.example/no_details",
                "x@y",
                "550 Sender verify failed",
            ),
        ]:
            self.assertEqual(Bench(acl, sender=sender).shown()[0], reply, acl)

    def test_one_line_replies(self) -> None:
        """control = no_multiline_responses leaves one line, for the connection."""
        bench = Bench(
            "warn control = no_multiline_responses\nrequire verify = sender",
            sender="bad@local.example",
        )
        self.assertEqual(bench.shown()[0], "550 Sender verify failed")


class EffectTests(SynchronousTestCase):
    """Modifiers leave their effects in time."""

    def test_effects_before_the_failing_condition(self) -> None:
        """What stands before a condition that fails has happened, what stands after has not."""
        bench = Bench(
            "accept add_header = X-A: 1\ncontrol = freeze\ncondition = no\nadd_header = X-B: 1\ncontrol = queue_only\naccept"
        )
        bench.check()
        self.assertEqual(bench.transaction.added_headers, ["X-A: 1"])
        self.assertTrue(bench.transaction.frozen)
        self.assertFalse(bench.transaction.queue_only)

    def test_headers(self) -> None:
        """Lines are cut, marked and kept once; CR and NUL never get in."""
        bench = Bench(
            r"accept add_header = X-A: b\nfoo\nX-C: d\n e\n\n"
            + "\nadd_header = X-A: b\nadd_header = :at_start:X-Z: 1\nadd_header = X-R: a\\rX-Evil: b\nremove_header = X-One : x-two"
        )
        bench.check()
        self.assertEqual(
            bench.transaction.added_headers,
            ["X-A: b", "X-ACL-Warn: foo", "X-C: d\n e", ":at_start:X-Z: 1", "X-R: aX-Evil: b"],
        )

    def test_controls(self) -> None:
        """Submission takes its options; the name is the last and takes all."""
        bench = Bench(
            "accept control = submission/sender_retain/domain=d.example/name=A/B C\ncontrol = no_enforce_sync"
        )
        bench.check()
        submission = bench.transaction.submission
        assert submission is not None
        self.assertEqual(
            (submission.domain, submission.name, submission.sender_retain),
            ("d.example", "A/B C", True),
        )
        self.assertIs(bench.connection.enforce_sync, False)
        self.assertEqual(
            Bench("accept control = ${lc:NOSUCH}").shown(),
            (LATER, 'syntax error in "control=nosuch"'),
        )

    def test_logwrite(self) -> None:
        """logwrite writes at once, to the logs it names."""
        bench = Bench(
            "warn logwrite = a\nlogwrite = :panic: b\nlogwrite = :nolog: c\ncondition = no\naccept"
        )
        bench.check()
        self.assertEqual(bench.logged(), ["a", "c"])
        self.assertEqual(bench.logged("panic")[0], "b")
        bench = Bench("warn logwrite = :reject: r\nlogwrite = :main, reject: b\naccept")
        bench.check()
        self.assertEqual(bench.logged(), [])
        self.assertEqual(bench.logged("reject alone"), ["r"])
        self.assertEqual(bench.logged("reject"), ["b"])

    def test_delay(self) -> None:
        """A delay waits for its time, and no longer than an hour."""
        bench = Bench("accept delay = 2s")
        done = bench.begin()
        bench.clock.advance(1.9)
        self.assertNoResult(done)
        bench.clock.advance(0.1)
        self.assertTrue(self.successResultOf(done).accepted)
        bench = Bench("accept delay = 7d")
        done = bench.begin()
        bench.clock.advance(3600)
        self.assertTrue(self.successResultOf(done).accepted)

    def test_cancelled_delay(self) -> None:
        """A lost connection ends the wait and leaves no timer."""
        bench = Bench("accept delay = 1h")
        done = bench.begin()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(bench.clock.getDelayedCalls(), [])


class FaultTests(SynchronousTestCase):
    """What goes wrong costs one command."""

    def test_bug(self) -> None:
        """An unexpected exception is a 451 and a panic line with its traceback."""
        bench = Bench("require verify = recipient")
        bench.verifier.failure = ZeroDivisionError("oops")
        self.assertEqual(bench.check().action, Action.DEFER)
        self.assertIsInstance(bench.log.failures[0], ZeroDivisionError)

    def test_temporary_failure(self) -> None:
        """A failure of a service defers and says why in the log alone."""
        bench = Bench("require verify = recipient")
        bench.verifier.failure = TemporaryFailure(reason="ldap is away")
        self.assertEqual(bench.shown(), (LATER, "ldap is away"))

    def test_hostile_text(self) -> None:
        """Control characters of a peer never reach the reply as they are."""
        bench = Bench("deny message = $sender_address")
        bench.transaction.sender = "a\rb\x00c@d\n550 e"
        reply = bench.shown()[0]
        self.assertNotIn("\r", reply)
        self.assertNotIn("\x00", reply)

    def test_templates(self) -> None:
        """The strings of a table can be checked before they are used."""
        bench = Bench("deny message = ${bad")
        self.assertEqual(len(list(bench.table.late())), 1)
        self.assertIsNone(compile_string("x").error)


class HeaderTests(SynchronousTestCase):
    """verify = header_syntax, header_names_ascii, not_blind, header_sender."""

    def run_data(
        self, acl: str, *headers: str, recipients: tuple[str, ...] = ()
    ) -> tuple[str, str]:
        bench = Bench(acl, AclPhase.DATA)
        bench.transaction.headers = [Header(text) for text in headers]
        for recipient in recipients:
            bench.add_recipient(recipient)
        return bench.shown()

    def test_syntax(self) -> None:
        """A field that is no address list is refused, and the log says which."""
        acl = "require verify = header_syntax\naccept"
        self.assertEqual(
            self.run_data(acl, "From: foo <a@b"),
            (
                PROHIBITED,
                "'>' missing at end of address: failing address in \"From:\" header is: foo <a@b",
            ),
        )
        good = 'To: "a, b" <c@d.example>, (x) e@f.example, group: g@h.example, <@r:i@j.example>;'
        self.assertEqual(self.run_data(acl, good), ("", ""))
        self.assertEqual(self.run_data(acl, "To: @")[0], PROHIBITED)
        self.assertEqual(self.run_data(acl, "Subject: @"), ("", ""))
        self.assertEqual(self.run_data(acl, 'From: "a.b".c."d"@e.f'), ("", ""))
        for wrong in ('"a"b@c.d', "a..b@c.d", ".a@b.c", "a[@b.c"):
            self.assertEqual(self.run_data(acl, f"From: {wrong}")[0], PROHIBITED, wrong)

    def test_long_and_nasty(self) -> None:
        """A field of a megabyte is read in one pass."""
        acl = "require verify = header_syntax\naccept"
        for piece in ('"\\', "[", "a.", "(", "\\", "<", "x: "):
            self.run_data(acl, "To: " + piece * 300_000 + "@b.c")

    def test_not_blind(self) -> None:
        """Every recipient has to be shown; local parts keep their case unless told otherwise."""
        acl = "require verify = not_blind\naccept"
        self.assertEqual(
            self.run_data(acl, "To: x@b.c", recipients=("a@b.c",)),
            (PROHIBITED, "bcc recipient detected"),
        )
        self.assertEqual(self.run_data(acl, "Cc: <x@B.c>", recipients=("x@b.C",)), ("", ""))
        self.assertEqual(self.run_data(acl, "Cc: X@b.c", recipients=("x@b.c",))[0], PROHIBITED)
        folded = acl.replace("blind", "blind/case_insensitive")
        self.assertEqual(self.run_data(folded, "Cc: X@b.c", recipients=("x@b.c",)), ("", ""))

    def test_names(self) -> None:
        """A name with an octet outside of ASCII is refused."""
        acl = "require verify = header_names_ascii\naccept"
        self.assertEqual(self.run_data(acl, "Subject: \xe4"), ("", ""))
        self.assertEqual(self.run_data(acl, "S\xfcbject: x")[0], PROHIBITED)

    def test_sender(self) -> None:
        """One verifiable address in Sender:, Reply-To: or From: is enough."""
        acl = "require verify = header_sender\naccept"
        self.assertEqual(
            self.run_data(acl, "From: foo <bad@local.example>"),
            (PROHIBITED, "there is no valid sender in any header line"),
        )
        both = ("From: bad@local.example", "Reply-To: A <alice@local.example>")
        self.assertEqual(self.run_data(acl, *both), ("", ""))


class ListTests(SynchronousTestCase):
    """Conditions that look into lists."""

    def test_lists(self) -> None:
        """Each condition looks at its own subject."""
        for acl, local_part, reply in [
            ("accept domains = other.example : local.example\ndeny", "alice", ""),
            ("deny domains = !local.example : *\naccept", "alice", ""),
            ("accept local_parts = alice : bob\ndeny", "ALICE", ""),
            ("deny local_parts = ^(a)(.*)\nmessage = $1-$2", "alice", "550 a-lice"),
            ("deny local_parts = ^.*[@%!]\nmessage = restricted", '"a%b"', "550 restricted"),
            ("accept recipients = alice@local.example\ndeny", "ALICE", ""),
            ("accept senders = *@y.example\ndeny", "alice", ""),
            ("accept senders = :\ndeny", "alice", PROHIBITED),
            ("accept sender_domains = y.example\ndeny", "alice", ""),
            ("accept hosts = 1.2.3.4 : 192.0.2.0/24\ndeny", "alice", ""),
            ("deny hosts = :\naccept", "alice", ""),
            ("accept authenticated = *\ndeny", "alice", PROHIBITED),
            ("accept encrypted = *\ndeny", "alice", PROHIBITED),
        ]:
            self.assertEqual(Bench(acl).shown(f"{local_part}@local.example")[0], reply, acl)

    def test_null_sender(self) -> None:
        """The null sender matches an empty item."""
        self.assertEqual(Bench("accept senders = :\ndeny", sender="").shown()[0], "")

    def test_authenticated(self) -> None:
        """The authenticator's name is looked up in the list."""
        for items, accepted in [("*", True), ("LOGIN : PLAIN", True), ("!PLAIN : *", False)]:
            bench = Bench(f"accept authenticated = {items}\ndeny")
            bench.connection.origin.authenticator = "PLAIN"
            self.assertEqual(bench.check().accepted, accepted, items)

    def test_domain_data(self) -> None:
        """$domain_data and $local_part_data are what matched."""
        bench = Bench(
            "accept domains = local.example\nlocal_parts = alice\nmessage = $domain_data $local_part_data"
        )
        self.assertEqual(bench.shown()[0], "250 local.example alice")

    def test_article(self) -> None:
        """The article's relay ACL: local recipients and authenticated clients, nobody else."""
        acl = """a:
accept domains = local.example
accept authenticated = *
deny message = "we are not an open relay"
"""
        self.assertTrue(Bench(acl).check().accepted)
        self.assertEqual(Bench(acl).shown("x@remote.example")[0], '550 "we are not an open relay"')
        bench = Bench(acl)
        bench.connection.origin.authenticator = "PLAIN"
        self.assertTrue(bench.check("x@remote.example").accepted)
