"""``crypteq``: hashes of today and of yesterday."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.expansion.passwords import check_password, crypt, hash_password


class PasswordTests(SynchronousTestCase):
    def test_argon2(self) -> None:
        """A new hash is Argon2id and fits its password alone."""
        stored = hash_password("secr\xe4t")
        self.assertTrue(stored.startswith("$argon2id$"))
        self.assertTrue(check_password("secr\xe4t", stored))
        self.assertFalse(check_password("secret", stored))
        self.assertFalse(check_password("secret", "$argon2id$broken"))

    def test_crypt(self) -> None:
        """What the system's crypt knows is compared, also with its scheme in braces."""
        for setting in (b"$6$saltsalt$", b"$5$saltsalt$", b"$1$saltsalt$"):
            made = crypt(b"password", setting)
            assert made is not None
            stored = made.decode("ascii")
            self.assertTrue(check_password("password", stored))
            self.assertTrue(check_password("password", f"{{CRYPT}}{stored}"))
            self.assertFalse(check_password("Password", stored))

    def test_no_password(self) -> None:
        """An empty or locked hash fits no password, not even an empty one."""
        for stored in ("", "*", "!", "!!", "x", "*0", "{crypt}", "{md5}", "{sha1}"):
            self.assertFalse(check_password("", stored), stored)
