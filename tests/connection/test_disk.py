"""How much room the spool's disk has is looked at ten times a second at most."""

from __future__ import annotations

import os
from math import inf
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.limits import Disk


class DiskTests(SynchronousTestCase):
    """What the kernel tells, and for how long it holds."""

    def setUp(self) -> None:
        self.looks = 0
        self.blocks = 5
        self.files = 100
        self.patch(os, "statvfs", self.statvfs)

    def statvfs(self, folder: str) -> SimpleNamespace:
        """Stand for the kernel."""
        self.looks += 1
        if folder != "/spool":
            raise FileNotFoundError(folder)
        return SimpleNamespace(f_bavail=self.blocks, f_frsize=10, f_files=self.files, f_favail=7)

    def test_told(self) -> None:
        """Octets and inodes."""
        self.assertEqual(Disk().free("/spool", 100.0), (50, 7))

    def test_no_inodes(self) -> None:
        """A file system without a number of inodes never runs out of them."""
        self.files = 0
        self.assertEqual(Disk().free("/spool", 100.0), (50, inf))

    def test_not_told(self) -> None:
        """Where the kernel tells nothing, there is room."""
        self.assertEqual(Disk().free("/absent", 100.0), (inf, inf))

    def test_holds_for_a_moment(self) -> None:
        """The next look is a tenth of a second later, or when the clock was set back."""
        disk = Disk()
        disk.free("/spool", 100.0)
        self.blocks = 1
        self.assertEqual(disk.free("/spool", 100.09), (50, 7))
        self.assertEqual(disk.free("/spool", 100.11), (10, 7))
        self.blocks = 2
        self.assertEqual(disk.free("/spool", 50.0), (20, 7))
        self.assertEqual(self.looks, 3)
