"""What the whole process shares: its environment, and what the logs are told."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path
from unittest import mock

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.config.model import Configuration
from mailsrv.config.read import read
from mailsrv.errors import ConfigError
from mailsrv.expansion.scope import Scope
from mailsrv.expansion.template import compile_string
from mailsrv.service.environment import (
    WallClock,
    faults,
    faults_at_start,
    log_settings,
    make_services,
    set_environment,
)


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

    def test_what_only_the_machine_knows(self) -> None:
        """The variables of disks, of the program and of the start have values."""
        folder = self.mktemp()
        os.makedirs(f"{folder}/log")
        path = os.path.abspath(folder)
        configuration = self.configuration(f"spool_directory = {path}\nexim_user = daemon\n")
        scope = Scope(make_services(configuration, WallClock(), lambda name: None))
        for name in ("spool_space", "spool_inodes", "log_space", "log_inodes"):
            value = compile_string(f"${name}").value(scope)
            self.assertRegex(value, "^([0-9]+|-1)$", name)
        kilobytes = int(compile_string("$spool_space").value(scope))
        found = os.statvfs(path)
        self.assertAlmostEqual(kilobytes, found.f_bavail * found.f_frsize // 1024, delta=1 << 20)
        self.assertTrue(compile_string("$exim_path").value(scope).startswith("/"))
        self.assertEqual(compile_string("$initial_cwd").value(scope), os.getcwd())
        self.assertRegex(compile_string("$compile_number $compile_date").value(scope), "^1 [0-9]")
        uid = str(pwd.getpwnam("daemon").pw_uid)
        self.assertEqual(compile_string("$exim_uid").value(scope), uid)

    def test_a_disk_that_is_not_there(self) -> None:
        configuration = self.configuration("spool_directory = /nonexistent\n")
        scope = Scope(make_services(configuration, WallClock(), lambda name: None))
        self.assertEqual(compile_string("$spool_space $log_inodes").value(scope), "-1 -1")

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


class FaultTests(SynchronousTestCase):
    """What reading does not see, and a start refuses: with the line to blame."""

    def test_options_about_logs(self) -> None:
        path = Path(self.mktemp())
        path.write_text(
            "log_selector = +nosuch\nsyslog_facility = nosuch\nlog_file_path = relative/%slog\n"
        )
        found = [str(error) for error in faults(read(str(path)))]
        for line, name in ((1, "log_selector"), (2, "syslog_facility"), (3, "log_file_path")):
            self.assertTrue(
                any(text.startswith(f"line {line} of ") and name in text for text in found), name
            )

    def test_ports(self) -> None:
        path = Path(self.mktemp())
        path.write_text(
            "daemon_smtp_ports = smtp : nosuch\ntls_on_connect_ports = 99999\n"
            "local_interfaces = 127.0.0.1 : nowhere\nextra_local_interfaces = 192.0.2\n"
        )
        found = [str(error) for error in faults_at_start(read(str(path)))]
        wrong = ('"nosuch"', '"99999"', '"nowhere"', '"192.0.2"')
        for line, words in enumerate(wrong, 1):
            self.assertTrue(
                any(text.startswith(f"line {line} of ") and words in text for text in found), words
            )

    def test_what_is_not_there(self) -> None:
        path = Path(self.mktemp())
        path.write_text(
            "workers = -1\nbegin routers\nup:\n driver = accept\n transport = t\n"
            " pass_router = up\nbegin transports\nt:\n driver = appendfile\n file = /x\n"
        )
        workers, router = (str(error) for error in faults(read(str(path))))
        self.assertIn("line 1 of ", workers)
        self.assertIn("workers must be between 1 and", workers)
        self.assertIn("line 6 of ", router)

    def users(self, router: str, transport: str, main: str = "") -> list[str]:
        """Return what is said of the deliveries' users; the router's last line is line 6."""
        path = Path(self.mktemp())
        path.write_text(
            f"{main}\nbegin routers\nr:\n driver = accept\n transport = t\n {router}\n"
            f"begin transports\nt:\n {transport}\n"
        )
        with mock.patch("os.geteuid", return_value=4242):
            return [str(error) for error in faults_at_start(read(str(path)))]

    def test_delivery_as_another_system_user(self) -> None:
        """A start refuses what would defer every message, where that can be told before."""
        box, lmtp = "driver = appendfile\n file = /x", "driver = lmtp\n socket = /x"
        (error,) = self.users("check_local_user", box)
        self.assertIn("line 6 of ", error)
        self.assertIn("deliver_drop_privilege", error)
        (error,) = self.users("user = daemon", box)
        self.assertIn("line 6 of ", error)
        (error,) = self.users("", f"{box}\n user = daemon")
        self.assertIn("(daemon) is not available", error)
        for fine in (
            ("check_local_user", lmtp),
            ("user = daemon", lmtp),
            ("check_local_user\n user = $local_part", box),  # told at each delivery
            ("check_local_user\n verify_only", box),
            ("check_local_user", box, "deliver_drop_privilege"),
        ):
            self.assertEqual(self.users(*fine), [], fine)

    def test_a_good_configuration_has_none(self) -> None:
        path = Path(self.mktemp())
        path.write_text("log_selector = +all -pid\nlog_file_path = : syslog\n")
        self.assertEqual(faults(read(str(path))), [])
