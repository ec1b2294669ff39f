"""Whether the spool's disk has room: looked at ten times a second at most, while it has."""

from __future__ import annotations

import os
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.connection.limits import Disk


class DiskTests(SynchronousTestCase):
    """What the kernel tells, and for how long it holds."""

    def setUp(self) -> None:
        self.looks = 0
        self.blocks = 5
        self.files = 100
        self.disk = Disk()
        self.patch(os, "statvfs", self.statvfs)

    def statvfs(self, folder: str) -> SimpleNamespace:
        """Stand for the kernel."""
        self.looks += 1
        if folder != "/spool":
            raise FileNotFoundError(folder)
        return SimpleNamespace(f_bavail=self.blocks, f_frsize=10, f_files=self.files, f_favail=7)

    def has(self, now: float, space: float = 50, inodes: float = 7) -> bool:
        """Ask."""
        return self.disk.has("/spool", now, space, inodes)

    def test_enough(self) -> None:
        """Octets and inodes both count."""
        self.assertTrue(self.has(100))
        self.assertFalse(self.has(101, space=51))
        self.assertFalse(self.has(102, inodes=8))

    def test_no_inodes(self) -> None:
        """A file system without a number of inodes never runs out of them."""
        self.files = 0
        self.assertTrue(self.has(100, inodes=1000))

    def test_not_told(self) -> None:
        """Where the kernel tells nothing, there is room."""
        self.assertTrue(self.disk.has("/absent", 100, 1e9, 1e9))

    def test_room_holds_for_a_moment(self) -> None:
        """The next look is a tenth of a second later, or when the clock was set back."""
        self.assertTrue(self.has(100))
        self.blocks = 1
        self.assertTrue(self.has(100.09))
        self.assertFalse(self.has(100.11))
        self.assertFalse(self.has(50))
        self.assertEqual(self.looks, 3)

    def test_shortage_does_not_hold(self) -> None:
        """As soon as somebody makes room, mail is taken again."""
        self.blocks = 1
        self.assertFalse(self.has(100))
        self.blocks = 5
        self.assertTrue(self.has(100))

    def test_more_is_asked(self) -> None:
        """A larger message than the last one may not fit."""
        self.assertTrue(self.has(100, space=10))
        self.assertFalse(self.has(100, space=60))
