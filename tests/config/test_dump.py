"""``-bP``: the lines were compared with those of Exim 4.96."""

from __future__ import annotations

import os

from mailsrv.config.dump import Dump, NotFound, NotPermitted
from tests.config.files import FileTestCase

TEXT = """\
AA = 5
AB = x  y
queue_only
recipients_max = 0x10
auto_thaw = 90m
check_spool_space = 5
hide smtp_banner = secret
domainlist aa = b : AA
hostlist aa = c : +bb
hide hostlist bb = d
begin routers
r1:
  driver = accept
  transport = t1
  condition = ${if eq{a}{b}}
begin transports
t1:
  driver = lmtp
  hide socket = /x
t2:
  driver = lmtp
  socket = /y
"""


class DumpTests(FileTestCase):
    def shown(self, *words: str, admin: bool = True, names: bool = True) -> list[str]:
        return list(Dump(self.read(TEXT), admin=admin, names=names).show(words))

    def test_single_options(self) -> None:
        for name, line in {
            "queue_only": "queue_only",
            "split_spool_directory": "no_split_spool_directory",
            "recipients_max": "recipients_max = 16",
            "auto_thaw": "auto_thaw = 1h30m",
            "check_spool_space": "check_spool_space = 5K",
            "bounce_return_size_limit": "bounce_return_size_limit = 100K",
            "host_lookup": "host_lookup = ",
            "never_users": "never_users =",
            "queue_only_load": "queue_only_load =",
            "delay_warning": "delay_warning = 1d",
            "message_size_limit": "message_size_limit = 50M",
            "local_interfaces": "local_interfaces = <; ::0 ; 0.0.0.0",
            "ignore_bounce_errors_after": "ignore_bounce_errors_after = 10w",
            "smtp_accept_max": "smtp_accept_max = 0",
        }.items():
            self.assertEqual(self.shown(name), [line])

    def test_all_options_are_sorted_with_ours_at_the_end(self) -> None:
        lines = self.shown()
        at = lines.index("# mailsrv's own")
        names = [line.split(" =")[0].removeprefix("no_") for line in lines[:at]]
        self.assertEqual(names, sorted(names))
        self.assertIn(f"workers = {len(os.sched_getaffinity(0))}", lines[at:])
        self.assertEqual(self.shown("all"), lines)

    def test_hidden_values_are_for_administrators(self) -> None:
        hidden = "<value not displayable>"
        self.assertEqual(self.shown("smtp_banner", admin=False), [f"smtp_banner = {hidden}"])
        self.assertEqual(self.shown("smtp_banner"), ["smtp_banner = secret"])
        self.assertEqual(self.shown("+bb", admin=False), [f"hostlist bb = {hidden}"])

    def test_hide_counts_for_all_instances_of_a_driver(self) -> None:
        lines = self.shown("transport", "t2", admin=False)
        self.assertIn("socket = <value not displayable>", lines)
        self.assertIn("socket = /y", self.shown("transport", "t2"))

    def test_named_lists_of_every_kind(self) -> None:
        self.assertEqual(self.shown("+aa"), ["domainlist aa = b : 5", "hostlist aa = c : +bb"])

    def test_macros(self) -> None:
        self.assertEqual(self.shown("macros")[-2:], ["AA=5", "AB=x  y"])
        self.assertEqual(self.shown("macro_list")[-2:], ["AA", "AB"])
        self.assertEqual(self.shown("macro", "AB"), ["AB=x  y"])

    def test_drivers(self) -> None:
        self.assertEqual(self.shown("transport_list"), ["t1", "t2"])
        lines = self.shown("router", "r1")
        for line in ("driver = accept", "transport = t1", "condition = ${if eq{a}{b}}", "more"):
            self.assertIn(line, lines)
        self.assertEqual(self.shown("routers"), ["", "r1 router:", *lines])
        self.assertEqual(self.shown("authenticators"), [])

    def test_the_file_and_the_lines_as_they_were_read(self) -> None:
        path = f"{self.folder}/exim.conf"
        self.assertEqual(self.shown("config_file"), [path])
        self.assertEqual(self.shown("configure_file"), [path])
        lines = self.shown("config")
        self.assertEqual(
            lines[:4], ["# Exim Configuration (4.96)", f'# 1 "{path}"', "AA = 5", "AB = x y"]
        )
        self.assertIn("domainlist aa = b : 5", lines)
        at = lines.index("begin routers")
        self.assertEqual(
            lines[at - 1 : at + 4], ["", "begin routers", "", "  r1:", "    driver = accept"]
        )
        bare = self.shown("config", names=False)
        at = bare.index("begin routers")
        self.assertEqual(bare[at : at + 3], ["begin routers", "r1:", "driver = accept"])

    def test_the_lines_for_others_than_administrators(self) -> None:
        lines = self.shown("config", admin=False)
        hidden = "<value not displayable>"
        self.assertIn(f"AA = {hidden}", lines)
        self.assertIn(f"hide smtp_banner = {hidden}", lines)
        self.assertIn(f"hide hostlist bb = {hidden}", lines)
        self.assertIn(f"    hide socket = {hidden}", lines)
        self.assertFalse(any("secret" in line or "/x" in line for line in lines))
        for words in (("macros",), ("macro_list",), ("macro", "AA")):
            self.assertRaises(NotPermitted, self.shown, *words, admin=False)

    def test_values_alone(self) -> None:
        self.assertEqual(self.shown("recipients_max", names=False), ["16"])
        self.assertEqual(self.shown("queue_only", names=False), ["queue_only"])
        self.assertEqual(self.shown("never_users", names=False), [""])
        self.assertEqual(self.shown("macro", "AA", names=False), ["5"])
        self.assertEqual(self.shown("+aa", names=False), ["b : 5", "c : +bb"])

    def test_what_is_not_there(self) -> None:
        for words, problem in {
            ("nosuch",): "nosuch is not a known option",
            ("no_queue_only",): "no_queue_only is not a known option",
            ("oracle_servers",): "oracle_servers is known to Exim, not to mailsrv",
            ("router", "r9"): "router r9 not found",
            ("macro", "ZZ"): "macro ZZ not found",
            ("+zz",): 'no address, domain, host, or local part list called "zz" exists',
        }.items():
            with self.assertRaises(NotFound) as caught:
                self.shown(*words)
            self.assertEqual(str(caught.exception), problem)
