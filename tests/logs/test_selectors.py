"""``log_selector``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.errors import ConfigError
from mailsrv.logs.selectors import ALL, DEFAULT, parse


class SelectorTests(SynchronousTestCase):
    """Names with signs change the default selection."""

    def test_unset_is_the_default(self) -> None:
        self.assertEqual(parse(""), DEFAULT)
        self.assertNotIn("pid", DEFAULT)

    def test_signs_work_from_left_to_right(self) -> None:
        self.assertEqual(parse("+all -pid"), ALL - {"pid"})
        self.assertEqual(parse(" -all  +subject"), {"subject"})
        self.assertEqual(parse("+subject -retry_defer"), DEFAULT - {"retry_defer"} | {"subject"})

    def test_names_may_touch(self) -> None:
        self.assertEqual(parse("+all-pid+pid"), ALL)

    def test_unknown_name_is_an_error_with_a_hint(self) -> None:
        error = self.assertRaises(ConfigError, parse, "+subjct")
        self.assertIn("did you mean subject?", str(error))

    def test_sign_is_needed(self) -> None:
        self.assertRaises(ConfigError, parse, "subject")
