"""Conditions and controls in ACLs whose phase cannot have them, as exim4 4.96 said it."""

from __future__ import annotations

from tests.commands.checks.case import CheckTestCase

_EVERYWHERE = ("condition = no", "acl = b", "set acl_c0 = x", "delay = 1s", "continue = x")
_RECIPIENT = ("domains = x", "local_parts = x", "verify = recipient")
_BODY = ("verify = header_syntax", "verify = not_blind", "verify = header_sender")
_SENDER = ("senders = q@q", "sender_domains = q", "verify = sender")
_MESSAGE = ("control = freeze", "add_header = X: y", "control = queue_only")
_PEER = ("hosts = 10.0.0.1", "authenticated = *", "encrypted = *")
_FORBIDDEN = {
    "connect": (*_RECIPIENT, *_BODY, *_SENDER, *_MESSAGE, "authenticated = *", "recipients = x"),
    "helo": (*_RECIPIENT, *_BODY, *_SENDER, *_MESSAGE, "authenticated = *", "encrypted = *"),
    "mail": (*_RECIPIENT, *_BODY, "recipients = x", "control = caseful_local_part"),
    "rcpt": (*_BODY, "control = allow_auth_unadvertised"),
    "data": (*_RECIPIENT, "recipients = x", "control = submission", "queue = x"),
    "quit": (*_RECIPIENT, "recipients = x", *_MESSAGE),
    "not_smtp": (*_RECIPIENT, *_PEER, "control = enforce_sync", "queue = x"),
}
_ALLOWED = {
    "connect": ("hosts = 10.0.0.1", "encrypted = *", "dnslists = x.example", "queue = x"),
    "helo": ("hosts = 10.0.0.1", "verify = helo", "control = no_pipelining"),
    "mail": (*_PEER, *_SENDER, *_MESSAGE, "control = no_pipelining", "control = submission"),
    "rcpt": (*_PEER, *_SENDER, *_RECIPIENT, *_MESSAGE, "recipients = x"),
    "data": (*_PEER, *_SENDER, *_BODY, *_MESSAGE, "control = no_pipelining"),
    "quit": (*_PEER, "control = no_pipelining"),
    "not_smtp": (*_SENDER, *_BODY, *_MESSAGE),
}


class PhaseTests(CheckTestCase):
    def wrong(self, phase: str, item: str) -> bool:
        """Tell whether an item is found in the ACL of a phase."""
        option = "acl_not_smtp" if phase == "not_smtp" else f"acl_smtp_{phase}"
        found = self.found(f"{option} = a\nbegin acl\nb:\n accept\na:\n warn {item}\n accept\n")
        return any(each.startswith("6: ") and "cannot be used" in each for each in found)

    def test_each_phase(self) -> None:
        for expected, table in ((True, _FORBIDDEN), (False, _ALLOWED)):
            for phase, items in table.items():
                more = () if expected else _EVERYWHERE
                wrong = [each for each in (*items, *more) if self.wrong(phase, each) != expected]
                self.assertEqual(wrong, [], phase)

    def test_acls_of_acls(self) -> None:
        """The phase of an ACL is that of all that call it, in strings, too."""
        for call in (
            "acl = b",
            "!acl = b $sender_host_address",
            "condition = ${if acl{{b}}}",
            "message = ${acl{b}}",
            "acl = ${if eq{$received_port}{25}{b}}",
        ):
            found = self.found(
                f"acl_smtp_helo = a\nbegin acl\na:\n deny {call}\nb:\n deny domains = x\n"
            )
            self.assertTrue(any("cannot be used in the EHLO" in each for each in found), call)
