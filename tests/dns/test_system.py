"""resolv.conf is read as resolv.conf(5) says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailsrv.dns.system import SystemDns, read_resolv_conf, reverse_name


class ResolvConfTests(SynchronousTestCase):
    def read(self, text: str) -> SystemDns:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        return read_resolv_conf(path, "box.home.example")

    def test_servers_and_options(self) -> None:
        found = self.read(
            "# c\nsearch example\nnameserver 192.0.2.1 ; x\nnameserver junk\nnameserver ::1\n"
            "options timeout:2 attempts:3 trust-ad\noptions rotate timeout:x\n"
        )
        self.assertEqual(found, SystemDns(("192.0.2.1", "::1"), 2, 3, True, ("example",)))

    def test_only_three_servers_count(self) -> None:
        text = "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6))
        self.assertEqual(len(self.read(text).nameservers), 3)

    def test_missing_or_empty_file_means_this_host(self) -> None:
        self.assertEqual(self.read(""), SystemDns(search=("home.example",)))
        self.assertEqual(read_resolv_conf("/nonexistent", "box"), SystemDns())

    def test_domains_to_be_searched(self) -> None:
        """The last line counts; without one it is this host's domain."""
        for text, found in (
            ("domain a.example b.example", ("a.example",)),
            ("search A.example. b.example .\n", ("a.example", "b.example")),
            ("search a.example\ndomain b.example\n", ("b.example",)),
            ("search\n", ()),
            ("nameserver ::1\n", ("home.example",)),
        ):
            self.assertEqual(self.read(text).search, found)

    def test_reverse_names(self) -> None:
        self.assertEqual(reverse_name("192.0.2.1"), "1.2.0.192.in-addr.arpa")
        self.assertTrue(reverse_name("::1").endswith(".0.0.ip6.arpa"))
