"""An address at the start of its way."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.mail.message import Recipient
from mailsrv.routing.address import begin


class AddressTests(SynchronousTestCase):
    def test_octets_above_ascii(self) -> None:
        """A local part in UTF-8 is the same octets for routers, lists and paths."""
        local_part = "Élan".encode().decode("latin-1")
        address = f"{local_part}@EXAMPLE.test"
        routed = begin(Recipient(address), address)
        self.assertEqual((routed.local_part, routed.domain), (local_part, "example.test"))
