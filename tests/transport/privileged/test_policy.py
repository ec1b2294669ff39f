"""What the privileged process may be asked for."""

from __future__ import annotations

import grp
import os
import pwd

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.routing.routers.accept import Accept
from mailsrv.routing.routers.redirect import Redirect
from mailsrv.transport.privileged.policy import Policy, Refused, Rule, policy_for
from mailsrv.transport.transports.appendfile import Appendfile
from mailsrv.transport.transports.pipe import Pipe
from tests.transport.helpers import WHERE, make

ANYBODY = next(each for each in pwd.getpwall() if each.pw_uid and each.pw_dir.startswith("/"))
OTHER = next(e for e in pwd.getpwall() if e.pw_uid and e.pw_uid != ANYBODY.pw_uid)
OWN = 64321


def router(name: str = "r", **settings: str) -> Accept:
    made = Accept(name, WHERE)
    for key, text in settings.items():
        made.values[key] = Accept.options()[key].type.parse(text, WHERE)
    return made


class PolicyTest(SynchronousTestCase):
    """Policy.account decides."""

    def test_an_account_of_the_rule(self) -> None:
        policy = Policy({"t": Rule((ANYBODY.pw_uid,), "/var/mail/")})
        self.assertEqual(policy.account("t", ANYBODY.pw_name, "/var/mail/x"), ANYBODY)
        self.assertEqual(policy.account("t", str(ANYBODY.pw_uid), "/var/mail/x"), ANYBODY)

    def refused(self, policy: Policy, *request: str) -> None:
        self.assertRaises(Refused, policy.account, *request)

    def test_a_transport_without_a_rule(self) -> None:
        self.refused(Policy({}), "t", ANYBODY.pw_name, "/x")

    def test_a_user_that_the_configuration_does_not_name(self) -> None:
        self.refused(Policy({"t": Rule((ANYBODY.pw_uid,))}), "t", OTHER.pw_name, "/x")

    def test_a_rule_is_for_one_kind_of_work(self) -> None:
        """Who may write files may not run commands, and the other way round."""
        kinds = ("file", "maildir", "command", "list")
        for kind in kinds:
            policy = Policy({"t": Rule(None, kind=kind)})
            for other in kinds:
                if kind == other:
                    policy.account("t", ANYBODY.pw_name, "/x", kind=other)
                else:
                    with self.assertRaises(Refused):
                        policy.account("t", ANYBODY.pw_name, "/x", kind=other)

    def test_root_in_any_form(self) -> None:
        policy = Policy({"t": Rule(None)}, never=())
        for name in ("root", "0", "00", "+0", "-0", " 0", "0x0", "²", ""):
            self.refused(policy, "t", name, "/x")

    def test_never_users(self) -> None:
        policy = Policy({"t": Rule(None)}, never=(ANYBODY.pw_uid,))
        self.refused(policy, "t", ANYBODY.pw_name, "/x")

    def test_an_unknown_user(self) -> None:
        for name in ("no-such-user-here", "99999999999999999999", "a\0b"):
            self.refused(Policy({"t": Rule(None)}), "t", name, "/x")

    def test_a_place_outside(self) -> None:
        policy = Policy({"t": Rule(None, "/var/mail/")})
        for path in ("/etc/passwd", "/var/mail/../../etc/x", "var/mail/x", "/var/mailx", ""):
            self.refused(policy, "t", ANYBODY.pw_name, path)

    def test_the_home_of_the_user(self) -> None:
        policy = Policy({"t": Rule(None, in_home=True)})
        inside = ANYBODY.pw_dir.rstrip("/") + "/Maildir"
        self.assertEqual(policy.account("t", ANYBODY.pw_name, inside), ANYBODY)

    def test_the_end_of_a_path(self) -> None:
        """Whoever may deliver to $home/mbox may not write to $home/.profile."""
        policy = Policy({"t": Rule(None, "/home/", end="/mbox")})
        for path in ("/home/x/mbox", "/home/x//mbox/", "/home/x/mbox/."):
            policy.account("t", ANYBODY.pw_name, path)
        for path in ("/home/x/.profile", "/home/mbox/x", "/home/x/mbox/..", "/home/xmbox"):
            self.refused(policy, "t", ANYBODY.pw_name, path)

    def test_groups(self) -> None:
        """The account's own, and those that the configuration names: not whatever is asked for."""
        own = ANYBODY.pw_gid
        other = next(each.gr_gid for each in grp.getgrall() if each.gr_gid not in (0, own))
        policy = Policy(
            {"t": Rule(None), "named": Rule(None, groups=(other,)), "any": Rule(None, groups=None)}
        )
        member = os.getgrouplist(ANYBODY.pw_name, own)
        for group, gid in (("", own), (str(own), own)):
            self.assertEqual(policy.group("t", group, ANYBODY), gid)
        for rule in ("named", "any"):
            self.assertEqual(policy.group(rule, str(other), ANYBODY), other)
        for group in (str(other), "no-such-group", "-1", "+5", "\u00b2"):
            if group != str(other) or other not in member:
                self.assertRaises(Refused, policy.group, "t", group, ANYBODY)
        for rule in ("named", "any"):
            self.assertRaises(Refused, policy.group, rule, "0", ANYBODY)

    def test_text_and_back(self) -> None:
        policy = Policy(
            {"a": Rule((1, 2), "/x", end="/y", groups=(7,)), "b": Rule(None, in_home=True)}, (0, 7)
        )
        self.assertEqual(Policy.unpacked(policy.packed()), policy)


class PolicyForTest(SynchronousTestCase):
    """policy_for reads a configuration."""

    def test_a_configuration_without_other_users_needs_no_process(self) -> None:
        own = make(Appendfile, file="/var/mail/$local_part")
        self.assertIsNone(policy_for([router(transport="t")], {"t": own}, (), OWN))

    def test_the_transports_user(self) -> None:
        named = make(Appendfile, file="/var/mail/$local_part", user=ANYBODY.pw_name)
        policy = policy_for([], {"t": named}, (5,), OWN)
        assert policy is not None
        self.assertEqual(policy.rules, {"t": Rule((ANYBODY.pw_uid,), "/var/mail/")})
        self.assertEqual(policy.never, (0, 5))

    def test_check_local_user_means_any_account_in_its_home(self) -> None:
        home = make(Appendfile, directory="$home/Maildir", maildir_format="true")
        routers = [router(transport="t", check_local_user="true")]
        policy = policy_for(routers, {"t": home}, (), OWN)
        assert policy is not None
        rule = Rule(None, "", in_home=True, kind="maildir", end="/Maildir")
        self.assertEqual(policy.rules, {"t": rule})

    def test_groups_that_are_named(self) -> None:
        group = grp.getgrall()[1]
        named = make(Appendfile, file="/m/x", user=ANYBODY.pw_name, group=group.gr_name)
        for settings, groups in (
            ({}, (group.gr_gid,)),
            ({"group": group.gr_name}, (group.gr_gid,)),
            ({"group": "$local_part"}, None),
        ):
            policy = policy_for([router(transport="t", **settings)], {"t": named}, (), OWN)
            assert policy is not None
            self.assertEqual(policy.rules["t"].groups, groups)

    def test_the_fixed_end_of_a_path(self) -> None:
        for path, end in (
            ("/h/$local_part/box", "/box"), ("/h/${domain}/$local_part/a/b/", "/a/b"),
            ("/h/$local_part.mbox", ".mbox"), ("/h/$local_part", ""), ("/h/x", "/h/x"),
            ("/h/${lc:$local_part}/box", ""), ("/h/$local_part//box", ""), ("/h/\\x/box", ""),
            ("$home/a/../b", ""),
        ):  # fmt: skip
            transport = make(Appendfile, file=path, user=ANYBODY.pw_name)
            policy = policy_for([], {"t": transport}, (), OWN)
            assert policy is not None
            self.assertEqual(policy.rules["t"].end, end, path)

    def test_routers_users_of_this_transport_alone(self) -> None:
        plain = make(Appendfile, file="/m/$local_part")
        routers = [
            router("a", transport="t", user=ANYBODY.pw_name),
            router("b", transport="other", user=OTHER.pw_name),
        ]
        policy = policy_for(routers, {"t": plain}, (), OWN)
        assert policy is not None
        self.assertEqual(policy.rules["t"].users, (ANYBODY.pw_uid,))


class RedirectionsTest(SynchronousTestCase):
    """policy_for, with redirect routers and pipes."""

    def router(self, **settings: str) -> Redirect:
        made = Redirect("fwd", WHERE)
        made.driver = "redirect"
        for key, text in settings.items():
            made.values[key] = Redirect.options()[key].type.parse(text, WHERE)
        return made

    def test_lists_and_places_of_users(self) -> None:
        forward = self.router(
            file="$home/.forward", check_local_user="true", pipe_transport="p", file_transport="f"
        )
        pipe, file = make(Pipe, "p"), make(Appendfile, "f")
        pipe.driver, file.driver = "pipe", "appendfile"
        policy = policy_for([forward], {"p": pipe, "f": file}, [], OWN)
        assert policy is not None
        self.assertEqual(
            policy.rules,
            {
                "p": Rule(None, kind="command"),
                "f": Rule(None),
                "router fwd": Rule(None, kind="list", end="/.forward"),
                "router fwd include": Rule(None, kind="list"),
            },
        )
        self.assertEqual(Policy.unpacked(policy.packed()), policy)

    def test_what_a_list_may_include(self) -> None:
        settings = {"file": "/lists/$local_part", "user": ANYBODY.pw_name}
        users = (ANYBODY.pw_uid,)
        for more, included in (
            ({"forbid_include": "true"}, None),
            ({"include_directory": "/lists/more"}, Rule(users, "/lists/more/", kind="list")),
        ):
            policy = policy_for([self.router(**settings, **more)], {}, [], OWN)
            assert policy is not None
            self.assertEqual(policy.rules["router fwd"], Rule(users, "/lists/", kind="list"))
            self.assertEqual(policy.rules.get("router fwd include"), included)

    def test_a_command_that_is_fixed(self) -> None:
        for command, below in (
            ("/bin/x $local_part", "/bin/x/"), ("x y", ""), ("/bin/$local_part", ""),
            ('"/bin/x y"', ""),
        ):  # fmt: skip
            pipe = make(Pipe, "p", command=command, user=ANYBODY.pw_name)
            pipe.driver = "pipe"
            policy = policy_for([], {"p": pipe}, [], OWN)
            assert policy is not None
            self.assertEqual(policy.rules, {"p": Rule((ANYBODY.pw_uid,), below, kind="command")})
        policy.account("p", ANYBODY.pw_name, "/any", kind="command")

    def test_a_list_that_is_the_servers_own(self) -> None:
        self.assertIsNone(policy_for([self.router(file="/etc/x")], {}, [], OWN))
        self.assertIsNone(policy_for([self.router(data="x", check_local_user="true")], {}, [], OWN))
