"""Upper and lower case of octet strings."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.case import lower, upper

ACCENTED = "Élan".encode().decode("latin-1")


class CaseTests(SynchronousTestCase):
    def test_ascii_alone(self) -> None:
        """Octets of UTF-8 stay what they are."""
        self.assertEqual(lower("A-Z " + ACCENTED), "a-z " + ACCENTED)
        self.assertEqual(upper("a-z " + ACCENTED), "A-Z " + ACCENTED.replace("lan", "LAN"))
