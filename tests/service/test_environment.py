"""What the whole process shares: its environment, and what the logs are told."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config.model import Configuration
from mailsrv.config.read import read
from mailsrv.errors import ConfigError
from mailsrv.service.environment import log_settings, set_environment


class EnvironmentTests(SynchronousTestCase):
    def configuration(self, text: str) -> Configuration:
        path = Path(self.mktemp())
        path.write_text(text)
        return read(str(path))

    def environment(self, text: str, **before: str) -> dict[str, str]:
        try:
            with mock.patch.dict(os.environ, before, clear=True):
                set_environment(self.configuration(text).main)
                return dict(os.environ)
        finally:
            time.tzset()

    def test_kept_and_added(self) -> None:
        """Only what keep_environment names is left; add_environment adds to it."""
        before = {"HOME": "/", "LDAP_A": "1", "A_URL": "2", "PATH": "/bin"}
        text = "keep_environment = ^LDAP_ : *_URL : PATH\nadd_environment = X=1 : Y=a=b\n"
        expected = {"LDAP_A": "1", "A_URL": "2", "PATH": "/bin", "X": "1", "Y": "a=b"}
        self.assertEqual(self.environment(text, **before), expected)
        self.assertEqual(self.environment("", **before), {})

    def test_time_zone(self) -> None:
        """``timezone`` is TZ; an empty one removes it; unset leaves it."""
        self.assertEqual(self.environment("timezone = UTC\n", TZ="CET"), {"TZ": "UTC"})
        self.assertEqual(self.environment('timezone = ""\n', TZ="CET"), {})
        self.assertEqual(self.environment("", TZ="CET"), {"TZ": "CET"})

    def test_malformed(self) -> None:
        self.assertRaises(ConfigError, self.environment, "add_environment = X\n")


@pytest.mark.parametrize("line", ["", "log_file_path = :syslog", "log_file_path = syslog :"])
def test_log_files_are_in_the_same_place_by_default(line: str, tmp_path: Path) -> None:
    """An empty item of log_file_path stands for what it is when it is not set."""
    from mailsrv.logs.files import destinations

    path = tmp_path / "conf"
    path.write_text(f"spool_directory = /var/spool/x\n{line}\n")
    settings = log_settings(read(str(path)))
    found, _ = destinations(settings.log_file_path, settings.spool_directory)
    assert found == "/var/spool/x/log/%slog"
